"""DD, MNIST, 100 images for any LeNet (Wang et al. 2018, Table 2: 79.5 ± 8.1 %, 200 networks).

python distill_dataset.py --config=configs/dd_mnist_random_100.py --workdir=runs/dd_mnist_random_100
python eval.py --distilled=runs/dd_mnist_random_100 --config.eval.num_networks=200
Paper: 79.5 ± 8.1 %.
Ours in 15 minutes on one CPU core, with --config.num_steps=3200 --config.method.halve_every=800
--config.method.batch_size=512: 78.9 ± 2.4 % of 200 networks in its 30 steps (random
real images 48.7 ± 8.5 % in as many, 84.0 ± 1.8 % where they may choose up to thirty passes),
checkpoints/dd_mnist_random_100; 6,000 steps halved every 1,200: 78.2 ± 3.4 %; 4,000 with four networks a step, halved
every 1,000: 78.4 ± 7.0 %; 12,000 from rate 0.01, halved every 2,400: 78.6 ± 5.3 %.
"""

from configs._families import bptt


def get_config():
    return bptt.get_config("mnist", "random", steps=10)
