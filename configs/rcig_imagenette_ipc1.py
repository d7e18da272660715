"""RCIG, imagenette, 1 image per class.

python distill_dataset.py --config=configs/rcig_imagenette_ipc1.py --workdir=runs/imagenette_ipc1
Paper: 53.0 ± 0.9 (recalled, low confidence) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.large("imagenette", 1, 3000)
