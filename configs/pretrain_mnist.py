"""A pool of LeNets trained on MNIST (Wang et al. 2018): what adaptation to another data set starts from.

python -m rcig.pretrain --config=configs/pretrain_mnist.py --workdir=runs/pool_mnist
python -m rcig.pretrain --config=configs/pretrain_mnist.py --workdir=runs/pool_mnist_held_out --config.seed=1
"""

from configs._families import bptt


def get_config():
    return bptt.pool("mnist", num_steps=2360, halve_every=1180)
