"""A data set as its source has it: pixels or numbers, integer labels, class names; checked, not preprocessed."""

from typing import Any, NamedTuple

import numpy as np

from rcig.data.cache import digest
from rcig.errors import UserError


class Raw(NamedTuple):
    """Images are uint8, or float32 in [0, 1], of shape (N, H, W, C); any other float32 (N, ...) is no image.

    Texts are int32 (N, L), numbers of words, and ``embedding`` (see ``rcig.data.text``) says what these mean.
    """

    train_inputs: np.ndarray
    train_labels: np.ndarray  # (N,) int32 in [0, K)
    test_inputs: np.ndarray
    test_labels: np.ndarray
    class_names: np.ndarray  # (K,) text
    embedding: Any = None

    @property
    def is_image(self) -> bool:
        """Whether inputs are pixels; cost: for float inputs one pass over them."""
        return self.train_inputs.dtype == np.uint8 or (
            self.train_inputs.ndim == 4 and all(_in_unit_interval(x) for x in (self.train_inputs, self.test_inputs))
        )


def fingerprint(raw: Raw) -> str:
    """Return a digest that tells a data set from a changed one: all labels and names, and 1,024 rows of each split."""
    parts: list[object] = [raw.train_inputs.shape, raw.test_inputs.shape, raw.class_names.tolist()]
    for inputs, labels in ((raw.train_inputs, raw.train_labels), (raw.test_inputs, raw.test_labels)):
        parts += [np.asarray(labels), inputs[np.linspace(0, len(inputs) - 1, min(len(inputs), 1024)).astype(int)]]
    return digest(*parts)


HELD_OUT = 0.2  # the share of data that bring no test split, where none is asked for


def split_already(where: str, fraction: float) -> None:
    """Raise UserError where a share is asked for of data that bring a test split."""
    if fraction:
        raise UserError(f"test_fraction={fraction}, but {where} has a test split of its own: leave test_fraction out")


def stratified_split(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (train, test) rows, both ascending: a fixed random share ``fraction`` of every class is held out.

    Shares are rounded so that round(fraction * N) rows are held out in all. Raises UserError when a class would be
    empty on either side.
    """
    if not 0 < fraction < 1:
        raise UserError(f"test_fraction must lie between 0 and 1, got {fraction}: use e.g. test_fraction=0.2")
    classes, counts = np.unique(labels, return_counts=True)
    held_out = np.floor(fraction * counts).astype(int)
    remainders = fraction * counts - held_out
    held_out[np.argsort(-remainders, kind="stable")[: round(fraction * len(labels)) - held_out.sum()]] += 1
    if np.any(held_out == 0) or np.any(held_out == counts):
        label = classes[np.argmax((held_out == 0) | (held_out == counts))]
        count = counts[classes == label][0]
        raise UserError(
            f"test_fraction={fraction} leaves train or test without class {label}, which has {count} examples: "
            "use another fraction or more examples"
        )
    draw = np.random.RandomState(0)  # its stream is frozen for ever, Generator's is not: the split must never change
    order = [draw.permutation(np.flatnonzero(labels == label)) for label in classes]
    test = np.sort(np.concatenate([rows[:count] for rows, count in zip(order, held_out, strict=True)]))
    return np.setdiff1d(np.arange(len(labels)), test), test


def split(inputs: np.ndarray, labels: np.ndarray, fraction: float, class_names: np.ndarray) -> Raw:
    """Return the data set whose test rows are a stratified share of ``inputs``."""
    train, test = stratified_split(labels, fraction)
    return Raw(inputs[train], labels[train], inputs[test], labels[test], class_names)


def check(raw: Raw, where: str) -> Raw:
    """Return ``raw`` if its arrays fit each other. Raises UserError that names the array, the rule and ``where``."""
    num_classes = len(raw.class_names)
    for part, inputs, labels in (("train", *raw[0:2]), ("test", *raw[2:4])):
        if len(inputs) == 0 or len(inputs) != len(labels):
            raise UserError(f"{where}: {part} has {len(inputs)} inputs and {len(labels)} labels: give one label each")
        if inputs.shape[1:] != raw.train_inputs.shape[1:] or inputs.dtype != raw.train_inputs.dtype:
            shapes = f"{raw.train_inputs.dtype}{raw.train_inputs.shape[1:]} and {inputs.dtype}{inputs.shape[1:]}"
            raise UserError(f"{where}: train and test examples must look alike, got {shapes}")
        if inputs.dtype != np.uint8 and not np.all(np.isfinite(inputs)):
            raise UserError(f"{where}: {part} inputs hold NaN or Inf: remove those rows")
        if labels.min() < 0 or labels.max() >= num_classes:
            raise UserError(
                f"{where}: {part} labels must lie in 0..{num_classes - 1}, got {labels.min()}..{labels.max()}"
            )
    counts = np.bincount(raw.train_labels, minlength=num_classes)
    if num_classes < 2 or counts.min() == 0:
        problem = f"class {int(counts.argmin())} has no training examples" if num_classes > 1 else "there is one class"
        raise UserError(f"{where}: {problem}: number the classes 0, 1, ... without gaps and give each some examples")
    return raw


def one_line(error: Exception) -> str:
    """Return what an exception says, on one line, to be quoted in a UserError."""
    return " ".join(str(error).split()) or type(error).__name__


def to_arrays(raw: Raw) -> dict[str, np.ndarray]:
    """Return the cache entry of a data set of pixels; ``Raw(**entry)`` is the set again."""
    return {field: array for field, array in raw._asdict().items() if array is not None}


def _in_unit_interval(inputs: np.ndarray) -> bool:
    return bool(inputs.min() >= 0) and bool(inputs.max() <= 1)
