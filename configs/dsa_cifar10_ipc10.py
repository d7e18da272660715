"""DSA, cifar10, 10 images per class.

python distill_dataset.py --config=configs/dsa_cifar10_ipc10.py --workdir=runs/dsa_cifar10_ipc10
Paper: 52.1 ± 0.5 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dsa("cifar10", 10)
