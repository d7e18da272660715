"""RCIG, tiny_imagenet, 1 image per class.

python distill_dataset.py --config=configs/rcig_tiny_imagenet_ipc1.py --workdir=runs/tiny_imagenet_ipc1
Paper: 25.6 ± 0.3 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import rcig


def get_config():
    return rcig.deep("tiny_imagenet", 1, 5000)
