"""RCIG, mnist, 10 images per class.

python distill_dataset.py --config=configs/rcig_mnist_ipc10.py --workdir=runs/mnist_ipc10
Paper: 98.9 ± 0.0 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.grey("mnist", 10, 10000)
