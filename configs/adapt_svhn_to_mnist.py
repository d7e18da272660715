"""DD adaptation: LeNets trained on SVHN learn MNIST from 100 images (Wang et al. 2018: 51.6 ± 2.8 -> 85.2 ± 4.7 %).

python -m rcig.pretrain --config=configs/pretrain_svhn.py --workdir=runs/pool_svhn
python -m rcig.pretrain --config=configs/pretrain_svhn.py --workdir=runs/pool_svhn_held_out --config.seed=1
python distill_dataset.py --config=configs/adapt_svhn_to_mnist.py --workdir=runs/adapt_svhn_to_mnist
python eval.py --distilled=runs/adapt_svhn_to_mnist
MNIST's grey values stand in three channels; LeNet pads its 28 pixels to SVHN's 32, so the weights fit.
Ours: not run yet.
"""

from configs._families import bptt


def get_config():
    return bptt.adapt(bptt.get_config("mnist_rgb", "random", steps=10), "runs/pool_svhn", "runs/pool_svhn_held_out")
