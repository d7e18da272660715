"""RCIG, fashion_mnist, 1 image per class.

python distill_dataset.py --config=configs/rcig_fashion_mnist_ipc1.py --workdir=runs/fashion_mnist_ipc1
Paper: 79.8 ± 1.1 (recalled) %, ConvNet. Ours at full width: not run yet. checkpoints/rcig_fashion_mnist_ipc1 is of the
narrow --config=configs/rcig_mnist_ipc1_cpu.py --config.dataset=fashion_mnist --config.num_steps=6000
--config.method.decay_steps=6000, an hour of a core; judged at width 128 (--config.eval.model.width=128
--config.eval.learning_rate=1e-4) 79.0 ± 0.5 % (random real 50.3 ± 3.0), n = 5.
"""

from configs._families import rcig


def get_config():
    return rcig.grey("fashion_mnist", 1, 10000)
