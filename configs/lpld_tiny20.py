"""LPLD on 20 classes of Tiny-ImageNet, ten images per class, with a ResNet of three stages.

python distill_dataset.py --config=configs/lpld_tiny20.py --workdir=runs/lpld_tiny20 --config.data_dir=FOLDER
python eval.py --distilled=runs/lpld_tiny20 --config.data_dir=FOLDER
FOLDER holds tiny-imagenet-200-subset20.tar.gz, the original's layout with 20 of its classes: the source tiny_imagenet
takes the classes that are there. Paper: none. Ours, one seed, teacher 51.4 %: 37.4 % with all labels, 32.9 % with a
tenth, 29.5 % with a fortieth; without class statistics 38.4, 35.4, 22.0 %; SRe2L, with the same weight 0.05 of
its statistics (its own was 1), 24.7, 27.2, 23.6 %; random real images
with the same labels 38.1, 34.9, 29.9 %; RDED, in another run (LPLD there 37.2, 35.8, 29.6), 32.4, 32.2, 27.4 %:
benchmarks/lpld_arms.py --runs=runs/arms --dataset=tiny20 --seeds=1 --set data_dir=FOLDER, half an hour on one core.
"""

from configs._families import lpld


def get_config():
    return lpld.tiny20(10)
