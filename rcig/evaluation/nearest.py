"""k-nearest neighbours: what a set is worth as it lies there, without training (a baseline of DD, Wang et al. 2018).

    python eval.py --distilled=runs/quickstart --protocol=nearest --config.eval.k=3

A test example is given the class most frequent among the k synthetic examples nearest to it in the p-norm of
model-input space (of equally frequent ones the smallest); a row's class is its largest label. Nothing is random.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rcig.augment import mirrored
from rcig.errors import UserError
from rcig.evaluation.standard import Result, check_fits
from rcig.types import Array, Dataset, Key, Model, Synthetic


@dataclass(frozen=True)
class Nearest:
    """The options ``eval.*``."""

    k: int = 1  # neighbours that vote
    p: float = 2.0  # of the distance (sum |a - b|^p)^(1/p)
    flip: bool = False  # append the mirrored examples
    test_chunk: int = 1024  # test examples at a time

    def __post_init__(self):
        if self.k < 1 or self.p < 1 or self.test_chunk < 1:
            raise UserError(f"k {self.k}, p {self.p} and test_chunk {self.test_chunk} must be at least 1")


PRESETS: dict[str, dict[str, Any]] = {"nearest": {}}


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: Nearest) -> Result:
    """Classify the test split by the set's examples; ``key`` and ``model`` are not used.

    Returns: one accuracy, hence std 0. Raises: UserError for a set that does not fit, or of fewer than k examples.
    Cost: a distance for each pair of a test and a synthetic example.
    """
    from sklearn.neighbors import KNeighborsClassifier  # a second to import, wanted by this protocol only

    check_fits(synthetic, dataset, images=protocol.flip)
    synthetic = Synthetic(*mirrored(synthetic.inputs, synthetic.labels)) if protocol.flip else synthetic
    if protocol.k > len(synthetic.inputs):
        raise UserError(f"k {protocol.k} is more than the set's {len(synthetic.inputs)} examples; choose fewer")
    classifier = KNeighborsClassifier(protocol.k, p=protocol.p)
    classifier.fit(_flat(synthetic.inputs), np.argmax(synthetic.labels, axis=1))
    inputs, labels = dataset.test.inputs, np.asarray(dataset.test.labels)
    starts = range(0, len(labels), protocol.test_chunk)
    predicted = [classifier.predict(_flat(inputs[start : start + protocol.test_chunk])) for start in starts]
    told = {"model": f"nearest neighbours(k={protocol.k},p={protocol.p:g})"}
    return Result(np.array([np.mean(np.concatenate(predicted) == labels)]), details=told)


def _flat(inputs: Array) -> np.ndarray:
    return np.asarray(inputs).reshape(len(inputs), -1)


make = Nearest
