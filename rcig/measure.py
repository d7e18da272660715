"""From a distilled set to its accuracy, beside that of other sets: what the second command calls."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rcig import artefact, baselines, experiment, label_starts
from rcig import config as configs
from rcig.data.preprocess import same_space
from rcig.errors import UserError
from rcig.evaluation.standard import Result, check_fits
from rcig.initialize import everything
from rcig.schedule import NETWORKS
from rcig.types import Dataset, Key, Synthetic

_DRAWS = 5  # of random real examples, under protocols that need say no more of a set than its accuracy:
_OF_MANY = ("standard", "bptt", "kernel", "nearest")

_NOT_OF_ALL = {
    "bptt": "protocol bptt follows a set's schedule, and all data have none",
    "kernel": "protocol kernel wants a matrix of all pairs of training examples, and takes no steps",
    "nas": "protocol nas compares with networks trained on all data anyway",
}


def evaluate(
    distilled: artefact.Distilled | str | Path,
    config: ConfigDict | None = None,
    dataset: Dataset | None = None,
    full_data_steps: int = 0,
    compare: Sequence[str] = ("real",),
    **options: Any,
) -> dict[str, Any]:
    """Measure a distilled set with fresh networks, beside random real examples under the same protocol.

    Args: distilled, or where it is; config, default the one on the set's card; dataset, default the config's;
    full_data_steps, if any, also train the same networks on the whole training set for so many steps; compare, names of
    rcig/baselines.py to measure too, such as "kmeans", or none; options, fields of ``config.eval`` to change.
    Returns: the result as a JSON-able dict (protocol, model, accuracy, std, n, ...); accuracies are in [0, 1].
    """
    distilled = distilled if isinstance(distilled, artefact.Distilled) else artefact.load(Path(distilled))
    config = config or configs.from_dict(distilled.card["config"])
    config = configs.change(config, {f"eval.{name}": value for name, value in options.items()})
    if full_data_steps < 0:
        raise UserError(f"--full_data_steps must not be negative, not {full_data_steps}; 0 trains on the set alone")
    if full_data_steps and config.eval.protocol in _NOT_OF_ALL:
        raise UserError(f"{_NOT_OF_ALL[config.eval.protocol]}; --protocol=standard trains on all data")
    baselines.check(compare)
    if config.eval.protocol == "nas" and "optimised" in compare:
        raise UserError(
            "baseline optimised is chosen by its accuracy, and protocol nas tells that of another network, not of a "
            "set; leave it out of --baselines"
        )
    began = time.monotonic()
    with _number_formats(config):
        report = _evaluate(distilled, config, dataset, full_data_steps, compare)
    return report | {"seconds": round(time.monotonic() - began, 1)}


def _evaluate(
    distilled: artefact.Distilled,
    config: ConfigDict,
    dataset: Dataset | None,
    full_data_steps: int,
    compare: Sequence[str],
) -> dict[str, Any]:
    dataset = dataset or experiment.load_dataset(config)
    check_space(distilled, dataset, config.dataset)
    if not experiment.same_data(distilled.card, dataset):
        told = f"data set {dataset.name} has changed since it was distilled: test examples may have been trained on"
        warnings.warn(told, stacklevel=2)
    wanted = distilled.card["config"].get("num_steps", 0)
    if distilled.card["step"] < wanted:
        warnings.warn(f"the set is that of step {distilled.card['step']} of {wanted}", stacklevel=2)
    config = _with_pool(config, distilled)
    for doubt in _doubts(distilled, config, dataset):
        warnings.warn(doubt, stacklevel=2)
    judge = experiment.make_judge(config, dataset)
    key, key_random, key_draw, key_full = jax.random.split(experiment.judges_key(config.seed), 4)
    labels = label_starts.LabelStart(**config.labels.to_dict())
    if config.eval.get("loss", "mse") != "mse":  # a cross-entropy of centred labels has no minimum
        labels = label_starts.LabelStart("one_hot", scale=labels.scale, add=labels.add, add_first=labels.add_first)
    rows = (dataset, distilled.card["ipc"], distilled.classes, labels)
    model = experiment.make_model(config.eval.model, dataset)
    result = judge(key, distilled.synthetic)  # before coresets are made, should the set not fit the protocol
    compared = baselines.make(compare, key_draw, *rows, model, partial(_quick_judge, config), _num_draws(config.eval))
    report = {
        "protocol": config.eval.protocol,
        "preset": config.eval.preset,
        "dataset": config.dataset,
        "model": _describe(config.eval.model),
        "ipc": distilled.card["ipc"],
        "num_examples": len(distilled.inputs),
        **result.summary(),
        "seed": config.seed,
        "augmentation": result.augmentation,
        "options": configs.beyond_preset(config) | configs.elsewhere(config, distilled.card["config"]),
        **result.details,
    }
    for name, sets in compared.items():
        field = f"baseline_{'random' if name == 'real' else name}"
        more = {"draws": len(sets)} if len(sets) > 1 else {}
        report |= _compared(field, partial(_judge_all, judge, key_random, sets, config), **more)
    if full_data_steps:
        trained = {"num_steps": full_data_steps, "flip": False}
        changes = {name: value for name, value in trained.items() if name in config.eval}  # k-NN trains nothing
        full = lambda: judge(key_full, label_starts.relabelled(labels, everything(dataset)), **changes)
        report |= _compared("full_data", full, steps=full_data_steps)
    return report


@contextmanager
def _number_formats(config: ConfigDict) -> Iterator[None]:
    """Compute as the config says; a command's process does anyway, that of a caller in Python need not."""
    precision = None if config.precision == "default" else config.precision
    with jax.enable_x64(config.x64), jax.default_matmul_precision(precision):
        yield


def check_space(distilled: artefact.Distilled, dataset: Dataset, name: str) -> None:
    """Raise UserError unless a set lives in the space of the data set called ``name``, as far as its card says."""
    check_fits(distilled.synthetic, dataset)
    space = distilled.card["pixel_space"]
    if not same_space(space, dataset.preprocessing["kind"], name):
        raise UserError(
            f"the distilled set lives in pixel space {space!r}, data set {name} in {dataset.preprocessing['kind']!r}; "
            f"set --config.preprocessing={space}"
        )
    if not experiment.same_vectors(distilled.card, dataset):
        raise UserError(
            f"the distilled set's words have other vectors than data set {name} now; set config.data.embeddings, "
            "vocabulary and embedding_dim as they were, and check that the files are the same"
        )


def _doubts(distilled: artefact.Distilled, config: ConfigDict, dataset: Dataset) -> Iterator[str]:
    """Yield what of a set the judge leaves out, or has to guess."""
    theirs = distilled.card["method"] in ("rcig", "frepo")  # what default preprocessing is
    if distilled.card["pixel_space"] == "unknown" and not theirs:
        kind = dataset.preprocessing["kind"]
        yield f"nobody says in which pixel space the set lives; {kind!r} is supposed, or set config.preprocessing"
    if config.eval.get("loss") == "cross_entropy" and len(np.unique(distilled.labels)) > 2:
        yield (
            "the set's labels are learned, and eval.loss=cross_entropy takes the largest of each row; mse, "
            "soft_cross_entropy and raw_cross_entropy take them as they are"
        )
    rates, rate = distilled.synthetic.learning_rates, config.eval.get("learning_rate", 0.0)
    if rates is None or np.size(rates) > 1:
        return
    told = f"the set's learned rate {np.mean(rates):.3g}"
    if rate:
        yield f"{told} is not used: eval.learning_rate is {rate}, and 0 takes it"
    if config.eval.protocol == "bptt" and distilled.card["method"] != "bptt":
        yield (
            f"{told} is a rate, not a schedule, and protocol bptt takes one step at it; --protocol=standard "
            "--config.eval.preset=mtt trains at it"
        )


def _num_draws(section: ConfigDict) -> int:
    """Return how many sets of random real examples are judged under a protocol, ``config.eval``.

    One where it says more of a set than its accuracy, of a pool, whose first networks every draw would meet, and of a
    convolutional network of infinite width, whose kernel costs each draw as much as the set.
    """
    more = section.get("attack") or section.get("trained_networks")
    more = more or section.get("kernel", "").endswith(("convnet", "convnet3", "myrtle"))
    if section.protocol not in _OF_MANY or more or section.get("networks", "random") not in NETWORKS:
        return 1
    return min(_DRAWS, section.get("num_networks", _DRAWS))


def _judge_all(judge: Callable[..., Any], key: Key, sets: Sequence[Synthetic], config: ConfigDict) -> Any:
    """Return the result of several sets of a kind; together they have the networks that one would have."""
    if len(sets) == 1:
        return judge(key, sets[0])
    wanted = config.eval.get("num_networks", 0)
    changes = {"num_networks": -(-wanted // len(sets))} if wanted else {}
    keys = jax.random.split(key, len(sets))
    return Result.pooled([judge(*one, **changes) for one in zip(keys, sets, strict=True)])


def _compared(field: str, measure: Callable[[], Any], **more: int) -> dict[str, Any]:
    """Return the numbers of another set, what a protocol wants beside the same of the distilled one, and ``more``.

    None, and a warning, where it cannot be measured: what is known of the distilled set is not lost.
    """
    try:
        result = measure()
    except UserError as error:
        warnings.warn(f"no {field}: {error}", stacklevel=2)
        return {}
    told = {field: result.accuracy, f"{field}_std": result.std}
    if result.augmented:
        told |= {f"{field}_augmented": result.augmented.accuracy, f"{field}_augmented_std": result.augmented.std}
    more |= {part: result.details[part] for part in ("measures", "chart", "architectures") if part in result.details}
    return told | {f"{field}_{part}": value for part, value in more.items()}


def _with_pool(config: ConfigDict, distilled: artefact.Distilled) -> ConfigDict:
    """Return the config with the pool of soft labels that lies beside the set or in it, if its protocol wants one."""
    if distilled.folder is None or config.eval.get("label_pool", "elsewhere"):
        return config
    places = [folder / "soft_labels" for folder in (distilled.folder.parent, distilled.folder)]
    found = [str(place) for place in places if (place / "meta.json").is_file()]
    return configs.change(config, {"eval.label_pool": found[0]}) if found else config


def _quick_judge(config: ConfigDict, dataset: Dataset) -> Callable[..., Any]:
    """Return the config's judge with three networks, where it has any: enough to choose a baseline."""
    few = {"eval.num_networks": min(3, config.eval.num_networks)} if "num_networks" in config.eval else {}
    return experiment.make_judge(configs.change(config, few), dataset)


def _describe(section: ConfigDict) -> str:
    """Return a network's name with its main options: convnet(width=32,depth=3,norm=none)."""
    shown = ("width", "depth", "norm")
    return f"{section.name}({','.join(f'{name}={section[name]}' for name in shown if name in section)})"
