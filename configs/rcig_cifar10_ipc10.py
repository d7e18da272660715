"""RCIG, cifar10, 10 images per class.

python distill_dataset.py --config=configs/rcig_cifar10_ipc10.py --workdir=runs/cifar10_ipc10
Paper: 69.1 ± 0.4 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.get_config("cifar10", 10, 10000)
