"""RCIG, caltech_birds2011, 10 images per class.

python distill_dataset.py --config=configs/rcig_cub_ipc10.py --workdir=runs/cub_ipc10
Paper: 15.7 ± 0.3 (recalled, low confidence) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.get_config("caltech_birds2011", 10, 5000)
