"""RCIG, imagewoof, 10 images per class.

python distill_dataset.py --config=configs/rcig_imagewoof_ipc10.py --workdir=runs/imagewoof_ipc10
Paper: 42.2 ± 0.7 (recalled, low confidence) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.large("imagewoof", 10, 3000)
