"""DC, cifar10, 1 image per class.

python distill_dataset.py --config=configs/dc_cifar10_ipc1.py --workdir=runs/dc_cifar10_ipc1
Paper: 28.3 ± 0.5 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dc("cifar10", 1)
