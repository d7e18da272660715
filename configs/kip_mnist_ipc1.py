"""KIP, mnist, 1 image(s) per class, fully connected kernel, learned labels.

python distill_dataset.py --config=configs/kip_mnist_ipc1.py --workdir=runs/kip_mnist_ipc1
python eval.py --distilled=runs/kip_mnist_ipc1
Ours: 89.5 % (random real 47.1 ± 4.0 %), checkpoints/kip_mnist_ipc1; two minutes on one core. Fashion-MNIST
(--config.dataset=fashion_mnist): 82.4 % (47.9 %).
"""

from configs._families import kernel


def get_config():
    return kernel.kip("mnist", 1, learn_labels=True)
