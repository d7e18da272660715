"""RCIG, fashion_mnist, 50 images per class.

python distill_dataset.py --config=configs/rcig_fashion_mnist_ipc50.py --workdir=runs/fashion_mnist_ipc50
Paper: 90.2 ± 0.2 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.grey("fashion_mnist", 50, 5000)
