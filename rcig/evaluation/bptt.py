"""BPTT's own protocol: networks follow the set's schedule, its steps in order at its learned rates (Wang et al. 2018).

    python eval.py --distilled=checkpoints/dd_mnist_fixed_10 --protocol=bptt

The networks are fresh draws, the one fixed network that the set was made for, or a pool of trained ones that it never
met. Accuracy is reported before the first step and after the last. A set without learning rates (a baseline) is shown
in passes of ``steps`` parts, hard labels: as many of EPOCHS, at the one rate of RATES, as do best on training data.

An attack is judged by what it wants, the attacked class's test examples being taken for the target class, and by what
it spares, the other classes; real examples attack by wearing the target's label.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rcig import schedule, training
from rcig.errors import UserError, must_be_positive
from rcig.evaluation._details import measure
from rcig.evaluation.standard import Result, check_fits
from rcig.schedule import modified
from rcig.types import Array, Batch, Dataset, Key, Model, Synthetic, Variables

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # the paper's end at 0.3; sentences want more
EPOCHS = (1, 3, 10, 30)


@dataclass(frozen=True)
class Bptt:
    """The options ``eval.*``. ``networks``, ``networks_seed`` and ``label_softmax`` are those of the method."""

    num_networks: int = 20  # of a pool: so many of its first; there is one fixed network only
    networks: str = "random"  # random, fixed, or the folder of a pool of held-out networks, which must be named
    networks_seed: int = 0
    label_softmax: bool = False
    attack: tuple[int, ...] = ()  # (attacked class, target class)
    flip: bool = False  # of the other protocols; a schedule knows no mirrored examples
    steps: int = 1  # for sets without learning rates
    epochs: int = 0  # 0: of EPOCHS
    rate_rows: int = 2000  # training examples that choose their rate
    test_chunk: int = 256

    def __post_init__(self):
        must_be_positive("eval", self, "num_networks", "steps", "rate_rows", "test_chunk")
        schedule.check_attack("eval", self.attack)
        if not self.networks:
            raise UserError(
                "eval.networks must be named where method.networks is a pool: a pool that the set never met (python -m "
                "rcig.pretrain, another seed), or random"
            )
        if self.flip:
            raise UserError(
                "eval.flip must be False: protocol bptt follows the set's schedule; use --protocol=standard"
            )


PRESETS: dict[str, dict[str, Any]] = {"bptt": {}}


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: Bptt) -> Result:
    """Return the test accuracies of networks trained by the set's schedule.

    ``details`` holds accuracy_before (step 0), the name of a pool, and for an attack attack_success, the share of the
    attacked class's test examples that are taken for the target class, before and after, and as ``measures`` that and
    the accuracies by the modified labels and of every class. Raises UserError for a set that does not fit.
    """
    check_fits(synthetic, dataset)
    schedule.check_attack("eval", protocol.attack, dataset.num_classes)
    key_networks, key_rate, key_train = jax.random.split(key, 3)
    networks = _networks(key_networks, model, protocol)
    schedule.check_norm(networks)
    label_softmax = protocol.label_softmax and synthetic.learning_rates is not None
    if synthetic.learning_rates is None:
        synthetic = _with_best_rate(key_rate, synthetic, dataset, model, protocol)
    learned = _learn(model, label_softmax, key_train, networks, jax.tree.map(jnp.asarray, synthetic))
    sizes = np.asarray(jax.vmap(optax.tree.norm)(learned["params"]))
    training.warn_of_divergence(sizes, "lower the set's learning rates, method.inner_rate to begin with")
    test = partial(training.test_accuracy, model, chunk=protocol.test_chunk)
    details: dict[str, Any] = {"accuracy_before": float(np.mean(test(networks, dataset.test)))}
    if protocol.networks not in schedule.NETWORKS:
        details["networks"] = Path(protocol.networks).name
    if protocol.attack:
        attacked = _attacked(dataset, protocol.attack)
        before, after = test(networks, attacked), test(learned, attacked) * np.isfinite(sizes)  # NaN is class 0
        details |= {"attack_success_before": float(np.mean(before)), "attack_success": float(np.mean(after))}
        details["measures"] = _outcome(after, partial(test, learned), dataset, protocol.attack)
    return Result(test(learned, dataset.test), details=details)


def _attacked(dataset: Dataset, attack: tuple[int, ...]) -> Batch:
    """Return the test examples of the attacked class, under the target's label."""
    rows = np.flatnonzero(np.asarray(dataset.test.labels) == attack[0])
    if not len(rows):
        name = dataset.class_names[attack[0]]
        raise UserError(f"eval.attack wants class {name}, of which the test split has none; choose another")
    return Batch(dataset.test.inputs[rows], np.full(len(rows), attack[1], np.int32))


def _outcome(
    success: Array, test: Callable[[Batch], Array], dataset: Dataset, attack: tuple[int, ...]
) -> dict[str, dict[str, float]]:
    """Return what an attack did, name -> mean and std over networks; its success first."""
    inputs, labels, names = dataset.test.inputs, np.asarray(dataset.test.labels), dataset.class_names
    told = {f"{names[attack[0]]} taken for {names[attack[1]]}": measure(success)}
    told["accuracy, modified labels"] = measure(test(Batch(inputs, np.asarray(modified(labels, attack)))))
    for k in np.unique(labels):
        rows = np.flatnonzero(labels == k)
        told[f"accuracy, class {names[k]}"] = measure(test(Batch(inputs[rows], labels[rows])))
    return told


def _networks(key: Key, model: Model, protocol: Bptt) -> Variables:
    if protocol.networks in schedule.NETWORKS:
        count = 1 if protocol.networks == "fixed" else protocol.num_networks
        return schedule.draw(key, model, protocol.networks, protocol.networks_seed, count)
    from rcig import pretrain  # stands above this file, and few evaluations want it

    return jax.tree.map(lambda leaf: leaf[: protocol.num_networks], pretrain.load(protocol.networks, model))


def _with_best_rate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: Bptt) -> Synthetic:
    """Give a set without learning rates what does best on training examples; its labels become hard, and attack."""
    labels = jax.nn.one_hot(modified(np.argmax(synthetic.labels, axis=1), protocol.attack), dataset.num_classes)
    rows = np.asarray(jax.random.permutation(key, len(dataset.train.labels))[: protocol.rate_rows])
    train = Batch(dataset.train.inputs[rows], modified(np.asarray(dataset.train.labels)[rows], protocol.attack))
    networks = _networks(key, model, replace(protocol, num_networks=min(3, protocol.num_networks)))
    steps = protocol.steps if len(labels) % protocol.steps == 0 else 1
    candidates = [
        Synthetic(jnp.asarray(synthetic.inputs), labels, jnp.full((epochs, steps), rate))
        for epochs, rate in product((protocol.epochs,) if protocol.epochs else EPOCHS, RATES)
    ]

    def score(candidate):
        trained = _learn(model, False, key, networks, candidate)
        return np.mean(training.test_accuracy(model, trained, train, protocol.test_chunk))

    return max(training.counted(candidates), key=score)


@partial(jax.jit, static_argnums=(0, 1))
def _learn(model, label_softmax, key, networks, synthetic):
    size = len(jax.tree.leaves(networks)[0])
    learn = lambda at: schedule.learn(at[0], model, at[1], synthetic, label_softmax)
    return training.over_networks(learn)((jax.random.split(key, size), networks))


make = Bptt
