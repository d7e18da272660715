"""DD, MNIST, 100 images for one fixed LeNet (Wang et al. 2018: 96.6 %).

python distill_dataset.py --config=configs/dd_mnist_fixed_100.py --workdir=runs/dd_mnist_fixed_100
python eval.py --distilled=runs/dd_mnist_fixed_100
Paper: 96.6 (recalled) %.
Ours in 14 minutes on one CPU core, with --config.num_steps=8000 --config.method.halve_every=1600
--config.method.batch_size=512: 97.1 % (random real 85.8 %).
"""

from configs._families import bptt


def get_config():
    return bptt.get_config("mnist", "fixed", steps=10)
