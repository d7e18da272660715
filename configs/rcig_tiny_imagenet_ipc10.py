"""RCIG, tiny_imagenet, 10 images per class.

python distill_dataset.py --config=configs/rcig_tiny_imagenet_ipc10.py --workdir=runs/tiny_imagenet_ipc10
Paper: 29.4 ± 0.2 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.deep_many("tiny_imagenet", 10, 3000)
