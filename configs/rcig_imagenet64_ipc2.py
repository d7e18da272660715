"""RCIG, imagenet_resized/64x64, 2 images per class.

python distill_dataset.py --config=configs/rcig_imagenet64_ipc2.py --workdir=runs/imagenet64_ipc2
Paper: 16.6 ± 0.1 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.deep_many("imagenet_resized/64x64", 2, 3000)
