"""DSA, mnist, 10 images per class.

python distill_dataset.py --config=configs/dsa_mnist_ipc10.py --workdir=runs/dsa_mnist_ipc10
Paper: 97.8 ± 0.1 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dsa("mnist", 10)
