"""RCIG, MNIST, one image per class, for 2 CPU cores.

python distill_dataset.py --config=configs/rcig_mnist_ipc1_cpu.py --workdir=runs/mnist
python eval.py --distilled=runs/mnist --config.eval.model.width=128
"""

from configs import rcig


def get_config():
    config = rcig.narrow(rcig.grey("mnist", 1, 2500), width=64)
    config.method.update(batch_size=128)  # half the examples, twice the width: better at equal time
    return config
