"""RaT-BPTT, CIFAR-10, 10 images per class (Feng et al. 2024: 69.4 ± 0.4 %).

python distill_dataset.py --config=configs/rat_cifar10_ipc10.py --workdir=runs/rat_cifar10_ipc10
python eval.py --distilled=runs/rat_cifar10_ipc10
Ours: not run yet.
"""

from configs._families import rat_bptt


def get_config():
    return rat_bptt.get_config("cifar10", 10)
