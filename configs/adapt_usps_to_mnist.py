"""DD adaptation: LeNets trained on USPS learn MNIST from 100 images (Wang et al. 2018: 67.5 ± 3.9 -> 92.7 ± 1.4 %).

python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/pool_usps
python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/pool_usps_held_out --config.seed=1
python distill_dataset.py --config=configs/adapt_usps_to_mnist.py --workdir=runs/adapt_usps_to_mnist
python eval.py --distilled=runs/adapt_usps_to_mnist
"""

from configs._families import bptt


def get_config():
    config = bptt.get_config("mnist", "random", steps=10)
    return bptt.adapt(config, "runs/pool_usps", "runs/pool_usps_held_out")
