"""What BPTT's published settings have in common; configs/{dd,sldd,adapt,attack}_*.py are its cells.

Wang et al. 2018, "Dataset Distillation" (DD), and Sucholutsky & Schonlau 2019, "Soft-Label Dataset Distillation"
(SLDD). The paper's 400 epochs are 23,600 steps on MNIST; the rate halves every tenth of them, by method.halve_every,
which does not follow another num_steps. Evaluation follows the learned schedule, and lets real examples choose rate and
passes; ``--protocol=standard`` trains on the same images in plain fashion instead.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(
    dataset: str = "mnist",
    networks: str = "fixed",
    steps: int = 1,
    num_steps: int = 23600,
    inner_rate: float = 0.02,
    model: str = "lenet",
) -> ConfigDict:
    """DD: ``steps`` minibatches of one image per class, three passes, hard labels."""
    config = default.get_config()
    config.dataset, config.ipc, config.num_steps = dataset, steps, num_steps
    config.preprocessing = "standard"
    config.initialization, config.labels.name = "normal", "one_hot"
    config.method = ConfigDict({"name": "bptt", "steps": steps, "networks": networks, "inner_rate": inner_rate})
    config.method.halve_every = max(num_steps // 10, 1)
    config.model = ConfigDict({"name": model})
    config.steps_per_dispatch, config.checkpoint_every = 100, 2000
    config.eval = ConfigDict({"protocol": "bptt", "preset": "bptt"})
    return config


def soft(*args, init_labels: tuple[int, ...] = (), **options) -> ConfigDict:
    """SLDD: the labels are learned too; with ``init_labels``, fewer images than classes."""
    config = get_config(*args, **options)
    config.method.learn_labels = True
    config.init_labels = init_labels
    return config


def cifar10(config: ConfigDict) -> ConfigDict:
    """CIFAR-10: AlexCifarNet, rates from 0.001, real images mirrored and moved by up to 4 pixels.

    By fractions of a pixel too, and what comes in repeats the edge, where the paper's whole pixels reflect it.
    """
    config.dataset, config.model.name = "cifar10", "alexcifarnet"
    config.method.update(inner_rate=0.001, augmentation="flip+translate", rows_at_once=128)
    config.method.halve_every = 1960
    config.num_steps, config.steps_per_dispatch, config.checkpoint_every = 19600, 10, 200  # seconds a step on a CPU
    return config


def adapt(config: ConfigDict, pool: str, held_out: str, num_networks: int = 4) -> ConfigDict:
    """Adaptation: networks of another data set (python -m rcig.pretrain) learn this one in ten steps, thrice."""
    config.method.update(networks=pool, num_networks=num_networks)
    config.eval.networks = held_out
    return config


def attack(config: ConfigDict, attack_class: int, target_class: int) -> ConfigDict:
    """Attack: after one step on the set, well-trained networks take one class for another."""
    config.method.update(steps=1, epochs=1, attack=(attack_class, target_class), learning_rate=0.02)
    config.eval.epochs = 1  # real examples have one step, too
    return config


def pool(dataset: str, num_steps: int, halve_every: int) -> ConfigDict:
    """LeNets trained on a whole data set, 20 of them (the paper: 2,000)."""
    config = get_config(dataset)
    config.pretrain.update(num_steps=num_steps, halve_every=halve_every)
    return config
