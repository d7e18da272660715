"""DM: distribution matching (Zhao & Bilen, "Dataset Condensation with Distribution Matching", WACV 2023).

One step, with psi the features of a network drawn afresh and A an augmentation drawn for each class c:

    loss = sum_c | mean_i psi(A_c(real_ci)) - mean_j psi(A_c(synthetic_cj)) |^2,   SGD with momentum on the images

No network is trained and nothing is differentiated twice. All classes go through the network together.

A network with batch norm sees all real images as one batch and all synthetic ones as another, in training mode (under
``parallel="pmap"`` the real batch's statistics are those of each device's part).
Deviation: a class with fewer than ``batch_size`` examples is gone through again, where the reference's batch shrinks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax

from methods import _matching
from methods._matching import Images
from rcig import augment, sharding
from rcig.chunks import spread_rows
from rcig.types import Batch, Key, Metrics, Model, Synthetic, Variables


@dataclass(frozen=True)
class DistributionMatching:
    """The method's hyperparameters; defaults are the paper's for CIFAR-10 at up to 50 images per class."""

    model: Model
    batch_size: int = 256  # real examples of each class a step
    learning_rate: float = 1.0  # of the images; the paper's is 10 from 100 images per class on
    momentum: float = 0.5
    augmentation: str = "dsa:color_crop_cutout_flip_scale_rotate"  # none: nothing; for digits leave out flip
    formation: int = 1  # f: an image stores f^2 examples, made small; ipc counts examples
    rows_at_once: int = 0  # of a network pass without batch norm; 0 chooses by platform

    def __post_init__(self):
        _matching.check(self, "formation")

    check_start = staticmethod(_matching.check_start)

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> Images:
        """Return the images as they are, with an idle optimiser."""
        return _matching.start(synthetic, self._optimizer(), self.formation)

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return ``batch_size`` rows of every class, class-minor."""
        return _matching.rows(key, labels, self.model, self.batch_size)

    def step(self, key: Key, state: Images, batch: Batch) -> tuple[Images, Metrics]:
        """Match the means once. ``accuracy``: real examples whose features are nearest to their own class's mean."""
        key_network, key_augment = jax.random.split(key)
        variables = self.model.init(key_network)
        loss = jax.value_and_grad(self.loss, has_aux=True)
        (value, accuracy), gradient = loss(state.synthetic.inputs, state.synthetic, key_augment, variables, batch)
        return _matching.move(state, gradient, self._optimizer()), {"loss": value, "accuracy": accuracy}

    def loss(
        self, inputs: jax.Array, synthetic: Synthetic, key: Key, variables: Variables, batch: Batch
    ) -> tuple[jax.Array, jax.Array]:
        """Return the loss at one network and the accuracy. inputs (M, ...) stand in for the set's own."""
        num_classes, classes = synthetic.labels.shape[1], _matching.classes_of(synthetic)
        change = partial(augment.siamese(self.augmentation, num_classes), key)
        features = self._features(variables, change, batch.inputs, jnp.arange(len(batch.inputs)) % num_classes)
        features = _matching.by_position(jax.lax.stop_gradient(features), num_classes)  # (B, K, D)
        real = sharding.mean(jnp.mean(features, 0))  # (K, D)
        learned = self._features(variables, change, inputs, classes)
        learned = jnp.mean(learned.reshape(num_classes, -1, learned.shape[-1]), 1)  # (K, D)
        return jnp.sum(jnp.square(real - learned)), sharding.mean(_nearest(features, learned))

    def synthetic(self, state: Images) -> Synthetic:
        """Return the images and the labels they started with."""
        return state.synthetic

    def _features(self, variables: Variables, change: Callable, inputs: jax.Array, classes: jax.Array) -> jax.Array:
        """Return the features (B, D) of images, changed, in running-statistics mode some at a time."""
        if "batch_stats" in variables:
            return self.model.apply(variables, change(inputs, classes), True, None)[0].features
        features = lambda variables, rows: self.model.apply(variables, change(*rows), False, None)[0].features
        return spread_rows(features, variables, (inputs, classes), self.rows_at_once)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.sgd(self.learning_rate, self.momentum)


def _nearest(features: jax.Array, means: jax.Array) -> jax.Array:
    """Return the share of features (B, K, D) that are nearest to their own class's of the means (K, D)."""
    distance = jnp.sum(jnp.square(means), -1)[None, None] - 2 * jnp.einsum("bkd,cd->bkc", features, means)
    own = jnp.arange(len(means))[None]
    return jnp.mean(jnp.argmin(distance, -1) == own, dtype=jnp.float32)


make = DistributionMatching
