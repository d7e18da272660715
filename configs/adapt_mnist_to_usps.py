"""DD adaptation: LeNets trained on MNIST learn USPS from 100 images (Wang et al. 2018: 90.4 ± 3.0 -> 95.4 ± 1.8 %).

python -m rcig.pretrain --config=configs/pretrain_mnist.py --workdir=runs/pool_mnist
python -m rcig.pretrain --config=configs/pretrain_mnist.py --workdir=runs/pool_mnist_held_out --config.seed=1
python distill_dataset.py --config=configs/adapt_mnist_to_usps.py --workdir=runs/adapt_mnist_to_usps
python eval.py --distilled=runs/adapt_mnist_to_usps
Ours in four minutes on one CPU core: 90.0 ± 1.9 % of 20 networks never met, 83.2 % before, 90.3 ± 0.7 % after up to
thirty passes over 100 random real images, 89.7 ± 0.8 % after three; a pool of 60
(pretrain.num_networks=60, group=10, batch_size=128, learning_rate=1e-3,
num_steps=300, halve_every=100), num_steps=1000, method.num_networks=1, batch_size=512, halve_every=250. On training
digits it is 95 %. The paper's copy is split otherwise, 7438 and 1860: there LeNets of MNIST know 90 % before.
"""

from configs._families import bptt


def get_config():
    config = bptt.get_config("usps", "random", steps=10, num_steps=3200)  # 400 epochs of 8 batches
    return bptt.adapt(config, "runs/pool_mnist", "runs/pool_mnist_held_out")
