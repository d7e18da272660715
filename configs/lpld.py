"""LPLD: Xiao & He, NeurIPS 2024; a cell for imagenet2012, tiny_imagenet, mnist and digits at any ipc.

python distill_dataset.py --config=configs/lpld.py:tiny_imagenet_ipc50 --workdir=runs/lpld
python eval.py --distilled=runs/lpld --config.eval.pruning_ratio=0.975
Top-1 in percent of ResNet18 trained on the images and all labels (1x), or on one label in forty (40x); GB of labels are
the published ones, the full ones SRe2L's. Recalled numbers are not verified. The published runs take torchvision's
teacher for ImageNet (69.8 %), one of 50 epochs for Tiny-ImageNet (59.6 %); here every run trains its own, or takes
another run's (method.teacher). ImageNet-21K: configs/lpld_imagenet21k_ipc10.py, ipc20.

Every device holds all images as float32 with two moments, 20 bytes a number at work: 30 GB for imagenet2012_ipc10, 150
GB for ipc 50. There is no way yet to make a larger set in parts.

    cell                   SRe2L 1x (full GB)   LPLD 1x (recalled)   LPLD 40x (GB)   ours
    imagenet2012_ipc10     20.1 (5.67)          34.6                 20.2 (0.14)     not run yet
    imagenet2012_ipc20     33.6 (11.33)         47.2                 33.0 (0.29)     not run yet
    imagenet2012_ipc50     46.8 (28.33)         55.4                 46.7 (0.71)     not run yet
    imagenet2012_ipc100    52.8 (56.66)         59.4                 54.0 (1.43)     not run yet
    imagenet2012_ipc200    57.0 (113.33)        62.6                 59.6 (2.85)     not run yet
    tiny_imagenet_ipc50    41.1 (0.449)         48.8                 38.4 (0.011)    not run yet
    tiny_imagenet_ipc100   49.7 (0.898)         53.6                 46.1 (0.022)    not run yet
"""

from configs._families import lpld


def get_config(cell: str = "tiny_imagenet_ipc50"):
    return lpld.cell(cell)
