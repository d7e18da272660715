"""RCIG, mnist, 1 image per class.

python distill_dataset.py --config=configs/rcig_mnist_ipc1.py --workdir=runs/mnist_ipc1
Paper: 94.7 ± 0.5 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.grey("mnist", 1, 10000)
