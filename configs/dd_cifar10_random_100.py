"""DD, CIFAR-10, 100 images for any AlexCifarNet (Wang et al. 2018, Table 2: 36.8 ± 1.2 %, 200 networks).

python distill_dataset.py --config=configs/dd_cifar10_random_100.py --workdir=runs/dd_cifar10_random_100
python eval.py --distilled=runs/dd_cifar10_random_100 --config.eval.num_networks=200
Ours: not run yet.
Paper: 36.8 ± 1.2 %.
"""

from configs._families import bptt


def get_config():
    return bptt.cifar10(bptt.get_config("cifar10", "random", steps=10))
