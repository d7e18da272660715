"""The few types that everything shares, and their contracts.

Letters in shapes: N data set rows, B batch, M synthetic examples, K classes, D features, H W C image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array | np.ndarray
PyTree = Any
Key = jax.Array
Metrics = dict[str, jax.Array]  # scalars
Variables = dict[str, PyTree]  # {"params": ..., and for batch norm "batch_stats": ...}


class Batch(NamedTuple):
    """Labelled examples; the only type that is ever split over devices (along axis 0)."""

    inputs: Any  # (B, ...) float32, in model-input space; on the host any array-like that rows can be taken from
    labels: Array  # (B,) int32


class Synthetic(NamedTuple):
    """The distilled set: the artefact every method makes and every evaluation reads. Rows are class-major."""

    inputs: Array  # (M, ...) float32, in model-input space
    labels: Array  # (M, K) float32, raw targets (for RCIG learned regression targets, not a distribution)
    learning_rates: Array | None = None  # (E, D) float32, where learned: E passes over D parts, see rcig/schedule.py


@dataclass(frozen=True)
class Dataset:
    """A data set on the host, preprocessed, with the way back to pixels.

    ``decode`` maps (M, ...) model inputs to displayable values in [0, 1], ``encode`` such values to model inputs;
    ``preprocessing`` is JSON-able and says how the inputs were made (kind, constants, digest of a whitening matrix) and
    from what ``data`` (a digest, too).
    """

    name: str
    train: Batch
    test: Batch
    num_classes: int
    class_names: tuple[str, ...]
    decode: Callable[[np.ndarray], np.ndarray]
    preprocessing: Mapping[str, Any]
    encode: Callable[[np.ndarray], np.ndarray] = np.asarray

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch axis."""
        return tuple(self.train.inputs.shape[1:])


class Outputs(NamedTuple):
    """What a network says of a batch: ``logits = features @ head_kernel + head_bias``."""

    logits: jax.Array  # (B, K)
    features: jax.Array  # (B, D)


class Model(NamedTuple):
    """A network as two pure functions.

    ``variables["params"]["head"]`` is the last dense layer, ``{"kernel": (D, K), "bias": (K,)}``; everything else is
    the body. ``apply`` returns variables unchanged but for running statistics, and those only when ``train``.
    """

    init: Callable[[Key], Variables]
    apply: Callable[[Variables, jax.Array, bool, Key | None], tuple[Outputs, Variables]]


class Method(Protocol):
    """A distillation method: a frozen dataclass of hyperparameters with four pure, jittable functions.

    One that cannot learn every set has ``check_start(synthetic)`` too, which raises UserError: ``init`` is traced, and
    sees shapes only. One whose steps may fail by chance says how many in a row are left out as ``max_skipped``; by
    default a NaN ends the run.
    """

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> PyTree:
        """Return the state from which ``step`` starts; sees one real batch, for probes."""
        ...

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return the rows (B,) of the training set, given all its labels (N,), that the next step wants."""
        ...

    def step(self, key: Key, state: PyTree, batch: Batch) -> tuple[PyTree, Metrics]:
        """Take one outer step; its metrics are scalars, ``loss`` among them.

        Under pmap a step sees its device's rows of the batch only: every mean over them, that of a gradient too, goes
        through `rcig.sharding.mean`. (The tests refuse implicit rank promotion: write ``x - mean[None]``.)
        """
        ...

    def synthetic(self, state: PyTree) -> Synthetic:
        """Return the distilled set that the state stands for."""
        ...


class Pipeline(Protocol):
    """A method of several stages; the loop runs one of them. Stages keep what they make in the folder and go on from
    what they find there, so a stopped run goes on within the stage it was in.
    """

    def prepare(self, key: Key, dataset: Dataset, start: Synthetic, folder: Path) -> tuple[Method, Dataset, Synthetic]:
        """Do the stages before the loop. Returns its method, the data set it draws batches from, and its start."""
        ...

    def complete(self, key: Key, synthetic: Synthetic, dataset: Dataset, folder: Path) -> None:
        """Do the stages after the loop: what belongs to the finished set and is no part of it.

        Left out where there are none: a finished run then ends at once.
        """
        ...
