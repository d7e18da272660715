"""What RCIG's published settings have in common; configs/rcig_<dataset>_ipc<n>.py are its cells.

Loo et al. 2023, "Dataset Distillation with Convexified Implicit Gradients": the configurations that its README names
for each data set. Step counts are the published checkpoints' where these exist, else our choice (the paper's appendix
was not available). Differences from the paper: CG in place of two 20-step Adam solves (the paper's is
``--config.method.solver=adam``), and sub-sampled gradients scaled to be unbiased; where the reference draws 2000 rows
twice (CIFAR-100 at 50 images per class), one draw of 4000.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(dataset: str = "cifar10", ipc: int = 1, num_steps: int = 10000) -> ConfigDict:
    """32-pixel colour sets (depth_3): ConvNet-3 with softplus, flips."""
    config = default.get_config()
    config.dataset, config.ipc, config.num_steps = dataset, ipc, num_steps
    config.method = ConfigDict({"name": "rcig", "batch_size": 1024, "flip": True})
    config.model = ConfigDict({"name": "convnet", "width": 128, "activation": "softplus"})
    config.eval.augmentation = "flip_color_crop_rotate_translate_cutout"
    config.eval.model = ConfigDict({"norm": "none"})  # whatever it was distilled with
    return config


def grey(dataset: str, ipc: int, num_steps: int = 10000) -> ConfigDict:
    """MNIST and Fashion-MNIST (depth_3_no_flip)."""
    config = get_config(dataset, ipc, num_steps)
    config.method.flip = False
    config.eval.augmentation = "crop_rotate_translate_cutout"
    return config


def many(dataset: str, ipc: int, num_steps: int) -> ConfigDict:
    """CIFAR-100 at 50 images per class (cifar100_50): no flips.

    The published draws of 4000 of 5000 images would cost more than all: tau takes every image through the network.
    A step takes 18 GiB, as compiled for a CPU; 7 GiB with ``--config.method.solve_rows=500``.
    """
    config = get_config(dataset, ipc, num_steps)
    config.method.flip = False
    config.method.update(pool_rows=2000, rows_at_once=1000)
    return _heavy(config)


def deep(dataset: str, ipc: int, num_steps: int) -> ConfigDict:
    """64-pixel sets at one image per class (depth_4_200): ConvNet-4 with ReLU, gradients through 400 target rows."""
    config = get_config(dataset, ipc, num_steps)
    config.model.activation = "relu"
    config.method.update(target_rows=400, rows_at_once=400)
    return _heavy(config)


def deep_many(dataset: str, ipc: int, num_steps: int) -> ConfigDict:
    """Larger 64-pixel sets (depth_4_big): no flips, implicit gradients through 500 images, 256 target rows.

    Published are 500 images in the direct gradient, too, which saves nothing: tau takes all through the network.
    A step takes 44 GiB for 2,000 images, as compiled for a CPU; 27 GiB with ``--config.method.solve_rows=250``.
    """
    config = get_config(dataset, ipc, num_steps)
    config.method.flip = False
    config.model.activation = "relu"
    config.method.update(implicit_rows=500, target_rows=256, pool_rows=256, rows_at_once=500)
    return _heavy(config)


def large(dataset: str, ipc: int, num_steps: int) -> ConfigDict:
    """128-pixel sets (depth_5): ConvNet-5 with ReLU, ridge 0.05."""
    config = get_config(dataset, ipc, num_steps)
    config.model.activation = "relu"
    config.method.update(ridge=5e-2, target_rows=256, rows_at_once=256)
    return _heavy(config)


def _heavy(config: ConfigDict) -> ConfigDict:
    """Seconds a step: signals are obeyed, and progress is told, between dispatches."""
    config.steps_per_dispatch, config.checkpoint_every = 10, 100
    return config


def narrow(config: ConfigDict, width: int = 32) -> ConfigDict:
    """For a few CPU cores: a narrow network, small batches, four times the learning rate for a short run.

    Under Adam a network of 1/4 the width needs about 4 times the rate to change as much: so the pool's and the
    evaluation's rates grow as the width falls.
    """
    config.model.width = width
    config.method.update(batch_size=256, learning_rate=0.0108, pool_learning_rate=5e-5 * 128 / width)
    config.steps_per_dispatch = 25
    config.checkpoint_every = 250
    config.eval.learning_rate = 1e-4 * 128 / width
    config.eval.augmentation = ""
    return config


def digits(ipc: int, num_steps: int) -> ConfigDict:
    """scikit-learn's 8-pixel digits: ConvNet-2."""
    config = narrow(grey("digits", ipc, num_steps))
    config.model.depth = 2
    return config
