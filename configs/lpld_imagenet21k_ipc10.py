"""LPLD, ImageNet-21K-P, 10 images per class, ResNet18 on one label in forty (16 GB).

python distill_dataset.py --config=configs/lpld_imagenet21k_ipc10.py --workdir=runs/lpld --config.data.path=FOLDER
python eval.py --distilled=runs/lpld --config.data.path=FOLDER --config.eval.pruning_ratio=0.975
FOLDER holds train/<class>/* and test/<class>/*. Paper: 21.3. Ours: not run yet.
"""

from configs._families import lpld


def get_config():
    return lpld.imagenet21k(10)
