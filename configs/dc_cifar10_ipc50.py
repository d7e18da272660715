"""DC, cifar10, 50 images per class.

python distill_dataset.py --config=configs/dc_cifar10_ipc50.py --workdir=runs/dc_cifar10_ipc50
Paper: 53.9 ± 0.5 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dc("cifar10", 50)
