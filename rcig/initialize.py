"""Starting sets: what a distillation begins from, and what it must beat.

    synthetic = initialize("real", jax.random.key(0), dataset, ipc=10)  # inputs (10 K, ...), labels (10 K, K)
    fewer = initialize("normal", key, dataset, ipc=1, init_labels=(3, 7))  # two rows, of classes 3 and 7

Rows are class-major: row i starts from class init_labels[i // ipc], or i // ipc where no ``init_labels`` are said.
Labels are centred one-hot (`rcig.label_starts` has others), everything is float32, in model-input space.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rcig import sharding
from rcig.data.text import as_leaves
from rcig.errors import UserError, unknown
from rcig.losses import centred_targets
from rcig.types import Array, Dataset, Key, PyTree, Synthetic

MAX_CLUSTERED = 5000  # examples of a class that k-means sees
_CHUNK = 1000  # examples taken at a time where only their sum is wanted


def real(key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> Synthetic:
    """Take ``ipc`` random training examples of every class, without replacement.

    Raises: UserError when ipc is below 1 or larger than the smallest class.
    """
    classes = groups(dataset, ipc, init_labels)
    check_sizes(dataset, ipc, classes)
    labels = np.asarray(dataset.train.labels)
    counts = np.bincount(labels, minlength=dataset.num_classes)
    order = np.asarray(jax.random.permutation(key, len(labels)))
    by_class = order[np.argsort(labels[order], kind="stable")]  # (N,), shuffled within each class
    first = (np.cumsum(counts) - counts)[classes]
    rows = (first[:, None] + np.arange(ipc)).reshape(-1)  # (M,)
    inputs = np.asarray(dataset.train.inputs[by_class[rows]], np.float32)
    return labelled(inputs, dataset, classes)


def noise(key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> Synthetic:
    """Draw every input from 0.3 N(0, 1), RCIG's noise, in model-input space. Raises: UserError when ipc is below 1."""
    start = normal(key, dataset, ipc, init_labels)
    return start._replace(inputs=0.3 * start.inputs)


def normal(key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> Synthetic:
    """Draw every input from N(0, 1) in model-input space (DD, Wang et al. 2018). Raises: UserError for a bad ipc."""
    classes = groups(dataset, ipc, init_labels)
    shape = (len(classes) * ipc, *dataset.example_shape)
    return labelled(jax.random.normal(key, shape, jnp.float32), dataset, classes)


def unit(key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> Synthetic:
    """Draw every input from N(0, 1), then give it norm 1 (Feng et al. 2024). Raises: UserError for a bad ipc."""
    start = normal(key, dataset, ipc, init_labels)
    norms = jnp.linalg.norm(start.inputs.reshape(len(start.inputs), -1), axis=1)
    return start._replace(inputs=start.inputs / norms.reshape(-1, *[1] * len(dataset.example_shape)))


def xavier(key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> Synthetic:
    """Draw every number from U(-a, a), a^2 = 6 / (M + D) for M inputs of D numbers (Deng & Russakovsky 2022).

    Raises: UserError for a bad ipc.
    """
    start = normal(key, dataset, ipc, init_labels)
    size = (6 / (len(start.inputs) + start.inputs[0].size)) ** 0.5
    return start._replace(inputs=jax.random.uniform(key, start.inputs.shape, jnp.float32, -size, size))


def average(key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> Synthetic:
    """Take the mean training example of every class, the same one ``ipc`` times; the key is not used."""
    classes = groups(dataset, ipc, init_labels)
    return labelled(np.repeat(class_means(dataset, classes), ipc, axis=0), dataset, classes)


def kmeans(key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> Synthetic:
    """Take the ``ipc`` k-means centres of every class: k-means++ seeding, one run of Lloyd's algorithm.

    Of a class with more than ``MAX_CLUSTERED`` examples so many random ones are clustered; ipc 1 is `average`, exactly.
    Cost: MNIST, ipc 10: 30 s on two busy cores.
    Raises: UserError when ipc is below 1 or larger than the smallest class.
    """
    classes = groups(dataset, ipc, init_labels)
    check_sizes(dataset, ipc, classes)
    if ipc == 1:
        return average(key, dataset, ipc, init_labels)
    seeds = np.asarray(jax.random.bits(key, (len(classes),), jnp.uint32))
    centres = [_centres(int(seed), dataset, ipc, label) for seed, label in zip(seeds, classes, strict=True)]
    return labelled(np.concatenate(centres), dataset, classes)


def everything(dataset: Dataset) -> Synthetic:
    """Return the whole training split as if it were a distilled set (rows as they come, not class-major).

    Raises: UserError where a device has not the memory for it.
    """
    inputs = all_inputs(dataset)
    return Synthetic(inputs, centred_targets(jnp.asarray(dataset.train.labels), dataset.num_classes))


def all_inputs(dataset: Dataset) -> PyTree:
    """Return the training split's inputs on the device. Raises: UserError where this has not the memory for them."""
    needed, there = dataset.train.inputs.nbytes, sharding.whole_memory()
    if needed > there:
        raise UserError(
            f"all of data set {dataset.name} at once takes {needed / 2**30:.0f} GiB, a device has {there / 2**30:.0f}; "
            "choose a smaller data.resolution, or what takes batches"
        )
    return jax.tree.map(jnp.asarray, as_leaves(dataset.train.inputs))


STARTS: dict[str, Callable[..., Synthetic]] = {
    "real": real,
    "noise": noise,
    "normal": normal,
    "unit": unit,
    "xavier": xavier,
    "average": average,
    "kmeans": kmeans,
}


def initialize(name: str, key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> Synthetic:
    """Make the starting set called ``name``: ``ipc`` rows of each class in ``init_labels``, of all where it is empty.

    Raises: UserError that lists the known names; for an ipc or labels that do not fit the data set.
    """
    if name not in STARTS:
        raise unknown("starting set", name, STARTS)
    return STARTS[name](key, dataset, ipc, init_labels)


def groups(dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> list[int]:
    """Return the class that each group of ``ipc`` rows starts from. Raises: UserError for a bad ipc or label."""
    if ipc < 1:
        raise UserError(f"ipc must be at least 1, not {ipc}; choose how many examples each class gets")
    classes = list(init_labels) or list(range(dataset.num_classes))
    for label in classes:
        if type(label) is not int or not 0 <= label < dataset.num_classes:
            known = f"classes 0..{dataset.num_classes - 1} of {dataset.name}"
            raise UserError(f"init_labels must be {known}, not {label!r}; choose among them")
    if len(set(classes)) < len(classes):
        raise UserError(f"init_labels {tuple(classes)} name a class twice; name each once and raise ipc for more rows")
    return classes


def class_means(dataset: Dataset, classes: Sequence[int]) -> np.ndarray:
    """Return the mean training example of each of some classes, (len(classes), ...) float32, summed in float64."""
    check_sizes(dataset, 1, classes)
    return np.stack([_mean(dataset.train.inputs, rows_of(dataset, label)) for label in classes])


def _mean(inputs: Array, rows: np.ndarray) -> np.ndarray:
    chunks = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
    total = sum(np.asarray(inputs[chunk]).sum(0, dtype=np.float64) for chunk in chunks)
    return (total / len(rows)).astype(np.float32)


def _centres(seed: int, dataset: Dataset, ipc: int, label: int) -> np.ndarray:
    """Return the k-means centres (ipc, ...) of one class."""
    from sklearn.cluster import KMeans  # a second to import, wanted by this start only

    draw, rows = np.random.RandomState(seed), rows_of(dataset, label)
    if len(rows) > MAX_CLUSTERED:
        rows = np.sort(draw.choice(rows, MAX_CLUSTERED, replace=False))
    inputs = np.asarray(dataset.train.inputs[rows], np.float32).reshape(len(rows), -1)
    fitted = KMeans(ipc, init="k-means++", n_init=1, random_state=draw).fit(inputs)
    return fitted.cluster_centers_.reshape(ipc, *dataset.example_shape)


def rows_of(dataset: Dataset, label: int) -> np.ndarray:
    """Return the rows (n,) of the training split that are of one class."""
    return np.flatnonzero(np.asarray(dataset.train.labels) == label)


def labelled(inputs: Array, dataset: Dataset, classes: Sequence[int]) -> Synthetic:
    """Give the rows of a start their centred labels."""
    ipc = len(inputs) // len(classes)
    labels = jnp.repeat(jnp.asarray(classes), ipc)
    return Synthetic(jnp.asarray(inputs, jnp.float32), centred_targets(labels, dataset.num_classes))


def check_sizes(dataset: Dataset, ipc: int, classes: Sequence[int]) -> None:
    """Raise UserError unless every class has ``ipc`` training examples."""
    counts = np.bincount(np.asarray(dataset.train.labels), minlength=dataset.num_classes)
    smallest = min(classes, key=counts.__getitem__)
    if ipc > counts[smallest]:
        raise UserError(
            f"ipc {ipc} is more than class {dataset.class_names[smallest]!r} of {dataset.name} has "
            f"({counts[smallest]} examples); choose at most {counts[smallest]}"
        )
