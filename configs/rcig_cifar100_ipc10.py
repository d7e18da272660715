"""RCIG, cifar100, 10 images per class.

python distill_dataset.py --config=configs/rcig_cifar100_ipc10.py --workdir=runs/cifar100_ipc10
Paper: 44.1 ± 0.4 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.get_config("cifar100", 10, 5000)
