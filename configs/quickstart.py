"""RCIG on scikit-learn's digits, one image per class: the demo.

python distill_dataset.py --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset = "digits"
    config.ipc = 1
    config.num_steps = 1500
    config.checkpoint_every = 500
    config.method = ConfigDict({"name": "rcig", "batch_size": 256})
    config.model = ConfigDict({"name": "convnet", "width": 32, "depth": 2, "activation": "softplus"})
    config.eval.learning_rate = 3e-4
    return config
