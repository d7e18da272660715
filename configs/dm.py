"""DM: Zhao & Bilen, WACV 2023; a cell for every data set and number of images per class.

python distill_dataset.py --config=configs/dm.py:cifar10_ipc10 --workdir=runs/dm
python eval.py --distilled=runs/dm
Any data set and ipc make a cell; `_cpu` behind it is for a few CPU cores. Accuracies in percent; ours of 5 networks.

    cell                  Paper (ConvNet)         ours
    mnist_ipc1            89.7 ± 0.6 (recalled)   not run yet
    mnist_ipc1_cpu        none                    89.9 ± 0.6 (random real 57.3 ± 1.1), 1500 steps, 6 minutes on one core
    mnist_ipc10           97.5 ± 0.1 (recalled)   not run yet
    mnist_ipc10_cpu       none                    96.7 ± 0.1 (random real 94.2 ± 0.3), 1500 steps, 8 minutes on one core
    mnist_ipc50           98.6 ± 0.1 (recalled)   not run yet
    fashion_mnist_ipc1    none                    not run yet
    fashion_mnist_ipc1_cpu none                   71.2 ± 0.6 (random real 47.5 ± 1.6), 1500 steps, 6 minutes on one core
    fashion_mnist_ipc10   none                    not run yet
    fashion_mnist_ipc50   none                    not run yet
    svhn_cropped_ipc1     none                    not run yet
    svhn_cropped_ipc10    none                    not run yet
    svhn_cropped_ipc50    none                    not run yet
    cifar10_ipc1          26.0 ± 0.8              26.6 ± 0.3 (random real 16.0 ± 1.8), 1500 steps, 45 min of a core
    cifar10_ipc10         48.9 ± 0.6              48.5 ± 0.4 (random real 29.3 ± 0.4), 3000 steps, two hours of a core
    cifar10_ipc50         63.0 ± 0.4              not run yet
    cifar100_ipc1         11.4 ± 0.3              not run yet
    cifar100_ipc10        29.7 ± 0.3              not run yet
    cifar100_ipc50        43.6 ± 0.4              not run yet
    tiny_imagenet_ipc1    3.9 ± 0.2               not run yet
    tiny_imagenet_ipc10   12.9 ± 0.4              not run yet
    tiny_imagenet_ipc50   24.1 ± 0.3              not run yet
    cifar10_ipc100        67.0 ± 0.3              not run yet
    cifar10_ipc200        71.2 ± 0.4              not run yet
    cifar10_ipc500        76.1 ± 0.3              not run yet
    cifar10_ipc1000       79.8 ± 0.3              not run yet
    cifar10_ipc1250       80.8 ± 0.3              not run yet
    digits_ipc1           none                    94.0 ± 0.5 (random real 75.6 ± 2.7), half a minute on 2 cores
    digits_ipc10          none                    98.2 ± 0.3 (random real 95.3 ± 0.3), half a minute on 2 cores
"""

from configs._families import matching


def get_config(cell: str = "cifar10_ipc10"):
    return matching.cell(matching.dm, cell)
