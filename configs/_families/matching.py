"""What DC's, DSA's, DM's and MTT's published settings have in common; configs/{dc,dsa,dm,mtt}.py list their cells.

DC: Zhao et al., ICLR 2021; DSA: Zhao & Bilen, ICML 2021; DM: Zhao & Bilen, WACV 2023; MTT: Cazenavette et al., CVPR
2022. The numbers of steps are those after which the papers measure: 1000 networks for DC and DSA, with a match for
every image of a class, at most 50, and 20,000 networks for DM. (The reference takes one more before it saves.) MTT's
paper says the best of 5000 steps. The functions take any data set and ipc.
"""

from ml_collections import ConfigDict

from configs import default
from configs._families import cells

_OWN_CONSTANTS = ("mnist", "fashion_mnist", "svhn_cropped", "cifar10", "cifar100", "tiny_imagenet")
_TRAJECTORY_OPTIONS = (
    "student_steps",
    "expert_epochs",
    "max_start_epoch",
    "learning_rate",
    "rate_learning_rate",
    "inner_rate",
    "minibatch",
)
_TRAJECTORIES = {  # (data set, images per class): the options above, and whether the images are whitened
    ("cifar10", 1): (50, 2, 2, 100.0, 1e-7, 0.01, 0, True),
    ("cifar10", 10): (30, 2, 20, 100.0, 1e-5, 0.001, 0, True),
    ("cifar10", 50): (30, 2, 40, 1000.0, 1e-5, 0.001, 0, False),
    ("cifar100", 1): (20, 3, 20, 1000.0, 1e-5, 0.01, 0, True),
    ("cifar100", 10): (20, 2, 20, 1000.0, 1e-5, 0.01, 0, False),
    ("cifar100", 50): (80, 2, 40, 1000.0, 1e-5, 0.01, 125, True),
    ("tiny_imagenet", 1): (10, 2, 10, 1e4, 1e-4, 0.01, 0, False),
    ("tiny_imagenet", 10): (20, 2, 40, 1e4, 1e-4, 0.01, 200, False),
    ("tiny_imagenet", 50): (20, 2, 40, 1e4, 1e-4, 0.01, 300, False),
    ("mnist", 1): (20, 2, 2, 1000.0, 1e-4, 0.1, 0, False),  # not in the paper, as what follows
    ("mnist", 10): (20, 2, 2, 30.0, 1e-5, 0.05, 0, False),
    ("digits", 1): (20, 2, 2, 1000.0, 1e-4, 0.05, 0, False),
}


def get_config() -> ConfigDict:
    """DM on CIFAR-10, ten images per class: the family's quickest."""
    return dm("cifar10", 10)


def cell(method, name: str) -> ConfigDict:
    """Return a cell of ``method``, dc, dsa, dm or mtt, by name: mnist_ipc1, mnist_ipc1_cpu, digits_ipc10."""
    dataset, ipc, cpu = cells.parse(name)
    config = method(dataset, ipc)
    if dataset == "digits":
        return digits(config)
    return narrow(config) if cpu else config


def dc(dataset: str, ipc: int, num_networks: int = 1000) -> ConfigDict:
    """DC: from noise, without augmentation."""
    config = _common(dataset, ipc, "dc")
    config.initialization = "normal"
    config.method = ConfigDict({"name": "gradient_matching"})
    return _stepped(config, num_networks * min(ipc, 50), min(ipc, 50))


def dsa(dataset: str, ipc: int, num_networks: int = 1000) -> ConfigDict:
    """DSA: DC from real images, with its augmentation at every match, in training and in the judgement."""
    config = _common(dataset, ipc, "dsa")
    config.method = ConfigDict({"name": "gradient_matching", "augmentation": _augmentation(dataset)})
    return _stepped(config, num_networks * min(ipc, 50), min(ipc, 50))


def dm(dataset: str, ipc: int, num_steps: int = 20000) -> ConfigDict:
    """DM: judged as DSA. From 100 images per class on, CIFAR-10's rate is ten times as high."""
    config = _common(dataset, ipc, "dsa")
    rate = 10.0 if dataset == "cifar10" and ipc >= 100 else 1.0
    config.method = ConfigDict(
        {"name": "distribution_matching", "augmentation": _augmentation(dataset), "learning_rate": rate}
    )
    return _stepped(config, num_steps, 1)


def mtt(dataset: str, ipc: int, num_steps: int = 5000) -> ConfigDict:
    """MTT: judged at its learned rate. A cell that is not in the table takes the nearest one's options."""
    config = _common(dataset, ipc, "mtt")
    *values, whitened = _TRAJECTORIES[cells.nearest(_TRAJECTORIES, dataset, ipc)]
    options = dict(zip(_TRAJECTORY_OPTIONS, values, strict=True))
    config.method = ConfigDict({"name": "trajectory_matching", "augmentation": _augmentation(dataset)} | options)
    if whitened and dataset.startswith("cifar"):
        config.preprocessing = "mtt_zca"
    elif dataset == "cifar100":
        config.preprocessing = "mtt_standard"
    return _stepped(config, num_steps, 1)


def narrow(config: ConfigDict, width: int = 32) -> ConfigDict:
    """For a few CPU cores: a narrow network, half the real examples, five networks to judge.

    DC starts from real images where a class has several: from noise, the first thousand of its steps stay below them.
    DM's loss is a sum over features: with fewer of them its rate grows. MTT's experts are few, stop where they are no
    longer matched, and take large batches: an epoch must be short enough for a student to follow.
    """
    config.model.width = width
    config.method.batch_size = 128
    if config.method.name == "gradient_matching" and config.ipc > 1:
        config.initialization = "real"
    if config.method.name == "distribution_matching":
        config.method.learning_rate *= 128 / width
    if config.method.name == "trajectory_matching":
        last = config.method.max_start_epoch - 1 + config.method.expert_epochs
        config.method.update(num_experts=5, recorded_epochs=last, batch_size=512)
    config.eval.num_networks = 5
    return config


def digits(config: ConfigDict, num_steps: int = 1000) -> ConfigDict:
    """For scikit-learn's 8-pixel digits: narrow, two blocks, a minute or so."""
    config = narrow(config)
    config.model.depth = 2
    if config.method.name == "trajectory_matching":
        config.method.update(num_experts=20, batch_size=64, expert_learning_rate=0.05)
    config.num_steps, config.checkpoint_every = num_steps, num_steps // 4
    return config


def _common(dataset: str, ipc: int, preset: str) -> ConfigDict:
    config = default.get_config()
    config.dataset, config.ipc = dataset, ipc
    config.preprocessing = "dc_standard" if dataset in _OWN_CONSTANTS else "standard"
    config.labels.name = "one_hot"  # rows that sum to 0 make a cross-entropy without a minimum, wherever the set goes
    config.model = ConfigDict({"name": "dc_convnet", "width": 128})
    config.eval.preset = preset
    return config


def _stepped(config: ConfigDict, num_steps: int, match_steps: int) -> ConfigDict:
    config.num_steps, config.checkpoint_every = num_steps, max(num_steps // 20, 1)
    config.steps_per_dispatch = match_steps * max(20 // match_steps, 1)  # whole networks
    return config


def _augmentation(dataset: str) -> str:
    """Return DSA's operations for a data set, those that preset ``dsa`` judges with."""
    return f"dsa:color_crop_cutout_{'' if dataset in cells.WRITTEN else 'flip_'}scale_rotate"
