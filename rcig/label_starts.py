"""Where the labels of a distilled set start: one-hot or softer, as soft-label distillation learns them.

Sucholutsky & Schonlau 2019, "Soft-label dataset distillation"; the names are those of their reference where it has one.

    LabelStart("AIDB", distance="SSIM", scale=10, add=-0.5)     # the options labels.*
    start(options, key, dataset, ipc=1, init_labels=(3, 7))     # (2, K)

A distance d (K, K) between the classes, divided by its maximum, becomes labels y_i = e_i + sum_{j != i} (1 - d_ij) e_j,
not normalised. All labels then become (y + add) * scale, or y * scale + add. They are targets, not distributions.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import uniform_filter

from rcig.data import embeddings
from rcig.errors import UserError, unknown
from rcig.files import local_path
from rcig.initialize import class_means, groups
from rcig.losses import centred_targets
from rcig.types import Array, Dataset, Key, Synthetic


@dataclass(frozen=True)
class LabelStart:
    """The options ``labels.*``; the defaults are where RCIG starts."""

    name: str = "centred"  # one of STARTS
    file: str = ""  # of "file": text, a row of K comma-separated numbers an example; of "CNDB": word vectors (GloVe)
    scale: float = 1.0
    add: float = 0.0
    add_first: bool = True  # (y + add) * scale, else y * scale + add
    distance: str = "MSE"  # between the mean pictures of "AIDB", one of DISTANCES
    invert: bool = False  # take 1 - d for the distance d of "CNDB" and "AIDB"

    def __post_init__(self):
        if self.name not in STARTS:
            raise unknown("labels.name", self.name, STARTS)
        if self.distance not in DISTANCES:
            raise unknown("labels.distance", self.distance, DISTANCES)
        if self.name in ("file", "CNDB") and not self.file:
            raise UserError(f"labels.name={self.name} needs labels.file: {_WANTED[self.name]}")
        idle = {"file": ("file", "CNDB"), "distance": ("AIDB",), "invert": ("CNDB", "AIDB")}
        for option, names in idle.items():
            if getattr(self, option) != getattr(LabelStart, option) and self.name not in names:
                raise UserError(f"labels.{option} is of labels.name {' or '.join(names)}, not of {self.name}")


def start(options: LabelStart, key: Key, dataset: Dataset, ipc: int, init_labels: Sequence[int] = ()) -> jax.Array:
    """Return the labels (M, K), float32, of a starting set of ``ipc`` rows of each of ``init_labels`` (empty: all).

    Raises: UserError for an ipc, labels, a file or a data set that do not fit.
    """
    classes = np.repeat(groups(dataset, ipc, init_labels), ipc)  # (M,)
    labels = jnp.asarray(STARTS[options.name](options, key, dataset, classes), jnp.float32)
    return (labels + options.add) * options.scale if options.add_first else labels * options.scale + options.add


def relabelled(options: LabelStart, synthetic: Synthetic) -> Synthetic:
    """Return a set whose labels say the largest class of each row: centred where ``options`` start so, else one-hot.

    So real examples are labelled to be judged under the same loss as a set whose labels started by ``options``.
    """
    classes, num_classes = jnp.argmax(synthetic.labels, axis=1), synthetic.labels.shape[1]
    targets = centred_targets if options.name == "centred" else _one_hot
    return synthetic._replace(labels=targets(classes, num_classes))


def class_name_distances(dataset: Dataset, path: Path) -> np.ndarray:
    """Return the mean squared differences (K, K) of the classes' names' vectors; several words count by their mean.

    Args: path of word vectors, see `rcig.data.embeddings.from_file`. Raises: UserError for a word that is not there.
    """
    names = [re.findall(r"[^\W_]+", name.lower()) or [name] for name in dataset.class_names]
    words = sorted({word for name in names for word in name})
    vectors = dict(zip(words, embeddings.from_file(path, words)[0].astype(np.float64), strict=True))
    for word in words:
        if not vectors[word].any():
            raise UserError(f"{path} has no vector for {word!r} of the class names; choose another labels.name")
    return _pairwise(mean_square, [np.mean([vectors[word] for word in name], axis=0) for name in names])


def average_image_distances(dataset: Dataset, distance: str) -> np.ndarray:
    """Return distances (K, K) between the classes' mean training pictures.

    They are taken in [0, 1] (the reference: after standardisation, which matters for NRMSE and SSIM only).
    Raises: UserError where examples are no pictures, or a distance is no number: NRMSE's of a black one.
    Cost: K^2 distances, for SSIM about 0.5 ms each at 28x28.
    """
    shape = dataset.example_shape
    if len(shape) != 3 or min(shape[:2]) < 3:
        raise UserError(f"labels.name=AIDB compares pictures (H, W, C) of 3x3 or more, not {shape}; choose another")
    means = np.asarray(dataset.decode(class_means(dataset, range(dataset.num_classes))), np.float64)
    with np.errstate(all="ignore"):  # what comes of it is refused
        distances = _pairwise(DISTANCES[distance], means)
    if not np.isfinite(distances).all():
        raise UserError(f"labels.distance={distance} of these classes' mean pictures is not finite; choose another")
    return distances


def mean_square(a: np.ndarray, b: np.ndarray) -> float:
    """Return mean (a - b)^2."""
    return float(np.mean((a - b) ** 2))


def nrmse(a: np.ndarray, b: np.ndarray) -> float:
    """Return ||a - b|| / ||a||, not symmetric."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean structural similarity of two pictures (H, W, C) in [0, 1], 1 where they are equal.

    (2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2)), Wang et al. 2004, eq. 13, with means m
    and sample covariances s over 3x3 windows inside the picture, channel by channel, c1 = 0.01^2, c2 = 0.03^2.
    """
    mean = lambda x: uniform_filter(x, (3, 3, 1))[1:-1, 1:-1]  # (H - 2, W - 2, C)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, cov = (9 / 8 * (mean(x * y) - mean(x) * mean(y)) for x, y in ((a, a), (b, b), (a, b)))
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return float(np.mean(above / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "MSE": mean_square,
    "NRMSE": nrmse,
    "SSIM": lambda a, b: 1 - ssim(a, b),
}


def _one_hot(classes: Array, num_classes: int) -> jax.Array:
    return jax.nn.one_hot(classes, num_classes, dtype=jnp.float32)


def _random(draw: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Return a start whose entries are drawn independently by ``draw(key, shape)``."""
    return lambda options, key, dataset, classes: draw(key, (len(classes), dataset.num_classes))


def _by_class(table: Callable[[LabelStart, Key, Dataset], Array]) -> Callable[..., Array]:
    """Return a start whose rows are those of a table (K, K), one for each class."""
    return lambda options, key, dataset, classes: table(options, key, dataset)[classes]


def _smoothed(options: LabelStart, key: Key, dataset: Dataset) -> np.ndarray:
    return 0.9 * np.eye(dataset.num_classes) + 0.1 / dataset.num_classes


def _orthogonal(options: LabelStart, key: Key, dataset: Dataset) -> jax.Array:
    return jax.random.orthogonal(key, dataset.num_classes, dtype=jnp.float32)


def _near_names(options: LabelStart, key: Key, dataset: Dataset) -> np.ndarray:
    return _closeness(class_name_distances(dataset, local_path(options.file)), options.invert)


def _near_images(options: LabelStart, key: Key, dataset: Dataset) -> np.ndarray:
    return _closeness(average_image_distances(dataset, options.distance), options.invert)


def _closeness(distances: np.ndarray, invert: bool) -> np.ndarray:
    """Return e_i + sum_{j != i} (1 - d_ij) e_j for distances (K, K) relative to their maximum."""
    relative = distances / (distances.max() or 1.0)  # equal classes are at no distance
    closeness = relative if invert else 1 - relative
    np.fill_diagonal(closeness, 1)
    return closeness


def _pairwise(distance: Callable[[np.ndarray, np.ndarray], float], points: Sequence[np.ndarray] | np.ndarray):
    return np.array([[distance(a, b) for b in points] for a in points])


def _from_file(options: LabelStart, key: Key, dataset: Dataset, classes: np.ndarray) -> np.ndarray:
    shape = (len(classes), dataset.num_classes)
    try:
        text = local_path(options.file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"labels.file {options.file} cannot be read ({error}); choose a UTF-8 text file") from None
    try:
        labels = np.array([line.split(",") for line in text.split("\n") if line.strip()], np.float32)
    except ValueError as error:
        raise UserError(f"{options.file} must hold {_WANTED['file']} ({error}); mend it") from None
    if labels.shape != shape or not np.isfinite(labels).all():
        raise UserError(f"{options.file} must hold finite labels {shape}, an example a row, not {labels.shape}")
    return labels


STARTS: dict[str, Callable[..., Array]] = {
    "centred": lambda options, key, dataset, classes: centred_targets(classes, dataset.num_classes),
    "one_hot": lambda options, key, dataset, classes: _one_hot(classes, dataset.num_classes),
    "normal": _random(lambda key, shape: jax.random.normal(key, shape, jnp.float32)),
    "uniform": _random(lambda key, shape: jax.random.uniform(key, shape, jnp.float32)),
    "bin": _random(lambda key, shape: jax.random.bernoulli(key, 0.5, shape)),
    "zeros": _random(lambda key, shape: jnp.zeros(shape)),
    "ones": _random(lambda key, shape: jnp.ones(shape)),
    "smoothed": _by_class(_smoothed),
    "orthogonal": _by_class(_orthogonal),
    "file": _from_file,
    "CNDB": _by_class(_near_names),
    "AIDB": _by_class(_near_images),
}
_WANTED = {"file": "rows of K comma-separated numbers, one an example", "CNDB": "a GloVe text file of word vectors"}
