"""The command `python -m rcig.diversity`: how alike a set's images of a class are, and how unlike the real ones.

    python -m rcig.diversity diversity runs/lpld_digits runs/sre2l_digits      # a table, diversity.json, diversity.png

Features are the inputs of the last layer of a teacher, the first run's, in running-statistics mode. Per class, averaged
over classes, for n set features z and m real features r:

    cosine           mean over pairs i < j of <z_i, z_j> / |z_i| |z_j|: higher is more alike
    mmd              mean k(r, r') + mean k(z, z') - 2 mean k(r, z),  k = exp(-d^2 / median d^2 of real pairs); means
                     are over all pairs, a vector with itself too: n real ones get about (1 - mean k) / n, not 0
    effective_rank   exp of the entropy of the covariance's eigenvalues as shares of their sum (Roy & Vetterli 2007)
    pixel_cosine     cosine, of the images in model-input space

Beside the sets stand as many random real images, and all real ones of these classes, at most `MOST` each. Xiao & He
2024 measure likeness and MMD too; their features and kernel are not published, so their numbers are not comparable.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from rcig import artefact, command, experiment
from rcig import config as configs
from rcig.chunks import map_features
from rcig.errors import UserError
from rcig.initialize import real, rows_of
from rcig.measure import check_space
from rcig.report import aligned, check_outside, save_outside
from rcig.teacher import load
from rcig.types import Model, Variables

MOST = 500  # real images of a class that are looked at
MEASURES = ("cosine", "mmd", "effective_rank", "pixel_cosine")
Row = dict[str, float]  # of MEASURES


def main() -> None:
    parser = command.parser(*__doc__.split("\n", 1), prog="python -m rcig.diversity")
    parser.add_argument("out", type=command.place, help="where to write, without ending")
    parser.add_argument(
        "runs", type=command.place, nargs="+", help="workdirs of the same data set; the first one has a teacher"
    )
    parser.add_argument("--data_dir", default="", help="where the real data are, if TFDS_DATA_DIR does not say it")
    flags = parser.parse_args()
    check_outside(flags.out, flags.runs)
    config = configs.from_dict(artefact.load(flags.runs[0]).card["config"])
    command.set_up_jax(config.precision, config.x64)
    rows = report(flags.runs, flags.data_dir)
    known = {
        run: {name: value if np.isfinite(value) else None for name, value in row.items()} for run, row in rows.items()
    }
    save_outside(flags.out, known, bars(rows))
    print(table(rows))


def report(runs: Sequence[Path], data_dir: str = "") -> dict[str, Row]:
    """Return the measures of the sets of some runs, called as their workdirs, and of real images.

    Raises UserError where the first has no teacher, for workdirs of one name, and for sets of other shapes or spaces.
    """
    sets = {run.resolve().name: artefact.load(run) for run in runs}
    if len(sets) < len(runs):
        raise UserError(f"workdirs must differ in their last names, which are {', '.join(sets)}; rename one")
    first = next(iter(sets.values()))
    config = configs.change(configs.from_dict(first.card["config"]), {"data_dir": data_dir})
    dataset = experiment.load_dataset(config)
    model = experiment.make_model(config.model, dataset)
    variables = load(runs[0], model).variables
    labels = np.asarray(dataset.train.labels)
    every = np.concatenate([rows_of(dataset, k)[:MOST] for k in first.classes])
    images, classes = np.asarray(dataset.train.inputs[every]), labels[every]
    drawn = real(experiment.judges_key(config.seed), dataset, first.card["ipc"], first.classes)
    if len({(one.card["ipc"], *one.classes) for one in sets.values()}) > 1:
        told = "the measures depend on the number of examples and classes, in which the sets differ"
        warnings.warn(f"{told}; random real is as the first", stacklevel=2)
    compared = {name: (one.inputs, np.argmax(one.labels, 1)) for name, one in sets.items()}
    compared |= {"random real": (drawn.inputs, np.argmax(drawn.labels, 1)), "all real": (images, classes)}
    for one in sets.values():
        check_space(one, dataset, config.dataset)
    real_features = features(model, variables, images)
    return {
        name: measure(features(model, variables, x), x, y, real_features, classes) for name, (x, y) in compared.items()
    }


def features(model: Model, variables: Variables, inputs: np.ndarray, chunk: int = 256) -> np.ndarray:
    """Return the features (N, D) of a network in running-statistics mode, as float64."""
    look = jax.jit(partial(map_features, model))
    parts = [look(variables, jnp.asarray(inputs[start : start + chunk])) for start in range(0, len(inputs), chunk)]
    return np.concatenate(parts).astype(np.float64)


def measure(
    vectors: np.ndarray, images: np.ndarray, classes: np.ndarray, real: np.ndarray, real_classes: np.ndarray
) -> Row:
    """Return the measures of a set, averaged over its classes.

    Args: vectors (M, D), features; images (M, ...); classes (M,); real (N, D), features of real images. A class of one
    image has no cosine: NaN.
    """
    shape = (len(images), -1)
    per_class = []
    for label in np.unique(classes):
        mine, theirs = vectors[classes == label], real[real_classes == label]
        pixels = np.asarray(images, np.float64).reshape(shape)[classes == label]
        per_class.append((cosine(mine), mmd(mine, theirs), effective_rank(mine), cosine(pixels)))
    return dict(zip(MEASURES, map(float, np.mean(per_class, 0)), strict=True))


def cosine(vectors: np.ndarray) -> float:
    """Return the mean cosine of two different rows of (n, D)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    n = len(unit)
    return (np.sum(np.square(np.sum(unit, 0))) - np.sum(np.square(unit))) / (n * (n - 1)) if n > 1 else np.nan


def mmd(vectors: np.ndarray, real: np.ndarray) -> float:
    """Return the squared maximum mean discrepancy of (n, D) to (m, D), its kernel's width by the real median."""
    among = _squared_distances(real, real)
    different = among[np.triu_indices(len(real), 1)]
    median = np.median(different) if different.any() else 1.0
    kernel = lambda distances: float(np.mean(np.exp(-distances / median)))
    return kernel(among) + kernel(_squared_distances(vectors, vectors)) - 2 * kernel(_squared_distances(real, vectors))


def effective_rank(vectors: np.ndarray) -> float:
    """Return the effective number of directions in which rows (n, D) spread around their mean, 1 to min(n - 1, D)."""
    shares = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False) ** 2
    total = shares.sum()
    if total <= 1e-12 * np.sum(vectors**2):
        return 1.0
    shares = shares[shares > 0] / total
    return float(np.exp(-np.sum(shares * np.log(shares))))


def table(rows: dict[str, Row]) -> str:
    """Return the measures as aligned lines."""
    cells = [["", *MEASURES], *([name, *(f"{row[measure]:.4g}" for measure in MEASURES)] for name, row in rows.items())]
    return "\n".join(aligned(cells))


def bars(rows: dict[str, Row]) -> Figure:
    """Draw one group of bars a measure."""
    figure = Figure((3 * len(MEASURES), 1.2 + 0.35 * len(rows)), layout="constrained")
    names = list(rows)[::-1]
    for axes, name in zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        values = [rows[run][name] for run in names]
        drawn = axes.barh(names, values, color=["0.6" if run.endswith(" real") else "tab:blue" for run in names])
        axes.bar_label(drawn, fmt="%.3g", padding=2)
        axes.set_title(name.replace("_", " "))
        axes.margins(x=0.25)
    return figure


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a_i - b_j|^2, (n, m), never negative."""
    squares = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1)[None] - 2 * a @ b.T
    return np.maximum(squares, 0.0)


if __name__ == "__main__":
    command.main(main)
