"""Coresets: real examples chosen with care, which every distilled set should beat.

herding      the examples whose running mean stays closest to the class mean (Welling 2009; DM's continual learning)
k_center     the examples that leave no other one far away, greedily (Gonzalez 1985; Sener & Savarese 2018)
forgetting   the examples that a network in training forgets most often (Toneva et al. 2019)

    observed = observe(key, model, dataset)                       # one network, trained on the whole training split
    synthetic = select("herding", key, dataset, 10, (), observed)  # (10 K, ...), class-major, centred one-hot labels

Herding and k-center compare features of that network, the inputs of its last layer after the last epoch. Every class is
chosen from alone.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rcig import losses, pool
from rcig.errors import unknown
from rcig.initialize import all_inputs, check_sizes, groups, labelled, rows_of
from rcig.training import counted
from rcig.types import Dataset, Key, Model, Outputs, Synthetic, Variables

EPOCHS = 10  # N / batch steps each; after each one every training example is classified
BATCH_SIZE, LEARNING_RATE = 256, 1e-3  # Adam's
_CHUNK = 500  # examples a network sees at a time where it only looks

Rule = Callable[[np.ndarray], np.ndarray]  # rows of a class -> places among them


class Observed(NamedTuple):
    """What a network that was trained on the whole training split says of it."""

    embed: Callable[[Any], np.ndarray]  # (n, ...) inputs -> (n, D) features
    events: np.ndarray  # (N,) how often each training example was forgotten, see ``forgotten``


def observe(key: Key, model: Model, dataset: Dataset, epochs: int = EPOCHS) -> Observed:
    """Train a fresh network on the training split and keep what coresets ask of it.

    Deviation from Toneva et al.: whether an example is classified correctly is asked after every epoch, in
    running-statistics mode, not when its batch comes; so one count does not depend on the order of rows.
    Cost: epochs passes forward and backward, and epochs passes forward, over the training split.
    """
    labels, correct = np.asarray(dataset.train.labels), []
    for variables in _epochs(key, model, dataset, epochs):
        embed = partial(_features, model, variables)
        seen = [np.argmax(out.logits, axis=1) for out in _outputs(model, variables, dataset.train.inputs)]
        correct.append(np.concatenate(seen) == labels)
    return Observed(embed, forgotten(np.stack(correct)))


def forgotten(correct: np.ndarray) -> np.ndarray:
    """Return how often examples turn from right to wrong; E + 1, more than possible, where they never were right.

    Args: correct (E, N) bool, after each of E epochs. Returns: (N,) int.
    """
    events = np.sum(correct[:-1] & ~correct[1:], axis=0)
    return np.where(correct.any(axis=0), events, len(correct) + 1)


def select(
    name: str, key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int], observed: Observed
) -> Synthetic:
    """Make the coreset called ``name``, one of ``SELECTIONS``; the key decides among equally forgotten examples only.

    Raises: UserError that lists the known names; for a bad ipc, one larger than a class, or bad labels.
    Cost: O(ipc n D) a class of n examples.
    """
    if name not in SELECTIONS:
        raise unknown("coreset", name, SELECTIONS)
    classes = groups(dataset, ipc, init_labels)
    check_sizes(dataset, ipc, classes)
    rule = SELECTIONS[name](key, dataset, ipc, observed)
    rows = np.concatenate([of_class[rule(of_class)] for of_class in (rows_of(dataset, label) for label in classes)])
    return labelled(np.asarray(dataset.train.inputs[rows], np.float32), dataset, classes)


def _by_features(choose: Callable[[np.ndarray, int], np.ndarray]) -> Callable[..., Rule]:
    return lambda key, dataset, ipc, observed: lambda rows: choose(observed.embed(dataset.train.inputs[rows]), ipc)


def _forgetting(key: Key, dataset: Dataset, ipc: int, observed: Observed) -> Rule:
    """Choose the examples with the most forgetting events, those never learned first; equals at random."""
    draw = np.asarray(jax.random.permutation(key, len(observed.events)))
    return lambda rows: np.lexsort((draw[rows], -observed.events[rows]))[:ipc]


def herd(features: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` different rows of features (n, D), each the nearest to (i + 1) mean - sum of those chosen."""
    mean, total, chosen = features.mean(axis=0), np.zeros(features.shape[1]), []
    for i in range(count):
        distances = _distances(features, (i + 1) * mean - total)
        distances[chosen] = np.inf
        chosen.append(int(np.argmin(distances)))
        total += features[chosen[-1]]
    return np.array(chosen)


def cover(features: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` different rows of features (n, D) by greedy k-center; of equally far ones the first."""
    chosen = [int(np.argmin(_distances(features, features.mean(axis=0))))]
    nearest = _distances(features, features[chosen[0]])  # of every row to those chosen
    while len(chosen) < count:
        nearest[chosen] = -1  # lest it be chosen twice where many rows are equal
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, _distances(features, features[chosen[-1]]))
    return np.array(chosen)


def _distances(features: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.square(features - point).sum(axis=1)


SELECTIONS: dict[str, Callable[[Key, Dataset, int, Observed], Rule]] = {
    "herding": _by_features(herd),
    "k_center": _by_features(cover),
    "forgetting": _forgetting,
}


def _epochs(key: Key, model: Model, dataset: Dataset, epochs: int) -> Iterator[Variables]:
    """Train a fresh network; yield it after every epoch."""
    inputs, labels = all_inputs(dataset), jnp.asarray(dataset.train.labels)
    size = min(BATCH_SIZE, len(labels))
    key_start, key_train = jax.random.split(key)
    member = pool.fresh(key_start, model.init, optax.adam(LEARNING_RATE))
    for epoch in counted(range(epochs)):
        key_epoch = jax.random.fold_in(key_train, epoch)
        member = _train(model, size, key_epoch, member, inputs, labels, len(labels) // size)
        yield member.variables


@partial(jax.jit, static_argnames=("model", "size"))
def _train(model, size, key, member, inputs, labels, num_steps):
    """Train a member of a pool on random batches of different rows."""

    gradient = pool.learning(model, losses.cross_entropy, inputs, labels, size)
    return pool.train(key, member, gradient, optax.adam(LEARNING_RATE), num_steps)


def _outputs(model: Model, variables: Variables, inputs: Any) -> Iterator[Outputs]:
    for start in range(0, inputs.shape[0], _CHUNK):
        chunk = jnp.asarray(inputs[start : start + _CHUNK])
        yield jax.device_get(_apply(model, variables, chunk))


def _features(model: Model, variables: Variables, inputs: Any) -> np.ndarray:
    return np.concatenate([out.features for out in _outputs(model, variables, inputs)])


@partial(jax.jit, static_argnames="model")
def _apply(model, variables, inputs):
    return model.apply(variables, inputs, False, None)[0]
