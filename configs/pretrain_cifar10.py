"""A pool of AlexCifarNets trained on CIFAR-10 (Wang et al. 2018): what the attack starts from.

python -m rcig.pretrain --config=configs/pretrain_cifar10.py --workdir=runs/pool_cifar10
"""

from configs._families import bptt


def get_config():
    config = bptt.cifar10(bptt.pool("cifar10", num_steps=2450, halve_every=343))  # 50 and 7 epochs of 49 batches
    config.pretrain.update(learning_rate=1e-3, augmentation=config.method.augmentation)
    return config
