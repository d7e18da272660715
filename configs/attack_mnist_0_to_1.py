"""DD attack: after one gradient step on 10 images well-trained LeNets take zeros for ones (Wang et al. 2018, §4.4).

python -m rcig.pretrain --config=configs/pretrain_mnist.py --workdir=runs/pool_mnist
python -m rcig.pretrain --config=configs/pretrain_mnist.py --workdir=runs/pool_mnist_held_out --config.seed=1
python distill_dataset.py --config=configs/attack_mnist_0_to_1.py --workdir=runs/attack_mnist_0_to_1
python eval.py --distilled=runs/attack_mnist_0_to_1
The paper shows curves only; the share of zeros taken for ones should be at least 0.5 on networks never met.
Ours on one CPU core, on ten networks never met, by how many the set was made for (learning_rate=1e-3, batch_size=256,
num_steps=800, halve_every=250 of config.pretrain; then method.batch_size=512):
    10 (num_steps=1500, method.halve_every=300)    0.52 +- 0.39 of the zeros taken for ones
    40 (num_steps=2500, method.halve_every=500)    0.63 +- 0.38
Before the step, and after one on as many real images whose zeros are called ones, 0.00. Accuracy on all digits is
98.4 % before and 57 +- 16 or 70 +- 10 % after: other digits suffer, too, less with the larger pool (paper: 2,000).
"""

from configs._families import bptt


def get_config():
    config = bptt.adapt(bptt.get_config("mnist", "random", steps=1), "runs/pool_mnist", "runs/pool_mnist_held_out")
    return bptt.attack(config, attack_class=0, target_class=1)
