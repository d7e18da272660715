"""SLDD, CIFAR-10, 100 images with learned labels for any AlexCifarNet (Sucholutsky & Schonlau 2019: 39.8 %).

python distill_dataset.py --config=configs/sldd_cifar10_random_100.py --workdir=runs/sldd_cifar10_random_100
python eval.py --distilled=runs/sldd_cifar10_random_100 --config.eval.num_networks=200
Ours: not run yet.
Paper: 39.82 ± 0.83 (recalled) %.
"""

from configs._families import bptt


def get_config():
    return bptt.cifar10(bptt.soft("cifar10", "random", steps=10))
