"""DD, MNIST, 10 images for one fixed LeNet (Wang et al. 2018, Table 1: 12.9 -> 93.8 %).

python distill_dataset.py --config=configs/dd_mnist_fixed_10.py --workdir=runs/dd_mnist_fixed_10
python eval.py --distilled=runs/dd_mnist_fixed_10
"""

from configs._families import bptt


def get_config():
    return bptt.get_config("mnist", "fixed", steps=1)
