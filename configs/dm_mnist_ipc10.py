"""DM, mnist, 10 images per class.

python distill_dataset.py --config=configs/dm_mnist_ipc10.py --workdir=runs/dm_mnist_ipc10
Paper: 97.5 ± 0.1 (recalled) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dm("mnist", 10)
