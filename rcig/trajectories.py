"""Expert trajectories: the networks that learn the real data, as they are after every epoch (Cazenavette et al. 2022).

    experts = record(key, model, dataset, Expert(epochs=50), 100, folder)      # (100, 51, P), mapped from the disk
    params = unflatten(model)(experts[0, 3])                                   # expert 0 after three epochs

Expert i is a function of the folder's key and i. ``snapshots.bin`` holds the experts one after the other, each its
flattened parameters before the first epoch and after every one; ``experts.json`` says what was recorded, with which
key, and the SHA-256 of every whole expert. What a kill or a torn copy leaves does not match, and is recorded again.

Deviation: an epoch is ``N // batch_size`` whole batches; the reference's last one is shorter.
"""

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rcig import training
from rcig.errors import UserError
from rcig.files import digest, disk_errors, json_digest, locked, write
from rcig.initialize import everything
from rcig.metrics import Progress
from rcig.types import Dataset, Key, Model, PyTree


@dataclass(frozen=True)
class Expert:
    """How an expert learns: plain SGD on the cross-entropy. The defaults are the paper's."""

    epochs: int = 50
    batch_size: int = 256
    learning_rate: float = 0.01
    augmentation: str = "dsa:color_crop_cutout_flip_scale_rotate"


class _Book(NamedTuple):
    """What ``experts.json`` says."""

    settings: dict[str, Any]
    key: list[int]  # jax.random.key_data of the key of all experts
    sha256: dict[str, str]  # by the expert's number


def flatten(params: PyTree) -> jax.Array:
    """Return all parameters as one vector (P,)."""
    return ravel_pytree(params)[0]


def unflatten(model: Model) -> Callable[[jax.Array], PyTree]:
    """Return the inverse of `flatten` for the parameters of a network."""
    return ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), _shapes(model)))[1]


def record(key: Key, model: Model, dataset: Dataset, expert: Expert, count: int, folder: Path) -> np.memmap:
    """Return the first ``count`` experts of a folder, (count, epochs + 1, P); those it lacks are trained and added.

    A folder that has experts goes on with the key that it began with, so runs of any seed may share it, also at the
    same time. Raises UserError for a folder of experts of another kind, and where the disk refuses; networks are told
    apart by the shapes of their parameters, not by activation or pooling.
    Cost: reading ``count`` experts, to check them; training what is missing.
    """
    settings = json.loads(json.dumps(_settings(model, dataset, expert)))
    snapshot = jax.eval_shape(flatten, _shapes(model))
    path, shape, dtype = folder / "snapshots.bin", (expert.epochs + 1, *snapshot.shape), np.dtype(snapshot.dtype)
    if _missing(path, _read(folder, settings, key), count, shape, dtype):
        with locked(folder / ".lock"):  # another run that records into it is waited for
            book = _read(folder, settings, key)
            _fill(path, book, _missing(path, book, count, shape, dtype), model, dataset, expert)
    return np.memmap(path, dtype, "r", shape=(count, *shape))


def fingerprint(folder: Path, count: int) -> str:
    """Return a digest of the first ``count`` experts of a folder, all of which are recorded."""
    sha256 = json.loads((folder / "experts.json").read_text())["sha256"]
    return json_digest([sha256[str(number)] for number in range(count)])


def _fill(path: Path, book: _Book, missing: list[int], model: Model, dataset: Dataset, expert: Expert) -> None:
    """Train the missing experts, one a device, and put each in its place."""
    train_set, key = everything(dataset), jax.random.wrap_key_data(jnp.array(book.key, jnp.uint32))
    every = max(len(dataset.train.labels) // expert.batch_size, 1)
    settings = (expert.batch_size, "cross_entropy", "plain_sgd", expert.learning_rate)
    recipe = training.Recipe(expert.epochs * every, *settings, augmentation=expert.augmentation)
    flatten_all = jax.jit(jax.vmap(lambda variables: flatten(variables["params"])))
    with Progress(len(missing)) as progress:
        together = jax.local_device_count()  # and lost together when killed
        for done in range(0, len(missing), together):
            numbers = missing[done : done + together]
            keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.array(numbers))
            trained = training.trajectory(keys, model, train_set, recipe, every)
            snapshots = np.stack([np.asarray(flatten_all(variables)) for variables in trained], 1)
            _put(path, numbers, snapshots)
            book.sha256.update({str(i): digest(one) for i, one in zip(numbers, snapshots, strict=True)})
            write(path.with_name("experts.json"), (json.dumps(book._asdict(), indent=1) + "\n").encode())
            progress.update(done + len(numbers), {})


def _put(path: Path, numbers: list[int], snapshots: np.ndarray) -> None:
    """Write experts to their places; whole or not, their digests say later."""
    with disk_errors(path.parent), open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
        for number, one in zip(numbers, snapshots, strict=True):
            file.seek(number * one.nbytes)
            file.write(one.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _missing(path: Path, book: _Book, count: int, shape: tuple[int, ...], dtype: np.dtype) -> list[int]:
    """Return the numbers, of the first ``count``, of experts that are not there or not as they were recorded."""
    size = math.prod(shape) * dtype.itemsize
    held = path.stat().st_size // size if path.exists() else 0

    def sound(number):
        at = partial(np.memmap, path, dtype, "r", number * size, shape)
        return number < held and digest(at()) == book.sha256.get(str(number))

    return [number for number in range(count) if not sound(number)]


def _read(folder: Path, settings: dict[str, Any], key: Key) -> _Book:
    """Return what the folder says of its experts, which must be of our kind; where it is new, what it is to say."""
    try:
        book = _Book(**json.loads((folder / "experts.json").read_text()))
        there = {name: book.settings[name] for name in settings}
        jax.random.wrap_key_data(jnp.array(book.key, jnp.uint32))
        digests = dict(book.sha256)
    except FileNotFoundError:
        return _Book(settings, np.asarray(jax.random.key_data(key)).tolist(), {})
    except (OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise UserError(f"{folder} must hold expert trajectories ({error}); delete it, or choose another") from error
    for name, wanted in settings.items():
        if there[name] != wanted:
            raise UserError(
                f"{folder} holds experts of another {name}: {there[name]} there and {wanted} here; choose another "
                "folder, or the same options"
            )
    return book._replace(sha256=digests)


def _settings(model: Model, dataset: Dataset, expert: Expert) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(_shapes(model))[0]
    network = [[jax.tree_util.keystr(path), list(leaf.shape), leaf.dtype.name] for path, leaf in leaves]
    return {
        "dataset": f"{dataset.name}, {len(dataset.train.labels)} rows",
        "preprocessing": dict(dataset.preprocessing),
        "network": f"{sum(math.prod(shape) for _, shape, _ in network)} parameters, {json_digest(network)[:8]}",
        "expert": dataclasses.asdict(expert),
    }


def _shapes(model: Model) -> PyTree:
    return jax.eval_shape(model.init, jax.random.key(0))["params"]
