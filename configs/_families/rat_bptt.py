"""What RaT-BPTT's settings have in common; configs/rat.py and rtp*.py list its cells.

Feng, Vedantam & Kempe 2024, "Embarrassingly Simple Dataset Distillation": random windows of an Adam run. Judged by
plain training with the inner optimiser on the learned set, for a fixed number of steps (the paper takes the best of
300, 600, 1000 and 3000 on the test split). Step counts are what the methods were given; their rates are constant, so a
run may be stopped anywhere.
"""

from ml_collections import ConfigDict

from configs import default
from configs._families import cells

_OPTIONS = ("window", "horizon", "placement", "learning_rate", "learn_labels", "batch_size", "rows_per_class")
_PUBLISHED = {  # (data set, images per class): the options above, and the classes of an inner minibatch
    ("cifar10", 10): (60, 200, "random", 1e-3, False, 5000, 0, 0),
    ("cifar100", 10): (100, 300, "random", 1e-3, True, 5000, 1, 0),
    ("tiny_imagenet", 10): (100, 300, "random", 3e-4, True, 1000, 1, 50),
    ("cifar100", 1): (90, 130, "end", 3e-4, True, 5000, 1, 0),  # stabilised: the window stays at the end
    ("imagenet_resized/64x64", 1): (80, 280, "end", 3e-4, True, 1500, 1, 50),
}


def cell(name: str) -> ConfigDict:
    """DATASET_ipcN, or for a few CPU cores digits_ipcN and DATASET_ipcN_cpu."""
    dataset, ipc, cpu = cells.parse(name)
    return small(dataset, ipc, 400) if cpu or dataset == "digits" else get_config(dataset, ipc)


def get_config(dataset: str = "cifar10", ipc: int = 10, num_steps: int = 12000) -> ConfigDict:
    """The published settings; where there are none, those of the data set's nearest, or of CIFAR-10."""
    config = default.get_config()
    config.dataset, config.ipc, config.num_steps = dataset, ipc, num_steps
    written = dataset in cells.WRITTEN
    config.preprocessing = "standard" if written or dataset in cells.GREY else "zca"
    config.initialization, config.labels.name = "unit", "one_hot"
    augmentation = "dsa:rotate" if written else "dsa:flip_rotate"
    config.method = ConfigDict({"name": "rat_bptt", "augmentation": augmentation, "rows_at_once": 250})
    *options, classes = _PUBLISHED[cells.nearest(_PUBLISHED, dataset, ipc)]
    config.method.update(dict(zip(_OPTIONS, options, strict=True)), classes_at_once=classes)
    config.model = ConfigDict({"name": "dc_convnet"})
    config.eval.update(num_networks=8, loss="raw_cross_entropy")
    config.eval.update(optimiser="plain_adam", learning_rate=1e-3, num_steps=1000)
    config.checkpoint_every = 500
    return config


def small(dataset: str, ipc: int, num_steps: int) -> ConfigDict:
    """Grey digits on a few CPU cores: a narrow network, short windows, no mirror images."""
    config = get_config(dataset, ipc, num_steps)
    config.initialization = "real"
    config.method.update(augmentation="", window=15, horizon=40, batch_size=256, rows_at_once=0)
    config.method.update(inner_rate=3e-3, learning_rate=0.01, learn_labels=True)
    config.model.update(width=32)
    config.eval.update(optimiser="adam", learning_rate=3e-3, num_steps=300, warmup_steps=0)  # with a cosine
    config.steps_per_dispatch = 25
    return config


def remember_the_past(dataset: str, ipc: int, bases: int = 0, num_steps: int = 500000) -> ConfigDict:
    """Deng & Russakovsky 2022: 150 steps of SGD with momentum, all of them differentiated; optionally bases.

    Judged with the augmentation that it learns with: there a draw for each image, here one for all.
    """
    config = get_config(dataset, ipc, num_steps)
    config.method.update(window=150, horizon=150, placement="end", inner="momentum", inner_rate=0.01, clip=0.0)
    config.method.update(outer="sgd", learning_rate=0.1, batch_size=64 * cells.num_classes(dataset))
    config.method.update(rows_per_class=min(ipc, 10), classes_at_once=0, learn_labels=False, paired_augmentation=True)
    if bases:  # start Xavier-uniform, as images do
        config.method.update(bases=bases, rows_per_class=32, augmentation="")
    config.initialization = "xavier"
    config.eval.update(num_networks=10, optimiser="plain_momentum", learning_rate=0.01)
    config.eval.update(num_steps=0, num_epochs=299, batch_size=640)
    config.eval.update(augmentation=config.method.augmentation, plain=False)
    return config
