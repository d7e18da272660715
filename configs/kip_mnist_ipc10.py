"""KIP, mnist, 10 image(s) per class, fully connected kernel, learned labels.

python distill_dataset.py --config=configs/kip_mnist_ipc10.py --workdir=runs/kip_mnist_ipc10
python eval.py --distilled=runs/kip_mnist_ipc10
"""

from configs._families import kernel


def get_config():
    return kernel.kip("mnist", 10, learn_labels=True)
