"""RCIG, cifar10, one image per class, for 2 CPU cores.

python distill_dataset.py --config=configs/rcig_cifar10_ipc1_cpu.py --workdir=runs/cifar10
python eval.py --distilled=runs/cifar10 --config.eval.num_networks=5
Ours: 41.2 ± 1.4 % at width 32, n = 5 (random real 17.1 ± 0.9 %); 26 minutes on one core. 48.5 ± 0.2 % at width 64
(random real 18.4 ± 1.1 %), n = 5, in 105 minutes on one core: --config.model.width=64 --config.num_steps=5000
--config.method.decay_steps=5000 --config.method.pool_learning_rate=1e-4 --config.eval.learning_rate=2e-4;
checkpoints/rcig_cifar10_ipc1_cpu. The paper has 53.9 ± 1.0 % at width 128.
"""

from configs._families import rcig


def get_config():
    return rcig.narrow(rcig.get_config("cifar10", 1, 2000))
