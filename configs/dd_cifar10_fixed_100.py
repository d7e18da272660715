"""DD, CIFAR-10, 100 images for one fixed AlexCifarNet (Wang et al. 2018, Table 1: 8.8 -> 54.0 %).

python distill_dataset.py --config=configs/dd_cifar10_fixed_100.py --workdir=runs/dd_cifar10_fixed_100
python eval.py --distilled=runs/dd_cifar10_fixed_100
Ours: not run yet.
Paper: 54.0 %.
"""

from configs._families import bptt


def get_config():
    return bptt.cifar10(bptt.get_config("cifar10", "fixed", steps=10))
