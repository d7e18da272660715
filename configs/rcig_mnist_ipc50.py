"""RCIG, mnist, 50 images per class.

python distill_dataset.py --config=configs/rcig_mnist_ipc50.py --workdir=runs/mnist_ipc50
Paper: 99.2 ± 0.0 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.grey("mnist", 50, 5000)
