"""DD adaptation: LeNets trained on USPS learn MNIST from 100 images (Wang et al. 2018: 67.5 ± 3.9 -> 92.7 ± 1.4 %).

python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/pool_usps
python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/pool_usps_held_out --config.seed=1
python distill_dataset.py --config=configs/adapt_usps_to_mnist.py --workdir=runs/adapt_usps_to_mnist
python eval.py --distilled=runs/adapt_usps_to_mnist
Ours, in half an hour on one CPU core: 92.5 ± 1.6 % of twenty networks never met, 70.5 % before, 85.6 ± 2.1 % after
three passes over 100 random real images; a pool of 360 (pretrain.num_networks=360, group=10, batch_size=128,
learning_rate=1e-3, num_steps=300, halve_every=100), num_steps=8000, method.num_networks=1, batch_size=512,
halve_every=2000. The pool's size is what counts (160 networks, 3,000 steps: 91.4 %; 60, 1,400: 89.0 %); the paper's has
2,000.
"""

from configs._families import bptt


def get_config():
    config = bptt.get_config("mnist", "random", steps=10)
    return bptt.adapt(config, "runs/pool_usps", "runs/pool_usps_held_out")
