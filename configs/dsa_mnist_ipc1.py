"""DSA, mnist, 1 image per class.

python distill_dataset.py --config=configs/dsa_mnist_ipc1.py --workdir=runs/dsa_mnist_ipc1
Paper: 88.7 ± 0.6 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dsa("mnist", 1)
