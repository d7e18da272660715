"""Remember the Past with memory addressing, CIFAR-10: 16 bases in the memory of one image per class (66.4 ± 0.4 %).

python distill_dataset.py --config=configs/rtp_cifar10_bases_budget1.py --workdir=runs/rtp_cifar10_bases_budget1
python eval.py --distilled=runs/rtp_cifar10_bases_budget1
Deng & Russakovsky 2022: 16 bases of 16x16 pixels leave coefficients for 115 images of each class. Ours: not run yet.
"""

from configs._families import rat_bptt


def get_config():
    return rat_bptt.remember_the_past("cifar10", 115, bases=16)
