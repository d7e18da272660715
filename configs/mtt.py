"""MTT: Cazenavette et al., CVPR 2022; a cell for every data set and number of images per class.

python distill_dataset.py --config=configs/mtt.py:cifar10_ipc10 --workdir=runs/mtt
python eval.py --distilled=runs/mtt
Any data set and ipc make a cell, with the options of the nearest one that the paper tells, of its data set or of
CIFAR-10; `_cpu` behind it is for a few CPU cores. Accuracies in percent; ours of 5 networks.
The paper reports the best of all evaluations on the test split, we the last. TESLA's gradient (Cui et al., ICML 2023):
--config.method.mode=tesla. Runs share experts through --config.method.experts=FOLDER.

    cell                  Paper (ConvNet)         ours
    cifar10_ipc1          46.3 ± 0.8              not run yet
    cifar10_ipc10         65.3 ± 0.7              not run yet
    cifar10_ipc50         71.6 ± 0.2              not run yet
    cifar100_ipc1         24.3 ± 0.3              not run yet
    cifar100_ipc10        40.1 ± 0.4              not run yet
    cifar100_ipc50        47.7 ± 0.2              not run yet
    tiny_imagenet_ipc1    8.8 ± 0.3               not run yet
    tiny_imagenet_ipc10   23.2 ± 0.2              not run yet
    tiny_imagenet_ipc50   28.0 ± 0.3              not run yet
    mnist_ipc1_cpu        none                    77.5 ± 2.2 (random real 57.2 ± 1.0), 400 steps, 10 minutes on one core
    mnist_ipc10_cpu       none                    95.7 ± 0.2 (random real 94.4 ± 0.5), 300 steps, 20 minutes on one core
    digits_ipc1           none                    93.0 ± 0.3 (random real 72.0 ± 4.5), a minute on 2 cores
"""

from configs._families import matching


def get_config(cell: str = "cifar10_ipc10"):
    return matching.cell(matching.mtt, cell)
