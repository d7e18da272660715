"""Squeeze: a teacher is trained on the real data, and what its batch norms see of every class is measured.

    variables = teacher(key, options, dataset, workdir).variables                    # options: an LPLD
    moments = measure(key, options.model, variables, dataset, "exact")
    moments["BatchNorm_0"].mean                                                      # (K, F)

For a layer with input x, of class c over images i, rows and columns, with m_i, v_i of one image

    exact   M_c = mean_i m_i,   V_c = mean_i v_i + var_i(m_i): the whole class, in any order, to rounding; merged by
            Chan et al. 1979 from batch to batch
    ema     M_c <- 0.9 M_c + 0.1 m,   V_c <- 0.9 V_c + 0.1 v of every batch that holds c, from 0 and 1: LPLD's own,
            which keeps the last twenty batches or so and nearly nothing of var_i(m_i)
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from methods.lpld.teaching import teach
from rcig import augment, sharding, training
from rcig.checkpoint import kept, zeros
from rcig.errors import UserError, must_be_positive
from rcig.files import write
from rcig.models._batch_norm_statistics import Moments, layers, statistics
from rcig.teacher import FOLDER, Teacher, empty, load
from rcig.types import Dataset, Key, Model, Variables

_NOTE = "teacher.json"  # what the teacher learned, and how well
_KEEP = 0.9  # of the running class statistics


class Seen(NamedTuple):
    """How often each class was counted, and what was seen of it."""

    count: jax.Array  # (K,): images; of ema: batches
    layers: dict[str, Moments]  # (K, F)


@dataclass(frozen=True)
class Options:
    """The hyperparameters of a teacher."""

    model: Model  # the teacher's network
    teacher: str = ""  # another run's workdir, whose teacher is taken; empty: one is trained
    teacher_steps: int = 2000
    teacher_batch_size: int = 256
    teacher_optimiser: str = "adam"  # see rcig/training.py
    teacher_learning_rate: float = 1e-3
    teacher_weight_decay: float = 0.0  # sgd
    teacher_augmentation: str = ""  # see rcig/augment; in training and while class statistics are taken

    def __post_init__(self):
        must_be_positive("method", self, "teacher_steps", "teacher_batch_size", "teacher_learning_rate")
        _recipe(self)


def teacher(key: Key, options: Options, dataset: Dataset, folder: Path) -> Teacher:
    """Train a teacher, or take another run's, and keep it in ``folder/teacher``, or take the one that is there.

    A stopped training goes on from its checkpoint in ``folder/teaching``. Its data and test accuracy are said in
    teacher.json. Raises UserError for a class without images, and where another run's teacher is not there or learned
    other data.
    """
    check_classes(dataset)
    layers_of(options.model, dataset)

    told = {"dataset": dataset.name, "classes": list(dataset.class_names), "pixels": dataset.preprocessing["kind"]}

    def make():
        borrowed = options.teacher and load(Path(options.teacher), options.model)
        if borrowed:
            _check_lender(Path(options.teacher) / _NOTE, told)
        return (borrowed or _trained(key, options, dataset, folder / "teaching"))._asdict()

    found = Teacher(**kept(folder / FOLDER, make, empty(options.model)))
    if sharding.is_writer():
        write(folder / _NOTE, (json.dumps({"test_accuracy": found.test_accuracy} | told) + "\n").encode())
    return found


def _check_lender(note: Path, wanted: Mapping[str, object]) -> None:
    """Raise UserError for the teacher of other data, as far as its note knows."""
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        return
    for name, value in wanted.items():
        if known.get(name, value) != value:
            told = f"{name} {known[name]}, not {value}"
            raise UserError(f"the teacher in {note.parent} learned other data: {told}; name a run on these data")


def layers_of(model: Model, dataset: Dataset) -> tuple[str, ...]:
    """Return the paths of a network's batch norms, the stem's first. Raises UserError where it has none."""
    images = jax.ShapeDtypeStruct((1, *dataset.example_shape), jnp.float32)
    return layers(model.apply, jax.eval_shape(model.init, jax.random.key(0)), images)


def class_moments(
    key: Key, options: Options, kind: str, variables: Variables, dataset: Dataset, folder: Path
) -> dict[str, Moments]:
    """Measure every class and keep it in ``folder/class_statistics``, or take what is there. Returns moments (K, F)."""
    how = (kind, options.teacher_batch_size, options.teacher_augmentation)
    make = lambda: measure(key, options.model, variables, dataset, *how)
    target = empty_moments(options.model, dataset.example_shape, dataset.num_classes)
    return kept(folder / "class_statistics", make, target)


def measure(
    key: Key,
    model: Model,
    variables: Variables,
    dataset: Dataset,
    kind: str,
    batch_size: int = 256,
    augmentation: str = "",
) -> dict[str, Moments]:
    """Measure every class of the training split at every batch norm, in one pass in random order.

    Args: kind, of `KINDS`; augmentation, of `rcig.augment.find`, drawn for each image.
    Returns: moments (K, F) by layer, on the host.
    """
    labels = np.asarray(dataset.train.labels)
    key_order, key_augment = jax.random.split(key)
    order = np.asarray(jax.random.permutation(key_order, len(labels)))
    missing = -len(order) % batch_size
    places = np.append(order, np.zeros(missing, order.dtype)).reshape(-1, batch_size)  # (batches, B)
    classes = np.append(labels[order], np.full(missing, -1)).reshape(-1, batch_size)  # -1 belongs to no class
    update = jax.jit(partial(_update, model, kind, augmentation), donate_argnums=0)
    seen = _unseen(model, dataset, kind)
    for number, (rows, batch_classes) in enumerate(zip(places, classes, strict=True)):
        inputs = jnp.asarray(dataset.train.inputs[rows])
        seen = update(seen, jax.random.fold_in(key_augment, number), variables, inputs, batch_classes)
    return sharding.fetch(seen.layers)


def empty_moments(model: Model, example_shape: tuple[int, ...], num_groups: int) -> dict[str, Moments]:
    """Return moments of the right shapes, zeros on the host."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((num_groups, *example_shape), jnp.float32)
    measure = lambda variables, images: statistics(model.apply, variables, images, num_groups)[1]
    return zeros(jax.eval_shape(measure, variables, images))


def global_moments(variables: Variables, names: tuple[str, ...]) -> dict[str, Moments]:
    """Return the running statistics of a network's batch norms as moments (1, F)."""

    def of(path):
        layer = variables["batch_stats"]
        for name in path.split("/"):
            layer = layer[name]
        return Moments(np.asarray(layer["mean"])[None], np.asarray(layer["var"])[None])

    return {name: of(name) for name in names}


def check_classes(dataset: Dataset) -> None:
    """Raise UserError unless every class has a training image."""
    counts = np.bincount(np.asarray(dataset.train.labels), minlength=dataset.num_classes)
    if not counts.all():
        name = dataset.class_names[int(np.argmin(counts))]
        raise UserError(
            f"class {name!r} of {dataset.name} has no training image, so there is nothing to match; leave it out"
        )


def merge(seen: Seen, new: Seen) -> Seen:
    """Join two disjoint sets of images, exactly (Chan et al. 1979); counts (K,) may be 0 on either side."""
    count = seen.count + new.count
    share = (new.count / jnp.maximum(count, 1))[:, None]  # (K, 1)

    def of(a, b):
        delta = b.mean - a.mean
        var = a.var + share * (b.var - a.var) + share * (1 - share) * jnp.square(delta)
        return Moments(a.mean + share * delta, var)

    return Seen(count, {name: of(seen.layers[name], new.layers[name]) for name in seen.layers})


def decay(seen: Seen, new: Seen) -> Seen:
    """Move the statistics of the classes that a batch holds a tenth of the way to the batch's."""
    held = (new.count > 0)[:, None]  # (K, 1)
    move = lambda a, b: jnp.where(held, _KEEP * a + (1 - _KEEP) * b, a)
    return Seen(seen.count + (new.count > 0), jax.tree.map(move, seen.layers, new.layers))


KINDS: dict[str, tuple[Callable[[Seen, Seen], Seen], float]] = {  # how batches join, the variance of nothing
    "exact": (merge, 0.0),
    "ema": (decay, 1.0),
}


def batch_moments(model: Model, variables: Variables, inputs: jax.Array, classes: jax.Array, num_classes: int) -> Seen:
    """Measure one batch class by class; a class of -1 counts for nothing. inputs (B, ...), classes (B,)."""
    _, images = statistics(model.apply, variables, inputs, len(inputs))
    member = jax.nn.one_hot(classes, num_classes, dtype=float)  # (B, K)
    count = jnp.sum(member, 0)
    average = lambda x: jnp.matmul(member.T, x, precision="highest") / jnp.maximum(count, 1)[:, None]  # to (K, F)

    def of(moments):
        mean = average(moments.mean)
        spread = jnp.square(moments.mean - jnp.matmul(member, mean, precision="highest"))
        return Moments(mean, average(moments.var + spread))

    return Seen(count, {name: of(moments) for name, moments in images.items()})


def _update(model, kind, augmentation, seen, key, variables, inputs, classes):
    inputs = augment.find(augmentation)(key, inputs)
    after = KINDS[kind][0](seen, batch_moments(model, variables, inputs, classes, len(seen.count)))
    return jax.tree.map(lambda new, old: new.astype(old.dtype), after, seen)


def _unseen(model: Model, dataset: Dataset, kind: str) -> Seen:
    layers = empty_moments(model, dataset.example_shape, dataset.num_classes)
    layers = {name: Moments(mean, var + np.float32(KINDS[kind][1])) for name, (mean, var) in layers.items()}
    return Seen(jnp.zeros(dataset.num_classes, float), layers)


def _trained(key: Key, options: Options, dataset: Dataset, folder: Path) -> Teacher:
    variables = teach(key, options.model, dataset, _recipe(options), folder)
    one = jax.tree.map(lambda a: a[None], variables)
    return Teacher(variables, float(training.test_accuracy(options.model, one, dataset.test)[0]))


def _recipe(options: Options) -> training.Recipe:
    return training.Recipe(
        options.teacher_steps,
        options.teacher_batch_size,
        "cross_entropy",
        options.teacher_optimiser,
        options.teacher_learning_rate,
        drop_step=options.teacher_steps // 2,
        weight_decay=options.teacher_weight_decay,
        augmentation=options.teacher_augmentation,
    )
