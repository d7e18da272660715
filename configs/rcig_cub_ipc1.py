"""RCIG, caltech_birds2011, 1 image per class.

python distill_dataset.py --config=configs/rcig_cub_ipc1.py --workdir=runs/cub_ipc1
Paper: 12.1 ± 0.2 (recalled, low confidence) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.get_config("caltech_birds2011", 1, 10000)
