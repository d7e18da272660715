"""The standard evaluation: fresh networks are trained on the set alone, the test split is asked once at the end.

    protocol = Standard(**PRESETS["rcig"])
    result = evaluate(key, synthetic, dataset, model, protocol)
    result.accuracy, result.std, result.n                           # mean and population std over networks

Presets of one protocol: RCIG's (Loo et al. 2023, the published evaluation script) and DC's (Zhao et al. 2021; DSA's and
DM's; MTT's, at the learned rate). A set is in model-input space and stays there; nothing is selected on the test split.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from rcig.augment import mirrored
from rcig.errors import UserError, must_be_positive
from rcig.training import Recipe, test_accuracy, train_networks
from rcig.types import Dataset, Key, Model, Synthetic

_OWN_RATE = 0.01  # of a set that has learned none, where the protocol wants the set's own


@dataclass(frozen=True)
class Standard:
    """The options ``eval.*``. The defaults are RCIG's protocol.

    Deviations from RCIG's script: its run without augmentation goes on for another 1.5 times the steps at 1 % of the
    peak rate, ours stops where the schedule ends; it replays the same rows and augmentations in every round, here
    every step has its own key; rows of a large set come in shuffled passes, not independent draws. From DC's: a step
    always has ``batch_size`` rows (no shorter last batch of a pass), `rcig.augment` says how ``dc:`` operations
    interpolate, and a set made with batch norm is judged with it (DC's mode SS; its S has instance norm instead:
    ``eval.model.norm=instance``), without the crops, noise and longer training that DC gives such a network. DC's
    deviations are over five sets, of 20 networks each; ours over the networks of one set.
    """

    num_networks: int = 5  # fresh networks, each with its own key
    num_steps: int = 0  # 0: by epochs; where these are 0 too, 1000 for a set of exactly 10 examples and 2000 otherwise
    num_epochs: int = 0  # DC's E: E + 1 passes over the set
    augmented_epochs: int = 0  # the same for the run with augmentation; 0: as many
    loss: str = "mse"  # of labels as they are; cross_entropy (their largest entry), soft_ or raw_cross_entropy
    # adam (warm-up, cosine to 1 %), sgd (momentum 0.9, rate / 10 after half the steps), or at a constant rate
    optimiser: str = "adam"  # plain_adam, plain_momentum, plain_sgd
    learning_rate: float = 1e-4  # peak; RCIG's authors advise 3e-4 and augmentation for a ResNet; 0: the set's own
    warmup_steps: int = 500  # adam; at most half of the steps, so that a short run still reaches its peak rate
    weight_decay: float = 0.0  # sgd
    batch_size: int = 256  # a set of no more examples (before flips) is taken whole
    flip: bool = False  # append the mirrored examples; on for sets that were distilled with flips
    augmentation: str = ""  # if not empty, also train with it, e.g. "flip_color_crop_rotate_translate_cutout"
    plain: bool = True  # where there is an augmentation: train without it too, and report that first
    test_chunk: int = 256  # test examples at a time

    def __post_init__(self):
        must_be_positive("eval", self, "num_networks", "test_chunk")
        if min(self.num_steps, self.num_epochs, self.augmented_epochs, self.warmup_steps) < 0:
            raise UserError(f"steps and epochs must not be negative; 0 means the rule ({self})")
        if self.weight_decay and self.optimiser != "sgd":
            raise UserError(f"eval.weight_decay is of optimiser sgd, not of {self.optimiser}; set it to 0")
        for augmentation in {"", self.augmentation}:
            self.recipe(10, augmentation)  # checks the names

    def recipe(self, size: int, augmentation: str, own_rate: float = _OWN_RATE) -> Recipe:
        """Return how one network learns from a set of ``size`` examples (before flips); its own rate where wanted.

        Raises UserError for a rate of the set's own at which nothing is learned.
        """
        if not (self.learning_rate or own_rate > 0):
            told = f"the set's own learning rate must be positive, not {own_rate:.3g}"
            raise UserError(f"{told}; set --config.eval.learning_rate=0.01")
        rows = 2 * size if self.flip else size
        batch_size = rows if size <= self.batch_size else self.batch_size
        epochs = (self.augmented_epochs if augmentation else 0) or self.num_epochs
        num_steps = self.num_steps or (1000 if size == 10 else 2000)
        drop_step = num_steps // 2
        if epochs and not self.num_steps:  # the reference drops after epoch E // 2 + 1, counted from 0 to E
            num_steps, drop_step = (n * math.ceil(rows / batch_size) for n in (epochs + 1, epochs // 2 + 2))
        return Recipe(
            num_steps,
            batch_size,
            self.loss,
            self.optimiser,
            self.learning_rate or own_rate,
            min(self.warmup_steps, num_steps // 2),
            drop_step,
            self.weight_decay,
            augmentation,
        )


# Under DC's protocol an augmentation replaces the run without.
PRESETS: dict[str, dict[str, Any]] = {
    "rcig": {},
    "dc": {
        "num_networks": 20,
        "num_epochs": 300,
        "augmented_epochs": 1000,
        "loss": "cross_entropy",
        "optimiser": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "plain": False,
    },
}
PRESETS["dsa"] = PRESETS["dc"] | {"augmentation": "dsa:color_crop_cutout_flip_scale_rotate"}  # DSA's and DM's
PRESETS["mtt"] = PRESETS["dsa"] | {"num_networks": 5, "learning_rate": 0.0}  # last value; the paper reports the best

WRITTEN = ("mnist", "mnist_rgb", "svhn_cropped", "digits", "usps")  # a mirrored digit is another one, or none
# What a preset says otherwise of a data set, under every protocol that shares it: (preset, data set) -> options.
ON_DATASETS: dict[tuple[str, str], dict[str, Any]] = {("dc", "mnist"): {"augmentation": "dc:crop_scale_rotate"}} | {
    (preset, name): {"augmentation": "dsa:color_crop_cutout_scale_rotate"}
    for preset in ("dsa", "mtt")
    for name in WRITTEN
}


@dataclass(frozen=True, eq=False)
class Result:
    """Test accuracies of fresh networks, in [0, 1]."""

    accuracies: np.ndarray  # (n,)
    augmentation: str = ""  # with which they were trained
    augmented: "Result | None" = None  # the same with augmentation, where both were asked for
    details: Mapping[str, Any] = field(default_factory=dict)  # what else a protocol measures, JSON-able

    @property
    def accuracy(self) -> float:
        """The mean over networks."""
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float:
        """The population standard deviation over networks (ddof 0), as both references report."""
        return float(np.std(self.accuracies))

    @property
    def n(self) -> int:
        """How many networks."""
        return len(self.accuracies)

    @classmethod
    def pooled(cls, results: Sequence["Result"]) -> "Result":
        """Return the accuracies of several results as one, without their details."""
        augmented = [one.augmented for one in results if one.augmented]
        accuracies = np.concatenate([one.accuracies for one in results])
        return cls(accuracies, results[0].augmentation, cls.pooled(augmented) if augmented else None)

    def summary(self) -> dict[str, Any]:
        """Return the numbers of a table's row, flat and JSON-able: accuracy, std, n, and those with augmentation."""
        row = {"accuracy": self.accuracy, "std": self.std, "n": self.n}
        if self.augmented:
            row |= {"accuracy_augmented": self.augmented.accuracy, "std_augmented": self.augmented.std}
        return row


def evaluate(
    key: Key,
    synthetic: Synthetic,
    dataset: Dataset,
    model: Model,
    protocol: Standard,
) -> Result:
    """Train fresh networks on the set under a protocol and test them.

    Equal arguments give equal results; a second call with the same model and protocol compiles nothing.

    Args: synthetic inputs (M, *example_shape), labels (M, K), in the space of ``dataset``.
    Raises: UserError when the set does not fit the data set or the protocol wants images of something else.
    """
    check_fits(synthetic, dataset, images=bool(protocol.flip or protocol.augmentation))
    size = len(synthetic.inputs)
    train_set = Synthetic(*mirrored(synthetic.inputs, synthetic.labels)) if protocol.flip else synthetic
    key_plain, key_augmented = jax.random.split(key)

    def run(key, augmentation):
        recipe = protocol.recipe(size, augmentation, own_rate(synthetic))
        variables = train_networks(key, model, train_set, recipe, protocol.num_networks)
        return test_accuracy(model, variables, dataset.test, protocol.test_chunk)

    if not protocol.augmentation:
        return Result(run(key_plain, ""))
    plain = run(key_plain, "") if protocol.plain else None
    augmented = Result(run(key_augmented, protocol.augmentation), protocol.augmentation)
    return augmented if plain is None else Result(plain, augmented=augmented)


def own_rate(synthetic: Synthetic) -> float:
    """Return the mean of a set's learned rates, for protocols that want one."""
    return _OWN_RATE if synthetic.learning_rates is None else float(np.mean(synthetic.learning_rates))


def check_fits(synthetic: Synthetic, dataset: Dataset, images: bool = False, protocol: str = "") -> None:
    """Raise UserError unless a set is finite and has the shapes of a data set, of images where they are wanted.

    Args: images, whether flip or augmentation want them; protocol, the name of one that wants them anyway.
    """
    shape, labels = tuple(synthetic.inputs.shape[1:]), (len(synthetic.inputs), dataset.num_classes)
    if shape != dataset.example_shape or synthetic.labels.shape != labels:
        raise UserError(
            f"the set has examples {shape} and labels {synthetic.labels.shape}, data set {dataset.name} wants "
            f"{dataset.example_shape} and {labels}; set --config.dataset to the one it was distilled from"
        )
    if protocol and len(shape) != 3:
        raise UserError(f"protocol {protocol} wants images (H, W, C), not {shape}; use --protocol=standard")
    if images and len(shape) != 3:
        raise UserError(f"flip and augmentation want images (H, W, C), not {shape}; switch them off")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((synthetic.inputs, synthetic.labels))):
        raise UserError("the set holds NaN or infinite numbers; distil it again from an earlier checkpoint")


make = Standard
