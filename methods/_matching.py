"""What the matching methods share: class-balanced batches for any number of devices, and the learnable images.

Rows of a real batch are class-minor: row i is of class i % K. So an equal part of the batch is an equal part of every
class, on one device or many. Synthetic sets are class-major, as everywhere: row j is of class j // ipc.
"""

from math import isqrt

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from rcig import augment, tiles
from rcig.data import sampling
from rcig.errors import UserError, must_be_positive
from rcig.types import Key, Method, Model, PyTree, Synthetic


@struct.dataclass
class Images:
    """What is learned, in the form in which it is stored, its labels, and its optimiser."""

    stored: jax.Array  # (M / formation^2, ...)
    labels: jax.Array  # (M, K)
    opt_state: PyTree

    @property
    def formation(self) -> int:
        """f, where an image stores f^2 examples."""
        return isqrt(len(self.labels) // len(self.stored))

    @property
    def synthetic(self) -> Synthetic:
        """The set (M, ...) that networks see."""
        return Synthetic(tiles.unfold(self.stored, self.formation), self.labels)


def check(method: Method, *positive: str) -> None:
    """Raise UserError for an option that is not positive, a momentum out of range or an unknown augmentation."""
    must_be_positive("method", method, "batch_size", "learning_rate", *positive)
    if not 0 <= method.momentum < 1:
        raise UserError(f"method.momentum must lie in [0, 1), not {method.momentum}")
    augment.find(method.augmentation)


def start(synthetic: Synthetic, optimizer: optax.GradientTransformation, formation: int = 1) -> Images:
    """Return the images at step 0. Raises UserError for a set that cannot be matched class by class."""
    _check_rows(synthetic)
    tiles.check(synthetic.inputs.shape, synthetic.labels.shape[1], formation)
    stored = tiles.fold(jnp.asarray(synthetic.inputs), formation)
    return Images(stored, jnp.asarray(synthetic.labels), optimizer.init(stored))


def check_start(synthetic: Synthetic) -> None:
    """Raise UserError unless the labels say of every row the class it is matched with: see `classes_of`."""
    _check_rows(synthetic)
    if (np.argmax(synthetic.labels, 1) != classes_of(synthetic)).any():
        raise UserError(
            "this method learns as many rows of every class, in the order of the classes, and the labels say "
            "otherwise; leave config.init_labels empty, and config.labels such that a row's largest label is its class"
        )


def _check_rows(synthetic: Synthetic) -> None:
    num_rows, num_classes = synthetic.labels.shape
    if num_rows % num_classes:
        raise UserError(
            f"{num_rows} synthetic examples do not divide over {num_classes} classes; start from as many of every class"
        )


def move(images: Images, gradient: jax.Array, optimizer: optax.GradientTransformation) -> Images:
    """Take one optimiser step along the gradient of the examples (M, ...); the labels stay."""
    _, pull_back = jax.vjp(lambda stored: tiles.unfold(stored, images.formation), images.stored)
    updates, opt_state = optimizer.update(pull_back(gradient)[0], images.opt_state, images.stored)
    return images.replace(stored=optax.apply_updates(images.stored, updates), opt_state=opt_state)


def rows(key: Key, labels: jax.Array, model: Model, size_per_class: int) -> jax.Array:
    """Draw a class-minor batch, (size_per_class * K,) rows: `rcig.data.sampling.balanced`, transposed.

    K is the number of outputs of the network's last layer.
    """
    (num_classes,) = jax.eval_shape(model.init, key)["params"]["head"]["bias"].shape
    class_major = sampling.balanced(key, labels, num_classes, size_per_class)
    return class_major.reshape(num_classes, size_per_class).T.reshape(-1)


def by_position(rows: jax.Array, num_classes: int) -> jax.Array:
    """Split class-minor rows: (B K, ...) -> (B, K, ...). Raises UserError for a part with more of one class."""
    if len(rows) % num_classes:
        raise UserError(
            f"{len(rows)} real examples on a device do not divide over {num_classes} classes; "
            "choose a method.batch_size that is a multiple of the number of devices"
        )
    return rows.reshape(-1, num_classes, *rows.shape[1:])


def classes_of(synthetic: Synthetic) -> jax.Array:
    """Return the classes (M,) int32 of a class-major set's rows."""
    num_rows, num_classes = synthetic.labels.shape
    return jnp.repeat(jnp.arange(num_classes, dtype=jnp.int32), num_rows // num_classes)
