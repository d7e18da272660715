"""DD adaptation: LeNets trained on MNIST learn USPS from 100 images (Wang et al. 2018: 90.4 ± 3.0 -> 95.4 ± 1.8 %).

python -m rcig.pretrain --config=configs/pretrain_mnist.py --workdir=runs/pool_mnist
python -m rcig.pretrain --config=configs/pretrain_mnist.py --workdir=runs/pool_mnist_held_out --config.seed=1
python distill_dataset.py --config=configs/adapt_mnist_to_usps.py --workdir=runs/adapt_mnist_to_usps
python eval.py --distilled=runs/adapt_mnist_to_usps
"""

from configs._families import bptt


def get_config():
    config = bptt.get_config("usps", "random", steps=10)
    return bptt.adapt(config, "runs/pool_mnist", "runs/pool_mnist_held_out")
