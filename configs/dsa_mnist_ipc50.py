"""DSA, mnist, 50 images per class.

python distill_dataset.py --config=configs/dsa_mnist_ipc50.py --workdir=runs/dsa_mnist_ipc50
Paper: 99.2 ± 0.1 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dsa("mnist", 50)
