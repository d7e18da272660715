"""Starting sets: what a distillation begins from, and what it must beat.

    synthetic = initialize("real", jax.random.key(0), dataset, ipc=10)  # inputs (10 K, ...), labels (10 K, K)

Rows are class-major (row i is of class i // ipc), labels are centred one-hot, everything is float32.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rcig.errors import UserError, unknown
from rcig.losses import centred_targets
from rcig.types import Dataset, Key, Synthetic


def real(key: Key, dataset: Dataset, ipc: int) -> Synthetic:
    """Take ``ipc`` random training examples of every class, without replacement.

    Raises: UserError when ipc is below 1 or larger than the smallest class.
    """
    _check_ipc(ipc)
    labels = np.asarray(dataset.train.labels)
    counts = np.bincount(labels, minlength=dataset.num_classes)
    smallest = int(np.argmin(counts))
    if ipc > counts[smallest]:
        raise UserError(
            f"ipc {ipc} is more than class {dataset.class_names[smallest]!r} of {dataset.name} has "
            f"({counts[smallest]} examples); choose at most {counts[smallest]}"
        )
    order = np.asarray(jax.random.permutation(key, len(labels)))
    by_class = order[np.argsort(labels[order], kind="stable")]  # (N,), shuffled within each class
    first = np.cumsum(counts) - counts
    rows = (first[:, None] + np.arange(ipc)).reshape(-1)  # (K ipc,)
    inputs = np.asarray(dataset.train.inputs[by_class[rows]], np.float32)
    return Synthetic(jnp.asarray(inputs), _labels(dataset.num_classes, ipc))


def noise(key: Key, dataset: Dataset, ipc: int) -> Synthetic:
    """Draw every input from 0.3 N(0, 1), RCIG's noise, in model-input space. Raises: UserError when ipc is below 1."""
    _check_ipc(ipc)
    shape = (dataset.num_classes * ipc, *dataset.example_shape)
    return Synthetic(0.3 * jax.random.normal(key, shape, jnp.float32), _labels(dataset.num_classes, ipc))


def everything(dataset: Dataset) -> Synthetic:
    """Return the whole training split as if it were a distilled set (rows as they come, not class-major)."""
    labels = centred_targets(jnp.asarray(dataset.train.labels), dataset.num_classes)
    return Synthetic(jnp.asarray(np.asarray(dataset.train.inputs, np.float32)), labels)


STARTS = {"real": real, "noise": noise}


def initialize(name: str, key: Key, dataset: Dataset, ipc: int) -> Synthetic:
    """Make the starting set called ``name``. Raises: UserError that lists the known names."""
    if name not in STARTS:
        raise unknown("starting set", name, STARTS)
    return STARTS[name](key, dataset, ipc)


def _labels(num_classes: int, ipc: int) -> jax.Array:
    return centred_targets(jnp.repeat(jnp.arange(num_classes), ipc), num_classes)


def _check_ipc(ipc: int) -> None:
    if ipc < 1:
        raise UserError(f"ipc must be at least 1, not {ipc}; choose how many examples each class gets")
