"""DSA, cifar10, 50 images per class.

python distill_dataset.py --config=configs/dsa_cifar10_ipc50.py --workdir=runs/dsa_cifar10_ipc50
Paper: 60.6 ± 0.5 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dsa("cifar10", 50)
