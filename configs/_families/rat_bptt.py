"""What RaT-BPTT's settings have in common; configs/rat_*.py are its cells.

Feng, Vedantam & Kempe 2024, "Embarrassingly Simple Dataset Distillation": random windows of an Adam run. Judged by
plain training with the inner optimiser on the learned set, for a fixed number of steps (the paper takes the best of
300, 600, 1000 and 3000 on the test split). Step counts are what the methods were given; their rates are constant, so a
run may be stopped anywhere.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(dataset: str = "cifar10", ipc: int = 10, num_steps: int = 12000) -> ConfigDict:
    """CIFAR-10 at 10 images per class: windows of 60 in 200 steps, fixed labels."""
    config = default.get_config()
    config.dataset, config.ipc, config.num_steps = dataset, ipc, num_steps
    config.preprocessing, config.initialization, config.labels.name = "zca", "unit", "one_hot"
    config.method = ConfigDict({"name": "rat_bptt", "augmentation": "dsa:flip_rotate", "rows_at_once": 250})
    config.model = ConfigDict({"name": "dc_convnet"})
    config.eval.update(num_networks=8, loss="raw_cross_entropy")
    config.eval.update(optimiser="plain_adam", learning_rate=1e-3, num_steps=1000)
    config.checkpoint_every = 500
    return config


def small(dataset: str, ipc: int, num_steps: int) -> ConfigDict:
    """Grey digits on a few CPU cores: a narrow network, short windows, no mirror images."""
    config = get_config(dataset, ipc, num_steps)
    config.preprocessing, config.initialization = "standard", "real"
    config.method.update(augmentation="", window=15, horizon=40, batch_size=256, rows_at_once=0)
    config.method.update(inner_rate=3e-3, learning_rate=0.01, learn_labels=True)
    config.model.update(width=32)
    config.eval.update(optimiser="adam", learning_rate=3e-3, num_steps=300, warmup_steps=0)  # with a cosine
    config.steps_per_dispatch = 25
    return config


def remember_the_past(dataset: str, ipc: int, bases: int = 0, num_steps: int = 500000) -> ConfigDict:
    """Deng & Russakovsky 2022: 150 steps of SGD with momentum, all of them differentiated; optionally bases."""
    config = get_config(dataset, ipc, num_steps)
    config.method.update(window=150, horizon=150, placement="end", inner="momentum", inner_rate=0.01, clip=0.0)
    config.method.update(outer="sgd", learning_rate=0.1, batch_size=640)
    if bases:  # start Xavier-uniform, as images do
        config.method.update(bases=bases, rows_per_class=32, augmentation="")
    config.initialization = "xavier"
    config.eval.update(num_networks=10, optimiser="plain_momentum", learning_rate=0.01)
    config.eval.update(num_steps=0, num_epochs=299, batch_size=640)
    return config
