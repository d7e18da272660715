"""LPLD on MNIST, ten images per class, with a ResNet of three stages.

python distill_dataset.py --config=configs/lpld_mnist.py --workdir=runs/lpld_mnist
python eval.py --distilled=runs/lpld_mnist
Paper: none. Ours: not run yet.
"""

from configs._families import lpld


def get_config():
    return lpld.mnist(10)
