"""SLDD, MNIST, 10 images with learned labels for one fixed LeNet (Sucholutsky & Schonlau 2019: 96 %).

python distill_dataset.py --config=configs/sldd_mnist_fixed_10.py --workdir=runs/sldd_mnist_fixed_10
python eval.py --distilled=runs/sldd_mnist_fixed_10
"""

from configs._families import bptt


def get_config():
    return bptt.soft("mnist", "fixed", steps=1, num_steps=20650, inner_rate=0.01)
