"""What SRe2L's, CDA's, LPLD's and RDED's published settings have in common: configs/lpld*.py, sre2l*.py, rded*.py.

SRe2L: Yin et al., NeurIPS 2023; RDED: Sun et al., CVPR 2024; CDA: Yin & Shen, TMLR 2024; LPLD: Xiao & He, NeurIPS 2024.
The functions take any ipc; an arm is a change of LPLD's config. The teacher is a ResNet that every run
trains for itself, or takes from another run's workdir (method.teacher). Test images are the whole middle square, made
to measure (the papers' are cut out of a larger one, or not square), and channels are standardised as RCIG's.
"""

from ml_collections import ConfigDict

from configs import default
from configs._families import cells


def get_config() -> ConfigDict:
    """LPLD on digits: the family's quickest."""
    return digits(10)


def cell(name: str) -> ConfigDict:
    """Return a cell of LPLD by name: imagenet2012_ipc50, tiny_imagenet_ipc50, mnist_ipc10, digits_ipc10."""
    dataset, ipc, _ = cells.parse(name)
    known = {"imagenet2012": imagenet, "tiny_imagenet": tiny_imagenet, "mnist": mnist, "digits": digits}
    if dataset not in known:
        raise ValueError(f"LPLD has settings for {', '.join(known)}, not for {dataset!r}; override the nearest")
    return known[dataset](ipc)


def imagenet(ipc: int) -> ConfigDict:
    """LPLD on ImageNet-1K at 224 pixels. The published teacher is torchvision's ResNet18, 69.8 % after 90 epochs."""
    config = _common("imagenet2012", ipc, 4000)
    config.model = resnet(stem="large")
    config.method = _lpld(4000, learning_rate=0.25, statistics_weight=0.01, jitter=32, jitter_back=0)
    config.method.update(recover_flip=True, view_flip=True)
    config.method.update(_teacher(steps=450_000, batch_size=256, rate=0.1, decay=1e-4))
    config.method.label_batch_size = 128
    config.eval.preset = "imagenet"
    return config


def imagenet21k(ipc: int) -> ConfigDict:
    """LPLD on ImageNet-21K-P at 224 pixels, from a folder of pictures by class: pixels in [0, 1], cutout for labels.

    The published teacher learned for 80 epochs by a recipe of its own. Its labels are of views that are not mirrored.
    """
    config = _common("folder", ipc, 2000)
    config.data.resolution, config.preprocessing = 224, "none"
    config.model = resnet(stem="large")
    config.method = _lpld(2000, learning_rate=0.05, statistics_weight=0.25, jitter=32, jitter_back=0)
    config.method.recover_flip = True
    config.method.update(_teacher(steps=3_450_000, batch_size=256, rate=0.1, decay=1e-4))
    config.method.update({"label_batch_size": 32, "mix": "cutout"})
    config.eval.preset = "imagenet21k"
    return config


def tiny_imagenet(ipc: int) -> ConfigDict:
    """LPLD on Tiny-ImageNet; the published teacher learned for 50 epochs: a better one recovers worse images.

    Its rate was 0.2 with a warm-up and a cosine; without them 0.1 is taken.
    """
    config = _common("tiny_imagenet", ipc, 4000)
    config.method = _lpld(4000, learning_rate=0.1, statistics_weight=0.05, min_scale=0.08)
    config.method.update(recover_flip=True, view_flip=True, images_at_once=1000)
    config.method.update(_teacher(steps=19_500, batch_size=256, rate=0.1, decay=1e-4))
    config.method.update({"label_epochs": 100, "label_batch_size": 64, "mix": "none"})
    config.eval.preset = "tiny"
    return config


def mnist(ipc: int) -> ConfigDict:
    """LPLD on MNIST with three stages of 16, 32 and 64 channels."""
    config = _common("mnist", ipc, 1000)
    config.model = resnet(depth=10, stages=3, width=16)
    config.method = _lpld(1000, learning_rate=0.1, statistics_weight=0.05, min_scale=0.35, jitter=2, jitter_back=2)
    config.method.update({"teacher_steps": 1500, "teacher_batch_size": 64, "label_batch_size": 20})
    config.eval.preset = "small"
    return config


def tiny20(ipc: int) -> ConfigDict:
    """LPLD on 20 classes of Tiny-ImageNet, from a data_dir that holds no more; stages of 32, 64, 128 channels.

    The network has ImageNet's stem, which a few CPU cores run ten times faster than Tiny-ImageNet's.
    """
    config = tiny_imagenet(ipc)
    config.model = resnet(depth=10, stages=3, width=32, stem="large")
    config.num_steps = config.method.decay_steps = 300
    config.checkpoint_every = 30
    config.method.update({"teacher_optimiser": "adam", "teacher_learning_rate": 1e-3, "teacher_weight_decay": 0.0})
    config.method.teacher_steps = 1200
    config.method.update({"teacher_batch_size": 128, "label_epochs": 60, "label_batch_size": 20})
    config.method.images_at_once = 20
    config.eval.preset = "small"
    return config


def digits(ipc: int) -> ConfigDict:
    """LPLD on scikit-learn's 8-pixel digits with two stages of 16 and 32 channels: minutes on two cores."""
    config = _common("digits", ipc, 500)
    config.model = resnet(depth=10, stages=2, width=16)
    config.method = _lpld(500, learning_rate=0.1, statistics_weight=0.05, min_scale=0.35, jitter=1, jitter_back=1)
    config.method.update({"teacher_steps": 600, "teacher_batch_size": 64, "teacher_learning_rate": 3e-3})
    config.method.update({"label_epochs": 300, "label_batch_size": 20})
    config.eval.preset = "small"
    return config


def sre2l(config: ConfigDict) -> ConfigDict:
    """The same with SRe2L's groups and statistics (its weight of statistics on Tiny-ImageNet was 1, not 0.05)."""
    config.method.supervision = "global"
    return config


def rded(config: ConfigDict, pieces: int = 1) -> ConfigDict:
    """The same with RDED's images: realistic crops, ``pieces`` x ``pieces`` of them stitched; nothing is optimised.

    Labels are made as LPLD's, to compare the images alone: RDED's own crops are at least 1 / ``pieces`` of one.
    """
    shared = ("label_epochs", "label_batch_size", "mix", "view_flip", "min_scale", "pruning_ratio")
    kept = {"min_scale": 0.08} | {
        name: value for name, value in config.method.items() if name.startswith("teacher") or name in shared
    }
    config.method = ConfigDict(kept | {"name": "rded", "pieces": pieces})
    config.num_steps = config.steps_per_dispatch = config.checkpoint_every = 1
    return config


def resnet(**options) -> ConfigDict:
    """A ResNet as torchvision makes it: batch norm, average pooling over the whole image."""
    shared = {"name": "resnet", "norm": "batch", "head_pooling": "global", "init": "kaiming_out"}
    return ConfigDict(shared | options)


def _common(dataset: str, ipc: int, num_steps: int) -> ConfigDict:
    config = default.get_config()
    config.dataset, config.ipc, config.preprocessing = dataset, ipc, "standard"
    config.initialization, config.labels.name = "normal", "one_hot"
    config.num_steps, config.checkpoint_every = num_steps, max(num_steps // 10, 1)
    config.model = resnet()
    config.eval = ConfigDict({"protocol": "soft_labels"})
    return config


def _lpld(num_steps: int, **options) -> ConfigDict:
    return ConfigDict({"name": "lpld", "decay_steps": num_steps} | options)


def _teacher(steps: int, batch_size: int, rate: float, decay: float) -> dict:
    """SGD with momentum; crops and flips as this library's augmentation has them."""
    told = {"steps": steps, "batch_size": batch_size, "learning_rate": rate, "weight_decay": decay}
    told |= {"optimiser": "sgd", "augmentation": "flip+crop"}
    return {f"teacher_{name}": value for name, value in told.items()}
