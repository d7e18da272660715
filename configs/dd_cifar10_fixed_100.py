"""DD, CIFAR-10, 100 images for one fixed AlexCifarNet (Wang et al. 2018, Table 1: 8.8 -> 54.0 %).

python distill_dataset.py --config=configs/dd_cifar10_fixed_100.py --workdir=runs/dd_cifar10_fixed_100
python eval.py --distilled=runs/dd_cifar10_fixed_100
Ours after 300 steps, 5.8 s each on one CPU core: 38.4 % (9.9 untrained; random real in three passes 23.2); on a
train batch 17 % after 100, 31 % after 200, 35 % after 300, still rising.
Paper: 54.0 %.
"""

from configs._families import bptt


def get_config():
    return bptt.cifar10(bptt.get_config("cifar10", "fixed", steps=10))
