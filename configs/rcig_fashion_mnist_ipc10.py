"""RCIG, fashion_mnist, 10 images per class.

python distill_dataset.py --config=configs/rcig_fashion_mnist_ipc10.py --workdir=runs/fashion_mnist_ipc10
Paper: 88.5 ± 0.2 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.grey("fashion_mnist", 10, 10000)
