"""A pool of LeNets trained on USPS (Wang et al. 2018): what adaptation to another data set starts from.

python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/pool_usps
python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/pool_usps_held_out --config.seed=1
"""

from configs._families import bptt


def get_config():
    return bptt.pool("usps", num_steps=1040, halve_every=320)
