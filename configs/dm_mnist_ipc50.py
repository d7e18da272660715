"""DM, mnist, 50 images per class.

python distill_dataset.py --config=configs/dm_mnist_ipc50.py --workdir=runs/dm_mnist_ipc50
Paper: 98.6 ± 0.1 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dm("mnist", 50)
