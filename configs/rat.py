"""RaT-BPTT: Feng, Vedantam & Kempe 2024; a cell for every data set and number of images per class.

python distill_dataset.py --config=configs/rat.py:cifar10_ipc10 --workdir=runs/rat
python eval.py --distilled=runs/rat
Any data set and ipc make a cell (with the options of the nearest one that the paper tells, of its data set or of
CIFAR-10); digits and `_cpu` are for a few CPU cores. Accuracies in percent. The paper takes the
best of four horizons and of all evaluations on the test split, we the last step at one horizon.

    cell                  Paper (as quoted)       ours
    cifar10_ipc1          53.2 ± 0.7              not run yet
    cifar10_ipc10         69.4 ± 0.4              not run yet
    cifar10_ipc50         75.3 ± 0.3              not run yet
    cifar100_ipc1         35.3 ± 0.4              not run yet
    cifar100_ipc10        47.5 ± 0.2              not run yet
    cifar100_ipc50        50.6 ± 0.2              not run yet
    tiny_imagenet_ipc1    20.1 ± 0.3              not run yet
    tiny_imagenet_ipc10   24.4 ± 0.2              not run yet
    digits_ipc1           none                    92.3 ± 0.8 (random real 74.3 ± 1.5), n = 8, half a minute on one core
    digits_ipc10          none                    97.2 ± 0.4 (random real 93.1 ± 0.5), n = 8, two minutes on one core
"""

from configs._families import rat_bptt


def get_config(cell: str = "cifar10_ipc10"):
    return rat_bptt.cell(cell)
