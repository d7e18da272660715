"""RFAD: Loo, Hasani, Amini & Rus, NeurIPS 2022; a cell for every data set and number of images per class.

python distill_dataset.py --config=configs/rfad.py:digits_ipc1 --workdir=runs/rfad
python eval.py --distilled=runs/rfad
Any data set and ipc make a cell; `_cpu` behind it is for a few CPU cores. Accuracies in percent; ours of 10 networks
(--config.eval.num_networks=10).

    cell                  Paper (width 1024)        ours
    mnist_ipc1            94.4 ± 1.5 (recalled)     not run yet
    mnist_ipc10           98.5 ± 0.1 (recalled)     not run yet
    mnist_ipc50           98.8 ± 0.1 (recalled)     not run yet
    fashion_mnist_ipc1    78.6 ± 1.3 (recalled)     not run yet
    fashion_mnist_ipc10   87.0 ± 0.5 (recalled)     not run yet
    fashion_mnist_ipc50   88.8 ± 0.4 (recalled)     not run yet
    cifar10_ipc1          53.6 ± 1.2 (recalled ±)   not run yet
    cifar10_ipc10         66.3 ± 0.5 (recalled ±)   not run yet
    cifar10_ipc50         71.1 ± 0.4 (recalled)     not run yet
    digits_ipc1           none                      92.4 ± 1.6 (random real 62.9 ± 3.2), a minute on 2 cores
"""

from configs._families import kernel


def get_config(cell: str = "cifar10_ipc10"):
    return kernel.cell(kernel.rfad, cell)
