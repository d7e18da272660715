"""LPLD, ImageNet-21K-P, 20 images per class, ResNet18 on one label in forty (32 GB).

python distill_dataset.py --config=configs/lpld_imagenet21k_ipc20.py --workdir=runs/lpld --config.data.path=FOLDER
python eval.py --distilled=runs/lpld --config.data.path=FOLDER --config.eval.pruning_ratio=0.975
FOLDER holds train/<class>/* and test/<class>/*. Paper: 29.4. Ours: not run yet.
"""

from configs._families import lpld


def get_config():
    return lpld.imagenet21k(20)
