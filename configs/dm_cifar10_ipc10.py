"""DM, cifar10, 10 images per class.

python distill_dataset.py --config=configs/dm_cifar10_ipc10.py --workdir=runs/dm_cifar10_ipc10
Paper: 48.9 ± 0.6 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dm("cifar10", 10)
