"""SLDD, MNIST, 100 images with learned labels for any LeNet (Sucholutsky & Schonlau 2019: 82.75 ± 2.75 %).

python distill_dataset.py --config=configs/sldd_mnist_random_100.py --workdir=runs/sldd_mnist_random_100
python eval.py --distilled=runs/sldd_mnist_random_100 --config.eval.num_networks=200
Paper: 82.75 ± 2.75 (recalled) %.
Ours in 35 minutes on one busy CPU core, with --config.num_steps=16000 --config.method.halve_every=3200
--config.method.batch_size=512: 83.1 ± 6.0 % of 200 networks in its 30 steps, checkpoints/sldd_mnist_random_100 (random
real images 48.6 ± 8.5 % in as many, 84.0 ± 1.8 % where they may choose up to thirty passes). 9,000 steps: 81.6 ± 4.0 %
of 20 networks.
"""

from configs._families import bptt


def get_config():
    return bptt.soft("mnist", "random", steps=10, num_steps=20650, inner_rate=0.01)
