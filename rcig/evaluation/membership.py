"""Membership inference: can one tell from a network which examples its training set was made from?

    python eval.py --distilled=runs/quickstart --protocol=membership --full_data_steps=2000

Networks are trained on the set, or, for comparison, on the training split itself (``--full_data_steps``); members are
examples of the training split, non-members those of the test split. Five attacks, as in FRePo (Zhou et al. 2022, its
privacy experiment), see the logits of a network and its loss -log softmax(f(x))_y: ``threshold`` takes a small loss for
membership and learns nothing; logistic regression, k-NN, MLP and random forest learn from one part of the examples and
are asked about the other. AUC 0.5 is guessing, 1 is certainty: Mann and Whitney's P(score of a member > of another).

A network whose training diverged tells nothing: AUC 0.5.

Deviations from FRePo's script: its loss is the squared error by which its networks learn; members come from the whole
training split, not one of five parts of it that were distilled one by one; the attacks have fixed settings instead of a
search; snapshots of one training make the curve.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rcig.augment import mirrored
from rcig.chunks import map_rows
from rcig.errors import UserError, must_be_positive
from rcig.evaluation import standard
from rcig.evaluation._details import OneRun, chart, line, measure
from rcig.evaluation._ranks import auc
from rcig.evaluation.standard import Result, check_fits, own_rate
from rcig.metrics import Progress
from rcig.training import test_accuracy, trajectory, warn_of_divergence
from rcig.types import Batch, Dataset, Key, Model, Synthetic, Variables


@dataclass(frozen=True)
class Membership(OneRun):
    """The options ``eval.*``: those of the standard protocol, and how the attacks go."""

    points: int = 5  # of the curve: after all steps, half of them, a quarter, ...
    examples: int = 10000  # members at most, and as many non-members
    attack_share: float = 0.5  # of either, from which the attacks learn
    attack_seed: int = 0  # of which examples these are, and of the attacks

    def __post_init__(self):
        super().__post_init__()
        must_be_positive("eval", self, "points")
        if self.examples < 4 or not 0 < self.attack_share < 1:
            raise UserError(
                f"eval.examples must be at least 4, not {self.examples}, and eval.attack_share lie between 0 and 1, "
                f"not {self.attack_share}"
            )


PRESETS: dict[str, dict[str, Any]] = standard.PRESETS


def attacks(seed: int, examples: int) -> dict[str, Any]:
    """Return the attacks, classifiers of scikit-learn for so many examples; standardised where scales matter."""
    from sklearn.ensemble import RandomForestClassifier  # a second to import, wanted by this protocol only
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "k-NN": make_pipeline(StandardScaler(), KNeighborsClassifier(min(15, examples))),
        "MLP": make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=100, random_state=seed)),
        "random forest": RandomForestClassifier(100, min_samples_leaf=4, random_state=seed),
    }


def attack(members: np.ndarray, others: np.ndarray, share: float, seed: int) -> dict[str, float]:
    """Return the AUC of every attack on the features (N, F) of members and others; the last feature is the loss.

    The first ``share`` of either is what the attacks learn from, the rest what all are asked about.
    """
    learn = [_cut(len(one), share) for one in (members, others)]
    known = [one[:count] for one, count in zip((members, others), learn, strict=True)]
    asked = [one[count:] for one, count in zip((members, others), learn, strict=True)]
    areas = {"threshold": auc(*(-one[:, -1] for one in asked))}
    truth = np.repeat([1, 0], [len(one) for one in known])
    with warnings.catch_warnings(action="ignore"):  # an attack that has not converged is a weaker attack
        for name, classifier in attacks(seed, len(truth)).items():
            fitted = classifier.fit(np.concatenate(known), truth)
            areas[name] = auc(*(fitted.predict_proba(one)[:, 1] for one in asked))
    return areas


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: Membership) -> Result:
    """Train fresh networks on the set, attack and test them.

    Returns: their test accuracies; ``details`` holds ``auc``, attack -> {mean, std} over networks, and the ``curve``,
    the same with accuracy and std after some steps.
    Raises: UserError when the set does not fit.
    Cost: a standard evaluation, and n * points times four classifiers of at most 2 * examples * attack_share rows.
    """
    check_fits(synthetic, dataset, images=bool(protocol.flip or protocol.augmentation))
    train_set = Synthetic(*mirrored(synthetic.inputs, synthetic.labels)) if protocol.flip else synthetic
    recipe = protocol.recipe(len(synthetic.inputs), protocol.augmentation, own_rate(synthetic))
    split = draw(dataset, protocol.examples, protocol.attack_seed)
    every, wanted = snapshots(recipe.num_steps, protocol.points)
    networks = trajectory(jax.random.split(key, protocol.num_networks), model, train_set, recipe, every)
    visits = []
    with Progress(len(wanted) * protocol.num_networks, passing=True) as progress:
        for count, variables in enumerate(networks):
            step = min(count * every, recipe.num_steps)
            if step not in wanted:
                continue
            seen = [features(model, variables, batch) for batch in split]
            sizes = sum(np.sum(one, axis=(1, 2)) for one in seen)
            if step == recipe.num_steps:
                warn_of_divergence(sizes)
            pairs = zip(*(np.where(np.isfinite(sizes)[:, None, None], one, 0) for one in seen), strict=True)
            areas = []
            for inside, outside in pairs:
                areas.append(attack(inside, outside, protocol.attack_share, protocol.attack_seed))
                progress.update(len(visits) * protocol.num_networks + len(areas))
            visits.append((step, test_accuracy(model, variables, dataset.test, protocol.test_chunk), areas))
    return Result(visits[-1][1], protocol.augmentation, details=_details(visits))


def snapshots(num_steps: int, points: int) -> tuple[int, list[int]]:
    """Return a stride and, of its multiples up to ``num_steps``, those that about halve what is left of the steps."""
    every = max(1, num_steps >> points - 1)
    return every, [*(every << i for i in range(points - 1) if every << i < num_steps), num_steps]


def draw(dataset: Dataset, count: int, seed: int) -> tuple[Batch, Batch]:
    """Return as many members as non-members, at most ``count`` of each: random rows of the two splits."""
    count = min(count, len(dataset.train.labels), len(dataset.test.labels))
    rng = np.random.default_rng(seed)

    def rows(split: Batch) -> Batch:
        chosen = rng.permutation(len(split.labels))[:count]
        return Batch(split.inputs[chosen], np.asarray(split.labels)[chosen])

    return rows(dataset.train), rows(dataset.test)


def features(model: Model, variables: Variables, batch: Batch) -> np.ndarray:
    """Return what an attack sees of each network: logits and loss, (n, N, K + 1)."""
    return np.asarray(_features(model, variables, jnp.asarray(batch.inputs), jnp.asarray(batch.labels)))


@partial(jax.jit, static_argnames="model")
def _features(model, variables, inputs, labels):
    def of_network(variables):
        logits = map_rows(lambda x: model.apply(variables, x, False, None)[0].logits, inputs)
        loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
        return jnp.concatenate([logits, loss], axis=1)

    return lax.map(of_network, variables)


def _cut(count: int, share: float) -> int:
    return min(max(round(share * count), 1), count - 1)


def _details(visits: list) -> dict[str, Any]:
    steps = [step for step, *_ in visits]
    names = list(visits[-1][2][0])
    areas = {name: np.array([[of[name] for of in networks] for *_, networks in visits]) for name in names}  # (P, n)
    curve = [
        {"step": step, **Result(accuracies).summary(), "auc": {name: measure(areas[name][at]) for name in names}}
        for at, (step, accuracies, _) in enumerate(visits)
    ]
    shown: dict[str, Callable] = {name: line(steps, area) for name, area in areas.items()}
    shown["test accuracy"] = line(steps, np.array([accuracies for _, accuracies, _ in visits]))
    return {
        "auc": curve[-1]["auc"],
        "curve": curve,
        "measures": {f"AUC, {name}": area for name, area in curve[-1]["auc"].items()},
        "chart": chart("training steps", "AUC of attacks, test accuracy", {"": shown}, scale="log"),
    }


make = Membership
