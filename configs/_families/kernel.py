"""What KIP's and label solve's settings have in common; configs/{kip,label_solve}_*.py are cells.

Nguyen, Chen & Lee, ICLR 2021; Nguyen, Novak, Xiao & Lee, NeurIPS 2021. Judged by kernel regression with the kernel that
distilled; ``--protocol=standard`` shows what the sets are worth to finite networks. All in float64.
"""

from ml_collections import ConfigDict

from configs import default


def kip(dataset: str, ipc: int, num_steps: int = 1000, learn_labels: bool = False) -> ConfigDict:
    """KIP with the fully connected kernel of one hidden layer, from real images."""
    config = default.get_config()
    config.dataset, config.ipc, config.num_steps = dataset, ipc, num_steps
    config.preprocessing, config.x64 = "standard", True
    config.method = ConfigDict({"name": "kip", "learn_labels": learn_labels})
    config.steps_per_dispatch, config.checkpoint_every = 25, 250
    config.eval = ConfigDict({"protocol": "kernel", "preset": "kernel"})
    return config


def label_solve(dataset: str, ipc: int, batch_size: int = 10000) -> ConfigDict:
    """Label solve: one step on ``batch_size`` real images."""
    config = kip(dataset, ipc, num_steps=1)
    config.method = ConfigDict({"name": "label_solve", "batch_size": batch_size})
    return config
