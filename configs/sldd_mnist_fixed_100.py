"""SLDD, MNIST, 100 images with learned labels for one fixed LeNet (Sucholutsky & Schonlau 2019: 98.6 %).

python distill_dataset.py --config=configs/sldd_mnist_fixed_100.py --workdir=runs/sldd_mnist_fixed_100
python eval.py --distilled=runs/sldd_mnist_fixed_100
Paper: 98.6 (recalled) %.
Ours in 20 minutes on one CPU core, with --config.num_steps=12000 --config.method.halve_every=2400
--config.method.batch_size=512: 98.1 % (random real 85.8 %).
"""

from configs._families import bptt


def get_config():
    return bptt.soft("mnist", "fixed", steps=10, num_steps=20650, inner_rate=0.01)
