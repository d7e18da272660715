"""RCIG, imagenet_resized/64x64, 1 image per class.

python distill_dataset.py --config=configs/rcig_imagenet64_ipc1.py --workdir=runs/imagenet64_ipc1
Paper: 15.6 ± 0.2 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.deep_many("imagenet_resized/64x64", 1, 3000)
