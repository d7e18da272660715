"""Remember the Past, CIFAR-10, 10 images per class, plain images (Deng & Russakovsky 2022: 62.4 ± 0.4 %).

python distill_dataset.py --config=configs/rtp_cifar10_ipc10.py --workdir=runs/rtp_cifar10_ipc10
python eval.py --distilled=runs/rtp_cifar10_ipc10
Ours: not run yet.
"""

from configs._families import rat_bptt


def get_config():
    return rat_bptt.remember_the_past("cifar10", 10)
