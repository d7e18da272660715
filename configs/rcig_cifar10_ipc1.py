"""RCIG, cifar10, 1 image per class.

python distill_dataset.py --config=configs/rcig_cifar10_ipc1.py --workdir=runs/cifar10_ipc1
Paper: 53.9 ± 1.0 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.get_config("cifar10", 1, 15000)
