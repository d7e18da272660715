"""RCIG, cifar100, 50 images per class.

python distill_dataset.py --config=configs/rcig_cifar100_ipc50.py --workdir=runs/cifar100_ipc50
Paper: 46.7 ± 0.3 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.many("cifar100", 50, 3000)
