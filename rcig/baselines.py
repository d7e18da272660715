"""What a distilled set is compared with: sets of the same size that nobody distilled.

real                                    random training examples; of one image per class, which they are moves the
                                        accuracy by several times what networks do, so several sets are drawn
average, kmeans, noise, normal, unit,
xavier                                  other starting sets, rcig/initialize.py
herding, k_center, forgetting           coresets by one network trained on the whole training split, rcig/coreset.py
optimised                               of 20 random real sets the one whose networks do best on training examples
                                        (Wang et al. 2018 keep 20 of 50, measured on 20 networks)
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from rcig import coreset, label_starts
from rcig.errors import UserError, unknown
from rcig.initialize import STARTS, initialize
from rcig.types import Batch, Dataset, Key, Model, Synthetic

CANDIDATES, ROWS = 20, 2000  # of "optimised": sets, and training examples that choose
NAMES = (*STARTS, *coreset.SELECTIONS, "optimised")

Judge = Callable[[Key, Synthetic], Any]  # -> a result with an accuracy


def check(names: Sequence[str]) -> None:
    """Raise UserError for an unknown name."""
    for name in names:
        if name not in NAMES:
            raise unknown("baseline", name, NAMES)


def make(
    names: Sequence[str],
    key: Key,
    dataset: Dataset,
    ipc: int,
    classes: Sequence[int],
    labels: label_starts.LabelStart,
    model: Model,
    judge_on: Callable[[Dataset], Judge],
    draws: int = 1,
) -> dict[str, list[Synthetic]]:
    """Return the baselines called ``names``, class-major rows of ``classes``; where there is one, real examples, too.

    Each is one set, but real examples, which are ``draws`` sets.

    Args: names, of `NAMES`; labels, as the distillation started from; model, whose features coresets compare; judge_on,
    how a candidate is judged on a data set's test split.
    One that a class is too small for is left out, with a warning.
    """
    chosen = dict.fromkeys(["real", *names] if names else [])
    key_real, key_network = (jax.random.fold_in(key, stream) for stream in (3, 4))  # 0 to 2 are of _optimised
    observe = functools.cache(lambda: coreset.observe(key_network, model, dataset))

    def draw(name: str, key: Key) -> Synthetic:
        if name in coreset.SELECTIONS:
            made = coreset.select(name, key, dataset, ipc, classes, observe())
        else:
            made = initialize(name, key, dataset, ipc, classes)
        return label_starts.relabelled(labels, made)

    made = {}
    for name in chosen:
        try:
            if name == "real":
                made[name] = [draw(name, one) for one in jax.random.split(key_real, draws)]
            elif name == "optimised":
                made[name] = [_optimised(key, dataset, draw, judge_on)]
            else:
                made[name] = [draw(name, key)]
        except UserError as error:  # the distilled set is measured all the same
            warnings.warn(f"no baseline {name}: {error}", stacklevel=2)
    return made


def _optimised(key: Key, dataset: Dataset, draw: Callable, judge_on: Callable[[Dataset], Judge]) -> Synthetic:
    key_rows, key_draws, key_judge = jax.random.split(key, 3)
    rows = np.asarray(jax.random.permutation(key_rows, len(dataset.train.labels))[:ROWS])
    seen = Batch(dataset.train.inputs[rows], np.asarray(dataset.train.labels)[rows])
    judge = judge_on(dataclasses.replace(dataset, test=seen))
    sets = [draw("real", key) for key in jax.random.split(key_draws, CANDIDATES)]
    return sets[int(np.argmax([_score(judge(key_judge, one)) for one in sets]))]


def _score(result: Any) -> float:
    """Return how well a set does what it is for: an attack, that its labels are taken."""
    wanted = result.details.get("measures", {}).get("accuracy, modified labels")
    return wanted["mean"] if wanted else result.accuracy
