"""DC and DSA: gradient matching (Zhao et al., ICLR 2021; Zhao & Bilen, ICML 2021).

One step, at one network theta, with L the cross-entropy and A an augmentation drawn for each class c (DSA; DC: none):

    loss = sum_c distance(dL(theta, A_c(synthetic_c)) / dtheta, dL(theta, A_c(real_c)) / dtheta)

then SGD with momentum on the images (or on those that store them: rcig/tiles.py), and either some epochs of
training theta on the synthetic set or, after ``match_steps`` steps, a fresh theta. So one image per class never trains
a network.

A network with batch norm is matched with its running statistics, which 16 real examples of every class move first, as
in the reference.
Deviations: minibatches of a set larger than ``network_batch_size`` are independent draws, not passes over the set; the
16 examples are the first of the real batch (under pmap of each device's part, whose statistics are averaged); a class
with fewer than ``batch_size`` examples is gone through again, where the reference's batch shrinks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from methods import _matching
from rcig import augment, losses, pool, sharding
from rcig.chunks import spread_rows
from rcig.errors import UserError, unknown
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic, Variables

_EPOCHS = {10: 50, 20: 25, 30: 20, 40: 15, 50: 10}  # the reference's table; what it lacks lies on the lines between
_MOST_STEPS = 50
_STATISTICS = 16  # real examples of each class that move the running statistics


@struct.dataclass
class State:
    """The images, and the network they are matched at; its age says which match of the iteration comes next."""

    images: _matching.Images
    network: pool.Member


def ours(a: PyTree, b: PyTree) -> jax.Array:
    """Return sum (1 - cosine) over layers and output units. () scalar.

    A kernel, (h, w, in, out) or (in, out), has a vector for each output, its last axis; PyTorch's is the first. Biases
    and norms' scales (rank 1) do not count.
    """

    def layer(a, b):
        a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
        return jnp.sum(1 - _cosine(jnp.sum(a * b, 0), jnp.sum(a * a, 0), jnp.sum(b * b, 0)))

    layers = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(layer(*pair) for pair in layers if pair[0].ndim > 1)


def squared_distance(a: PyTree, b: PyTree) -> jax.Array:
    """Return the sum of squares, as the reference's "mse" is, over all parameters, biases too. () scalar."""
    difference = optax.tree.sub(a, b)
    return optax.tree.vdot(difference, difference)


def cos(a: PyTree, b: PyTree) -> jax.Array:
    """Return 1 - cosine of all parameters as one vector, biases too. () scalar."""
    return 1 - _cosine(optax.tree.vdot(a, b), optax.tree.vdot(a, a), optax.tree.vdot(b, b))


def _cosine(product, a_squared, b_squared):
    return product / (_root(a_squared) * _root(b_squared) + 1e-6)


def _root(x):
    """Square root whose derivative at 0 is 0, as that of PyTorch's norm."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


DISTANCES: dict[str, Callable[[PyTree, PyTree], jax.Array]] = {"ours": ours, "mse": squared_distance, "cos": cos}


@dataclass(frozen=True)
class GradientMatching:
    """The method's hyperparameters; defaults are DC's. DSA is ``augmentation="dsa:..."``."""

    model: Model
    batch_size: int = 256  # real examples of each class a step
    learning_rate: float = 0.1  # of the images; for an MLP the authors advise 0.01
    momentum: float = 0.5
    augmentation: str = "none"  # as in rcig.augment
    distance: str = "ours"  # mse, cos
    classes_together: int = 1  # whose gradients are matched as one; all: DCC without its class-wise warm-up
    formation: int = 1  # f: an image stores f^2 examples, made small; ipc counts examples (IDC: 2)
    match_steps: int = 0  # steps with one network; 0: as many as images per class, at most 50
    network_epochs: int = 0  # of training the network between two of them; 0: the reference's table by ipc
    network_learning_rate: float = 0.01  # plain SGD
    network_batch_size: int = 256
    rows_at_once: int = 0  # of the real examples' forward pass; 0 chooses by platform

    def __post_init__(self):
        _matching.check(self, "formation", "classes_together", "network_learning_rate", "network_batch_size")
        if self.distance not in DISTANCES:
            raise unknown("method.distance", self.distance, DISTANCES)
        if self.match_steps < 0 or self.network_epochs < 0:
            raise UserError(
                f"method.match_steps {self.match_steps} and method.network_epochs {self.network_epochs} must not be "
                "negative; 0 means the rule"
            )

    check_start = staticmethod(_matching.check_start)

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the images as they are, with an idle optimiser, and a fresh network."""
        num_classes = synthetic.labels.shape[1]
        if num_classes % self.classes_together:
            raise UserError(f"method.classes_together {self.classes_together} does not divide {num_classes} classes")
        images = _matching.start(synthetic, self._optimizer(), self.formation)
        return State(images, pool.fresh(key, self.model.init, self._network_optimizer()))

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return ``batch_size`` rows of every class, class-minor."""
        return _matching.rows(key, labels, self.model, self.batch_size)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Match all classes once, then train the network or replace it. ``accuracy``: the network's on the batch."""
        key_match, key_train, key_renew = jax.random.split(key, 3)
        network = state.network._replace(variables=self._with_statistics(state.network.variables, batch))
        synthetic = state.images.synthetic
        (loss, accuracy), gradient = self.matching_gradient(key_match, network.variables, synthetic, batch)
        images = _matching.move(state.images, gradient, self._optimizer())

        def train(network):
            return self._train(key_train, network, images.synthetic)

        def renew(network):
            return pool.renew(key_renew, network, self.model.init, self._network_optimizer(), max_age=0)

        match_steps, network_steps = self.schedule(*synthetic.labels.shape)
        network = jax.lax.cond(network.age >= (match_steps - 1) * network_steps, renew, train, network)
        return State(images, network), {"loss": loss, "accuracy": accuracy}

    def schedule(self, num_rows: int, num_classes: int) -> tuple[int, int]:
        """Return the matches at one network, and the optimiser steps that train it between two of them."""
        ipc = num_rows // num_classes
        epochs = self.network_epochs or round(np.interp(ipc, list(_EPOCHS), list(_EPOCHS.values())))
        return self.match_steps or min(ipc, _MOST_STEPS), epochs * -(-num_rows // self.network_batch_size)

    def matching_gradient(
        self, key: Key, variables: Variables, synthetic: Synthetic, batch: Batch
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """Return (loss, accuracy) and the loss's gradient (M, ...). Memory: one class at a time."""
        num_classes, classes = synthetic.labels.shape[1], _matching.classes_of(synthetic)
        change = augment.siamese(self.augmentation, num_classes)
        real_classes = jnp.arange(len(batch.inputs), dtype=jnp.int32) % num_classes
        real = (batch.inputs, real_classes)
        real = jax.tree.map(lambda a: _matching.by_position(a, num_classes).swapaxes(0, 1), real)  # (K, B, ...)
        inputs, pull_back = jax.vjp(lambda x: change(key, x, classes), synthetic.inputs)
        learned = jax.tree.map(lambda a: a.reshape(num_classes, -1, *a.shape[1:]), (inputs, classes))  # (K, ipc, ...)
        groups = num_classes // self.classes_together
        pairs = jax.tree.map(lambda a: a.reshape(groups, -1, *a.shape[2:]), (real, learned))

        def match(pair):
            (real, real_labels), (inputs, labels) = pair
            real = change(key, real, real_labels)
            target, accuracy = sharding.mean(self._gradient(variables, real, real_labels, num_classes))

            def distance(inputs):
                return DISTANCES[self.distance](self._gradient(variables, inputs, labels, num_classes)[0], target)

            value, gradient = jax.value_and_grad(distance)(inputs)
            return value, accuracy, gradient

        values, accuracies, gradient = jax.lax.map(match, pairs)
        (gradient,) = pull_back(gradient.reshape(inputs.shape))
        return (jnp.sum(values), jnp.mean(accuracies)), gradient

    def synthetic(self, state: State) -> Synthetic:
        """Return the images and the labels they started with."""
        return state.images.synthetic

    def _gradient(self, variables: Variables, inputs: jax.Array, labels: jax.Array, num_classes: int):
        """Return dL/dtheta at running statistics, and the accuracy."""

        def loss(params):
            apply = lambda variables, x: self.model.apply(variables, x, False, None)[0].logits
            logits = spread_rows(apply, {**variables, "params": params}, inputs, self.rows_at_once)
            return losses.cross_entropy(logits, labels), losses.accuracy(logits, labels)

        return jax.grad(loss, has_aux=True)(variables["params"])

    def _with_statistics(self, variables: Variables, batch: Batch) -> Variables:
        """Move running statistics, where the network has any, by a few real examples of every class."""
        if "batch_stats" not in variables:
            return variables
        num_classes = len(variables["params"]["head"]["bias"])
        _, after = self.model.apply(variables, batch.inputs[: _STATISTICS * num_classes], True, None)
        return {**variables, "batch_stats": sharding.mean(after["batch_stats"])}

    def _train(self, key: Key, network: pool.Member, synthetic: Synthetic) -> pool.Member:
        """Train the network on the synthetic set: cross-entropy on the classes, fresh augmentations."""
        num_rows, num_classes = synthetic.labels.shape
        targets = jax.nn.one_hot(_matching.classes_of(synthetic), num_classes, dtype=synthetic.inputs.dtype)
        options = (synthetic.inputs, targets, self.network_batch_size, self.augmentation)
        gradient = pool.learning(self.model, losses.soft_cross_entropy, *options)
        _, num_steps = self.schedule(num_rows, num_classes)
        return pool.train(key, network, gradient, self._network_optimizer(), num_steps)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.sgd(self.learning_rate, self.momentum)

    def _network_optimizer(self) -> optax.GradientTransformation:
        return optax.sgd(self.network_learning_rate)


make = GradientMatching
