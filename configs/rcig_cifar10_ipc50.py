"""RCIG, cifar10, 50 images per class.

python distill_dataset.py --config=configs/rcig_cifar10_ipc50.py --workdir=runs/cifar10_ipc50
Paper: 73.5 ± 0.3 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.get_config("cifar10", 50, 5000)
