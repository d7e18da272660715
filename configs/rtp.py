"""Remember the Past: Deng & Russakovsky 2022, plain images; a cell for every data set and number of images per class.

python distill_dataset.py --config=configs/rtp.py:cifar10_ipc10 --workdir=runs/rtp
python eval.py --distilled=runs/rtp
Any data set in configs/_families/cells.py and any ipc make a cell. Accuracies in percent. With memory addressing:
rtp_cifar10_bases_budget1.py.

    cell                  Paper (seen)            ours
    cifar10_ipc1          49.1 ± 0.6              not run yet
    cifar10_ipc10         62.4 ± 0.4              not run yet
    cifar10_ipc50         70.5 ± 0.4              not run yet
    cifar100_ipc1         21.3 ± 0.6              not run yet
    cifar100_ipc10        34.7 ± 0.5              not run yet
"""

from configs._families import cells, rat_bptt


def get_config(cell: str = "cifar10_ipc10"):
    dataset, ipc, cpu = cells.parse(cell)
    if cpu:
        raise ValueError("Remember the Past has no cells for a few CPU cores; rat.py has")
    return rat_bptt.remember_the_past(dataset, ipc)
