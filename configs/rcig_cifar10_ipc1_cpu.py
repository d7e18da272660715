"""RCIG, cifar10, one image per class, for 2 CPU cores.

python distill_dataset.py --config=configs/rcig_cifar10_ipc1_cpu.py --workdir=runs/cifar10
python eval.py --distilled=runs/cifar10 --config.eval.model.width=128
"""

from configs._families import rcig


def get_config():
    return rcig.narrow(rcig.get_config("cifar10", 1, 2000))
