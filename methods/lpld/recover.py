"""Recover: images are optimised until a teacher takes them for their class and its batch norms see the usual.

For a group of images X, all of one class (LPLD) or one of each class (SRe2L), and a random view A of every step,

    loss(X) = CE(f(A(X)), classes) + r sum_l w_l (|var_l(A(X)) - V_l| + |mean_l(A(X)) - M_l|)

with plain norms; l goes over the batch norms, w is stem_weight for the first and 1 for the others; mean_l, var_l are of
the group alone, over images, rows and columns; the teacher runs with its running statistics. (V, M) are the group's
class statistics (LPLD) or the running ones (SRe2L). Adam(0.5, 0.9), lr (1 + cos(pi t / T)) / 2, clipped to displayable
values after every step; the last iterate counts (Yin et al., NeurIPS 2023; Xiao & He, NeurIPS 2024, released code).

Groups are independent. They are taken some at a time and shared out over the devices; a batch of the loop says nothing.
Memory: 20 bytes a number of all images, as compiled for a CPU, on every device; and the activations of some images.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import struct

from methods.lpld.pixels import Pixels
from methods.lpld.views import Views
from rcig import losses, sharding
from rcig.models._batch_norm_statistics import Moments, statistics
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic, Variables

Targets = dict[str, Moments]  # by layer: (G, F), or (1, F) for all groups


@struct.dataclass
class State:
    """Everything that changes, in G groups of n images, and what they are to match."""

    images: jax.Array  # (G, n, H, W, C)
    classes: jax.Array  # (G, n) int32
    opt_state: PyTree
    step: jax.Array  # () int32
    variables: Variables  # the teacher's
    targets: Targets
    pixels: Pixels


@dataclass(frozen=True, eq=False)
class Recover:
    """The stage as a method of the loop. The arrays here enter the state once, and no other program."""

    model: Model
    variables: Variables
    targets: Targets
    pixels: Pixels
    views: Views
    ipc: int
    one_class: bool  # a group is the images of a class, else the i-th image of every class
    decay_steps: int  # T
    learning_rate: float
    statistics_weight: float
    stem_weight: float
    images_at_once: int  # on each device

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the images as they are, in groups."""
        split = lambda a: a.reshape(-1, self.ipc, *a.shape[1:])  # class-major rows -> (K, n, ...)
        grouped = split if self.one_class else lambda a: split(a).swapaxes(0, 1)
        images = grouped(jnp.asarray(synthetic.inputs))
        classes = grouped(jnp.argmax(synthetic.labels, 1).astype(jnp.int32))
        arrays = jax.tree.map(jnp.asarray, (self.variables, self.targets, self.pixels))
        return State(images, classes, self._optimizer().init(images), jnp.int32(0), *arrays)

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return every row; they stand for nothing."""
        return jnp.arange(len(labels))

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one step in every group."""
        num_groups, num_images = state.classes.shape
        most = max(1, self.images_at_once // num_images) * sharding.num_sharing()
        size = next(size for size in range(min(most, num_groups), 0, -1) if num_groups % size == 0)

        def descend(group, images, classes):
            targets = jax.tree.map(lambda a: a[group % len(a)], state.targets)
            loss = jax.value_and_grad(self.loss, has_aux=True)
            key_group = jax.random.fold_in(key, group)
            (_, metrics), gradient = loss(images, key_group, state.step, classes, targets, state.variables)
            return gradient, metrics

        groups = (jnp.arange(num_groups, dtype=jnp.int32), state.images, state.classes)
        some = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), groups)
        gradient, metrics = jax.lax.map(partial(sharding.share, lambda rows: jax.vmap(descend)(*rows)), some)
        return self._move(state, gradient.reshape(state.images.shape)), jax.tree.map(jnp.mean, metrics)

    def loss(
        self, images: jax.Array, key: Key, step: jax.Array, classes: jax.Array, targets: Targets, variables: Variables
    ) -> tuple[jax.Array, Metrics]:
        """Return the loss of one group of images (n, H, W, C) whose statistics should be ``targets`` (F,)."""
        views = self.views.apply(key, images, step / self.decay_steps)
        outputs, seen = statistics(self.model.apply, variables, views, 1)
        distances = {name: _distance(moments, targets[name]) for name, moments in seen.items()}
        weights = dict.fromkeys(distances, 1.0) | {next(iter(seen)): self.stem_weight}
        unusual = sum(weights[name] * distances[name] for name in distances)
        cross_entropy = losses.cross_entropy(outputs.logits, classes)
        loss = cross_entropy + self.statistics_weight * unusual
        told = {"loss": loss, "cross_entropy": cross_entropy, "statistics": unusual}
        return loss, told | {"accuracy": losses.accuracy(outputs.logits, classes)}

    def synthetic(self, state: State) -> Synthetic:
        """Return the images at the 256 levels that a file keeps, class-major, with one-hot labels."""
        num_classes = state.variables["params"]["head"]["bias"].shape[0]
        flat = lambda a: (a if self.one_class else a.swapaxes(0, 1)).reshape(-1, *a.shape[2:])
        labels = jax.nn.one_hot(flat(state.classes), num_classes, dtype=jnp.float32)
        return Synthetic(state.pixels.rounded(flat(state.images)), labels)

    def _move(self, state: State, gradient: jax.Array) -> State:
        direction, opt_state = self._optimizer().update(gradient, state.opt_state)
        opt_state = jax.tree.map(lambda new, old: new.astype(old.dtype), opt_state, state.opt_state)
        rate = optax.cosine_decay_schedule(self.learning_rate, self.decay_steps)(state.step)
        images = state.pixels.clip(state.images - rate.astype(gradient.dtype) * direction.astype(gradient.dtype))
        return state.replace(images=images, opt_state=opt_state, step=state.step + 1)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=0.5, b2=0.9)


def _distance(seen: Moments, target: Moments) -> jax.Array:
    return _norm(seen.var[0] - target.var) + _norm(seen.mean[0] - target.mean)


def _norm(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(x)) + 1e-12)  # a plain norm has no gradient at 0
