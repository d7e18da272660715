"""RCIG, MNIST, one image per class, for 2 CPU cores.

python distill_dataset.py --config=configs/rcig_mnist_ipc1_cpu.py --workdir=runs/mnist
python eval.py --distilled=runs/mnist
Ours: 93.1 ± 0.3 % at width 128 (--config.eval.model.width=128 --config.eval.learning_rate=1e-4; random real
51.2 ± 3.4 %), n = 5; 45 minutes on one core. Twice as long (--config.num_steps=8000 --config.method.decay_steps=8000):
93.7 ± 0.3 %, checkpoints/rcig_mnist_ipc1.
"""

from configs._families import rcig


def get_config():
    config = rcig.narrow(rcig.grey("mnist", 1, 4000), width=64)
    config.initialization = "average"  # worth a thousand steps
    config.method.update(batch_size=128)  # half the examples, twice the width: better at equal time
    config.method.decay_steps = config.num_steps
    return config
