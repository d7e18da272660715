"""LPLD on 20 classes of Tiny-ImageNet, ten images per class, with a ResNet of three stages.

python distill_dataset.py --config=configs/lpld_tiny20.py --workdir=runs/lpld_tiny20 --config.data_dir=FOLDER
python eval.py --distilled=runs/lpld_tiny20 --config.data_dir=FOLDER
FOLDER holds tiny-imagenet-200-subset20.tar.gz, the original's layout with 20 of its classes: the source tiny_imagenet
takes the classes that are there. Paper: none. Ours: not run yet.
"""

from configs._families import lpld


def get_config():
    return lpld.tiny20(10)
