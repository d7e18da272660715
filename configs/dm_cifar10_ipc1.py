"""DM, cifar10, 1 image per class.

python distill_dataset.py --config=configs/dm_cifar10_ipc1.py --workdir=runs/dm_cifar10_ipc1
Paper: 26.0 ± 0.8 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dm("cifar10", 1)
