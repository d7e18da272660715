"""RCIG, imagewoof, 1 image per class.

python distill_dataset.py --config=configs/rcig_imagewoof_ipc1.py --workdir=runs/imagewoof_ipc1
Paper: 33.9 ± 0.6 (recalled, low confidence) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.large("imagewoof", 1, 3000)
