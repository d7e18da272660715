"""SLDD, CIFAR-10, 100 images with learned labels for one fixed AlexCifarNet (Sucholutsky & Schonlau 2019: 60 %).

python distill_dataset.py --config=configs/sldd_cifar10_fixed_100.py --workdir=runs/sldd_cifar10_fixed_100
python eval.py --distilled=runs/sldd_cifar10_fixed_100
Ours: not run yet.
Paper: 60 %.
"""

from configs._families import bptt


def get_config():
    return bptt.cifar10(bptt.soft("cifar10", "fixed", steps=10))
