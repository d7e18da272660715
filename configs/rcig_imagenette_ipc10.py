"""RCIG, imagenette, 10 images per class.

python distill_dataset.py --config=configs/rcig_imagenette_ipc10.py --workdir=runs/imagenette_ipc10
Paper: 65.0 ± 0.7 (recalled, low confidence) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.large("imagenette", 10, 3000)
