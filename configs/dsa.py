"""DSA: Zhao & Bilen, ICML 2021; a cell for every data set and number of images per class.

python distill_dataset.py --config=configs/dsa.py:cifar10_ipc10 --workdir=runs/dsa
python eval.py --distilled=runs/dsa
Any data set and ipc make a cell; `_cpu` behind it is for a few CPU cores. Accuracies in percent; ours of 5 networks.

    cell                  Paper (ConvNet)         ours
    mnist_ipc1            88.7 ± 0.6              88.5 ± 0.5 (random real 55.2 ± 0.9), 500 steps, 40 min of a core
    mnist_ipc1_cpu        none                    88.1 ± 0.9 (random real 57.3 ± 1.1), 500 steps, 6 minutes on one core
    mnist_ipc10           97.8 ± 0.1              not run yet
    mnist_ipc10_cpu       none                    96.6 ± 0.2 (random real 94.2 ± 0.3), 600 steps, 50 min of a core
    mnist_ipc50           99.2 ± 0.1              not run yet
    fashion_mnist_ipc1    70.6 ± 0.6              70.9 ± 0.5 (random real 51.9 ± 2.0), 500 steps, 50 min of a core
    fashion_mnist_ipc1_cpu none                   69.4 ± 0.7 (random real 47.5 ± 1.6), 500 steps, 6 minutes on one core
    fashion_mnist_ipc10   84.6 ± 0.3              not run yet
    fashion_mnist_ipc50   88.7 ± 0.2              not run yet
    svhn_cropped_ipc1     27.5 ± 1.4              not run yet
    svhn_cropped_ipc10    79.2 ± 0.5              not run yet
    svhn_cropped_ipc50    84.4 ± 0.4              not run yet
    cifar10_ipc1          28.8 ± 0.7              28.9 ± 0.3 (random real 16.0 ± 1.8), 1000 steps, 90 min of a core
    cifar10_ipc10         52.1 ± 0.5              not run yet
    cifar10_ipc50         60.6 ± 0.5              not run yet
    cifar100_ipc1         13.9 ± 0.3              not run yet
    cifar100_ipc10        32.3 ± 0.3              not run yet
    cifar100_ipc50        42.8 ± 0.4              not run yet
    tiny_imagenet_ipc1    none                    not run yet
    tiny_imagenet_ipc10   none                    not run yet
    tiny_imagenet_ipc50   none                    not run yet
    digits_ipc1           none                    93.3 ± 0.6 (random real 75.6 ± 2.7), a minute on 2 cores
"""

from configs._families import matching


def get_config(cell: str = "cifar10_ipc10"):
    return matching.cell(matching.dsa, cell)
