"""DC, mnist, 50 images per class.

python distill_dataset.py --config=configs/dc_mnist_ipc50.py --workdir=runs/dc_mnist_ipc50
Paper: 98.8 ± 0.1 (seen) %, ConvNet. Ours: not run yet.
"""

from configs._families import matching


def get_config():
    return matching.dc("mnist", 50)
