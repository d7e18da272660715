"""RDED on MNIST, ten images per class, one crop an image as published for small images.

python distill_dataset.py --config=configs/rded_mnist.py --workdir=runs/rded_mnist
python eval.py --distilled=runs/rded_mnist
Paper: none. Ours, one seed: see configs/lpld_mnist.py, whose teacher it can share.
"""

from configs._families import lpld


def get_config():
    return lpld.rded(lpld.mnist(10))
