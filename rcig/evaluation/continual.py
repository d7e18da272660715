"""Continual learning with the set as memory: classes come in groups, at each a new network learns those seen so far.

    python eval.py --distilled=runs/dm_cifar100_ipc20 --protocol=continual
    python eval.py --distilled=checkpoints/rcig_digits_ipc10 --protocol=continual --baselines=real,herding

GDumb (Prabhu et al. 2020) as Zhao & Bilen 2023 ("Dataset Condensation with Distribution Matching", section 4.3) run it:
CIFAR-100 in 5 or 10 steps, 20 examples a class, 5 orders of the classes, 3 networks each. At step s the memory holds
the set's rows of the classes seen; a network with a head for all K classes learns it from nothing and is asked about
the test examples of the classes seen, any of the K being its answer. Preset ``dsa`` is the paper's, 1000 epochs.

Deviation: the paper distils the classes of every step by themselves; here they were distilled together. The same for
methods that treat classes apart, such as DM.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rcig.errors import UserError, must_be_positive
from rcig.evaluation import _details, standard
from rcig.evaluation._details import OneRun, chart, line, measure
from rcig.evaluation.standard import Result, check_fits
from rcig.training import counted
from rcig.types import Array, Batch, Dataset, Key, Model, Synthetic


@dataclass(frozen=True)
class Continual(OneRun):
    """The options ``eval.*``: those of the standard protocol, how classes come, and in how many orders."""

    num_networks: int = 3  # of every step and order
    steps: int = 5  # groups in which the classes come; the first ones are larger where K does not divide
    orders: int = 5  # of the classes, by the seeds 0, 1, ...
    test_chunk: int = 64  # fewer than the test examples of a step, so that all steps share one program

    def __post_init__(self):
        super().__post_init__()
        must_be_positive("eval", self, "steps", "orders")


PRESETS: dict[str, dict[str, Any]] = _details.PRESETS


def class_order(seed: int, num_classes: int) -> np.ndarray:
    """Return the order (K,) in which classes come: numpy's legacy permutation, as the paper's, the same everywhere."""
    return np.random.RandomState(seed).permutation(num_classes)


def seen_classes(seed: int, num_classes: int, steps: int) -> list[np.ndarray]:
    """Return the classes seen after each step. Raises: UserError for more steps than classes."""
    if steps > num_classes:
        raise UserError(f"eval.steps {steps} is more than the {num_classes} classes; choose fewer")
    groups = np.array_split(class_order(seed, num_classes), steps)
    return [np.concatenate(groups[: step + 1]) for step in range(steps)]


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: Continual) -> Result:
    """Train and test fresh networks after every step, in every order. A row's class is its largest label.

    Returns: the accuracies after the last step, (orders * networks,); ``details`` holds the ``curve``, for each step
    {classes, accuracy, std, n} over orders and networks, and the ``class_orders``.
    Raises: UserError when the set does not fit, or lacks rows of a class.
    Cost: orders * steps standard evaluations; each size of memory is compiled once.
    """
    check_fits(synthetic, dataset)
    seen = [seen_classes(seed, dataset.num_classes, protocol.steps) for seed in range(protocol.orders)]
    classes = _classes(synthetic, dataset)
    if not (protocol.num_steps or protocol.num_epochs or protocol.augmented_epochs):  # one number for the whole curve
        whole = protocol.recipe(len(synthetic.inputs), "").num_steps
        protocol = dataclasses.replace(protocol, num_steps=whole)
    accuracies = np.zeros((protocol.steps, protocol.orders, protocol.num_networks))
    for step, seed in counted(list(np.ndindex(protocol.steps, protocol.orders))):
        at = jax.random.fold_in(jax.random.fold_in(key, seed), step)
        memory, test = _of_classes(synthetic, dataset.test, classes, seen[seed][step])
        result = standard.evaluate(at, memory, dataclasses.replace(dataset, test=test), model, protocol)
        accuracies[step, seed] = result.accuracies
    accuracies = accuracies.reshape(protocol.steps, -1)
    counts = [len(group) for group in seen[0]]
    summaries = [Result(one).summary() for one in accuracies]
    details = {
        "curve": [{"classes": count} | summary for count, summary in zip(counts, summaries, strict=True)],
        "class_orders": [order[-1].tolist() for order in seen],
        "measures": {
            **{f"accuracy, {count} classes seen": measure(one) for count, one in zip(counts, accuracies, strict=True)},
            "accuracy, mean over steps": measure(accuracies.mean(axis=0)),
        },
        "chart": chart("classes seen", "test accuracy", {"continual learning": {"": line(counts, accuracies)}}),
    }
    return Result(accuracies[-1], protocol.augmentation, details=details)


def _classes(synthetic: Synthetic, dataset: Dataset) -> np.ndarray:
    classes = np.argmax(synthetic.labels, axis=1)
    missing = sorted(set(range(dataset.num_classes)) - set(classes.tolist()))
    if missing:
        raise UserError(
            f"continual learning wants rows of every class, the set has none of {dataset.class_names[missing[0]]!r}; "
            "distil one with every class and more of each"
        )
    return classes


def _of_classes(synthetic: Synthetic, test: Batch, classes: Array, seen: Array) -> tuple[Synthetic, Batch]:
    """Return the rows of the set and of the test split that are of the classes seen, in their order."""
    rows, asked = np.flatnonzero(np.isin(classes, seen)), np.flatnonzero(np.isin(test.labels, seen))
    if not len(asked):
        raise UserError(f"the test split has no example of classes {seen.tolist()}; choose fewer eval.steps")
    memory = synthetic._replace(inputs=np.asarray(synthetic.inputs)[rows], labels=np.asarray(synthetic.labels)[rows])
    return memory, Batch(test.inputs[asked], np.asarray(test.labels)[asked])


make = Continual
