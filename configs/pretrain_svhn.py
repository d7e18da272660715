"""A pool of LeNets trained on SVHN (Wang et al. 2018): what adaptation to MNIST in colour starts from.

python -m rcig.pretrain --config=configs/pretrain_svhn.py --workdir=runs/pool_svhn
"""

from configs._families import bptt


def get_config():
    return bptt.pool("svhn_cropped", num_steps=4680, halve_every=1440)  # 65 and 20 epochs of 72 batches
