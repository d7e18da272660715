"""RCIG, cifar100, 1 image per class.

python distill_dataset.py --config=configs/rcig_cifar100_ipc1.py --workdir=runs/cifar100_ipc1
Paper: 39.3 ± 0.4 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.get_config("cifar100", 1, 10000)
