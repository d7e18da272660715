"""KIP, mnist, 10 image(s) per class, fully connected kernel, learned labels.

python distill_dataset.py --config=configs/kip_mnist_ipc10.py --workdir=runs/kip_mnist_ipc10
python eval.py --distilled=runs/kip_mnist_ipc10
Ours after 300 steps (--config.num_steps=300): 95.9 % (random real 76.6 %), Fashion-MNIST
(--config.dataset=fashion_mnist) 85.8 % (72.2 %); two minutes on one core.
"""

from configs._families import kernel


def get_config():
    return kernel.kip("mnist", 10, learn_labels=True)
