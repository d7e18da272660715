"""DM, cifar10, 50 images per class.

python distill_dataset.py --config=configs/dm_cifar10_ipc50.py --workdir=runs/dm_cifar10_ipc50
Paper: 63.0 ± 0.4 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dm("cifar10", 50)
