"""RDED on 20 classes of Tiny-ImageNet, ten images per class, one crop an image as published for 64 pixels.

python distill_dataset.py --config=configs/rded_tiny20.py --workdir=runs/rded_tiny20 --config.data_dir=FOLDER
python eval.py --distilled=runs/rded_tiny20 --config.data_dir=FOLDER
FOLDER as for configs/lpld_tiny20.py. Paper: none. Ours, one seed: see there; the two can share a teacher.
"""

from configs._families import lpld


def get_config():
    return lpld.rded(lpld.tiny20(10))
