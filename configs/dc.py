"""DC: Zhao, Mopuri & Bilen, ICLR 2021; a cell for every data set and number of images per class.

python distill_dataset.py --config=configs/dc.py:mnist_ipc1 --workdir=runs/dc
python eval.py --distilled=runs/dc
Any data set and ipc make a cell; `_cpu` behind it is for a few CPU cores. Accuracies in percent; ours of 5 networks.

    cell                  Paper (ConvNet)         ours
    mnist_ipc1            91.7 ± 0.5              92.0 ± 0.3 (random real 65.9 ± 4.7), 500 steps, 75 minutes on one core
    mnist_ipc1_cpu        none                    85.3 ± 1.1 (random real 61.7 ± 1.8), 400 steps, 9 minutes on one core
    mnist_ipc10           97.4 ± 0.2              not run yet
    mnist_ipc10_cpu       none                    96.5 ± 0.2 (random real 94.8 ± 0.2), 600 steps, 25 minutes on one core
    mnist_ipc50           98.8 ± 0.1              not run yet
    fashion_mnist_ipc1    70.5 ± 0.6              not run yet
    fashion_mnist_ipc1_cpu none                   70.2 ± 1.0 (random real 46.7 ± 1.5), 400 steps, 6 minutes on one core
    fashion_mnist_ipc10   82.3 ± 0.4              not run yet
    fashion_mnist_ipc50   83.6 ± 0.4              not run yet
    svhn_cropped_ipc1     31.2 ± 1.4              not run yet
    svhn_cropped_ipc10    76.1 ± 0.6              not run yet
    svhn_cropped_ipc50    82.3 ± 0.3              not run yet
    cifar10_ipc1          28.3 ± 0.5              28.7 ± 0.7 (random real 15.2 ± 1.8), 1000 steps, 2 hours of a core
    cifar10_ipc10         44.9 ± 0.5              not run yet
    cifar10_ipc50         53.9 ± 0.5              not run yet
    cifar100_ipc1         12.8 ± 0.3              not run yet
    cifar100_ipc10        25.2 ± 0.3              not run yet
    cifar100_ipc50        none                    not run yet
    tiny_imagenet_ipc1    none                    not run yet
    tiny_imagenet_ipc10   none                    not run yet
    tiny_imagenet_ipc50   none                    not run yet
    digits_ipc1           none                    88.9 ± 0.4 (random real 72.6 ± 2.7), a minute on 2 cores
"""

from configs._families import matching


def get_config(cell: str = "mnist_ipc1"):
    return matching.cell(matching.dc, cell)
