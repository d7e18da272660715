"""DSA, cifar10, 1 image per class.

python distill_dataset.py --config=configs/dsa_cifar10_ipc1.py --workdir=runs/dsa_cifar10_ipc1
Paper: 28.8 ± 0.7 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dsa("cifar10", 1)
