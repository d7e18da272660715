"""RCIG, fashion_mnist, 1 image per class.

python distill_dataset.py --config=configs/rcig_fashion_mnist_ipc1.py --workdir=runs/fashion_mnist_ipc1
Paper: 79.8 ± 1.1 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.grey("fashion_mnist", 1, 10000)
