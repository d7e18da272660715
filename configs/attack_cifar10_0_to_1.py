"""DD attack: after one gradient step on 10 images well-trained AlexCifarNets take planes for cars (Wang et al. 2018).

python -m rcig.pretrain --config=configs/pretrain_cifar10.py --workdir=runs/pool_cifar10
python -m rcig.pretrain --config=configs/pretrain_cifar10.py --workdir=runs/pool_cifar10_held_out --config.seed=1
python distill_dataset.py --config=configs/attack_cifar10_0_to_1.py --workdir=runs/attack_cifar10_0_to_1
python eval.py --distilled=runs/attack_cifar10_0_to_1
The paper shows curves only; the share of planes taken for cars should be at least 0.5 on networks never met.
Ours: not run yet.
"""

from configs._families import bptt


def get_config():
    config = bptt.cifar10(bptt.get_config("cifar10", "random", steps=1))
    config = bptt.adapt(config, "runs/pool_cifar10", "runs/pool_cifar10_held_out")
    return bptt.attack(config, attack_class=0, target_class=1)
