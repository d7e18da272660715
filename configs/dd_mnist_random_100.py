"""DD, MNIST, 100 images for any LeNet (Wang et al. 2018, Table 2: 79.5 ± 8.1 %, 200 networks).

python distill_dataset.py --config=configs/dd_mnist_random_100.py --workdir=runs/dd_mnist_random_100
python eval.py --distilled=runs/dd_mnist_random_100 --config.eval.num_networks=200
Paper: 79.5 ± 8.1 %.
"""

from configs._families import bptt


def get_config():
    return bptt.get_config("mnist", "random", steps=10)
