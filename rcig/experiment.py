"""From a config to a distilled set, and from a distilled set to its accuracy: what the two commands call."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rcig import artefact, baselines, data, label_starts, loop, metrics, render, sharding
from rcig import config as configs
from rcig.card import new_card, seal
from rcig.data.preprocess import same_space
from rcig.errors import UserError
from rcig.evaluation.standard import check_fits
from rcig.files import check_plain, locked
from rcig.initialize import everything, initialize
from rcig.lookup import find
from rcig.render_schedule import write_schedule
from rcig.sentences import write_sentences
from rcig.types import Dataset, Model, Synthetic


def load_dataset(config: ConfigDict) -> Dataset:
    """Load the config's data set, preprocessed."""
    options = {name: value for name, value in config.data.to_dict().items() if value}
    return data.load(config.dataset, data_dir=config.data_dir or None, preprocessing=config.preprocessing, **options)


def make_model(section: ConfigDict, dataset: Dataset) -> Model:
    """Make the network that a section of the config describes."""
    module = find("rcig.models", section.name)
    return module.make(dataset.example_shape, dataset.num_classes, **configs.options(section))


def make_judge(config: ConfigDict, dataset: Dataset) -> Callable[..., Any]:
    """Return ``(key, synthetic, **changes) -> Result``: networks of ``config.eval.model``, the config's protocol."""
    module, model = find("rcig.evaluation", config.eval.protocol), make_model(config.eval.model, dataset)
    options = configs.options(config.eval)
    module.make(**options)  # what is wrong with them is said now, not after the distillation

    def judge(key, synthetic, **changes):
        return module.evaluate(key, synthetic, dataset, model, module.make(**options | changes))

    return judge


def make_start(config: ConfigDict, dataset: Dataset) -> Synthetic:
    """Make the set that a distillation starts from, with the labels that the config wants."""
    key = jax.random.key(config.seed)
    key_labels = jax.random.fold_in(key, 3)  # streams 0 to 2 are the loop's, 4 and 5 a pipeline's
    start = initialize(config.initialization, key, dataset, config.ipc, config.init_labels)
    options = label_starts.LabelStart(**config.labels.to_dict())
    return start._replace(labels=label_starts.start(options, key_labels, dataset, config.ipc, config.init_labels))


def distill(config: ConfigDict, workdir: Path) -> artefact.Distilled:
    """Distil as the config says; leave everything in ``workdir``; go on from what is there.

    A finished run costs no more than reading its result. Raises UserError for what the user can mend, SystemExit 130
    or 143 when stopped by a signal.
    """
    _check_place(config, workdir)
    if config.eval_every and config.eval.get("label_pool") == "":
        raise UserError(
            f"eval_every must be 0: protocol {config.eval.protocol} wants soft labels, which are made at the end; "
            "or name others by eval.label_pool"
        )
    schedule = loop.Schedule(**{name: config[name] for name in loop.Schedule.__dataclass_fields__})
    layout = sharding.layout(config.parallel)
    with claimed(config, workdir):
        make = find("methods", config.method.name).make
        one_stage = isinstance(make, type) and not hasattr(make, "prepare")  # of a function one cannot know yet
        begun = _begun(workdir)
        if begun is not None and begun.card["step"] == config.num_steps and one_stage:
            return begun
        dataset = load_dataset(config)
        if begun is not None and not _same_data(begun.card, dataset):  # its steps would not be those of any one run
            raise UserError(
                f"data set {dataset.name} has changed since the run in {workdir} began; put the data back as they "
                "were, or use another --workdir"
            )
        model, judge = make_model(config.model, dataset), make_judge(config, dataset)
        method = make(model, **configs.options(config.method))
        pipeline = hasattr(method, "prepare")
        start = make_start(config, dataset)
        key_prepare, key_complete = (jax.random.fold_in(jax.random.key(config.seed), stream) for stream in (4, 5))
        if pipeline:
            stage, drawn, start = method.prepare(key_prepare, dataset, start, workdir)
        else:
            stage, drawn = method, dataset

        def evaluate(step: int, synthetic: Synthetic) -> dict[str, float]:
            result = judge(jax.random.key(step), synthetic)
            return {"test_accuracy": result.accuracy, "test_std": result.std}

        def publish(step: int, synthetic: Synthetic) -> None:
            try:  # first, so that whose last set is there has its pictures, whenever it was killed
                show(step, synthetic)
            finally:
                card = make_card(config, dataset, step)
                if begun is None or not _holds(begun.card, synthetic, card):  # else it has been measured, perhaps
                    artefact.save(workdir / "distilled", synthetic, card)

        def show(step: int, synthetic: Synthetic) -> None:
            names = [dataset.class_names[k] for k in config.init_labels] or dataset.class_names
            decoded = dataset.decode(np.asarray(synthetic.inputs, np.float32))
            render.write_images(workdir, decoded, names, config.ipc, step, metrics.read(workdir))
            if dataset.preprocessing["kind"] == "embedding":
                write_sentences(workdir, synthetic, decoded, dataset.class_names, step)
            write_schedule(workdir, synthetic, decoded, dataset.class_names, step)

        synthetic = loop.run(stage, drawn, start, schedule, workdir, layout, evaluate=evaluate, publish=publish)
        if pipeline:
            method.complete(key_complete, synthetic, dataset, workdir)
        return seal(synthetic, make_card(config, dataset, config.num_steps))


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
    if full_data_steps and config.eval.protocol == "bptt":
        raise UserError(
            "protocol bptt follows a set's schedule, and all data have none; --protocol=standard trains on all data"
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
    dataset = dataset or load_dataset(config)
    check_space(distilled, dataset, config.dataset)
    if not _same_data(distilled.card, dataset):
        told = f"data set {dataset.name} has changed since it was distilled: test examples may have been trained on"
        warnings.warn(told, stacklevel=2)
    wanted = distilled.card["config"].get("num_steps", 0)
    if distilled.card["step"] < wanted:
        warnings.warn(f"the set is that of step {distilled.card['step']} of {wanted}", stacklevel=2)
    config = _with_pool(config, distilled)
    judge = make_judge(config, dataset)
    key, key_random, key_draw, key_full = jax.random.split(jax.random.key(config.seed), 4)
    labels = label_starts.LabelStart(**config.labels.to_dict())
    rows = (dataset, distilled.card["ipc"], distilled.classes, labels)
    model = make_model(config.eval.model, dataset)
    compared = baselines.make(compare, key_draw, *rows, model, partial(_quick_judge, config))
    result = judge(key, distilled.synthetic)
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
        "options": configs.beyond_preset(config),
        **result.details,
    }
    for name, start in compared.items():
        baseline, field = judge(key_random, start), f"baseline_{'random' if name == 'real' else name}"
        report |= {field: baseline.accuracy, f"{field}_std": baseline.std} | _compared(field, baseline)
    if full_data_steps:
        trained = {"num_steps": full_data_steps, "flip": False}
        changes = {name: value for name, value in trained.items() if name in config.eval}  # k-NN trains nothing
        full = judge(key_full, label_starts.relabelled(labels, everything(dataset)), **changes)
        report |= {"full_data": full.accuracy, "full_data_std": full.std} | _compared("full_data", full)
    return report


@contextmanager
def _number_formats(config: ConfigDict) -> Iterator[None]:
    """Compute as the config says; a command's process does anyway, that of a caller in Python need not."""
    precision = None if config.precision == "default" else config.precision
    with jax.enable_x64(config.x64), jax.default_matmul_precision(precision):
        yield


def _compared(field: str, result: Any) -> dict[str, Any]:
    """Return what a protocol measured of another set and wants beside the same of the distilled one."""
    return {f"{field}_{part}": result.details[part] for part in ("measures", "chart") if part in result.details}


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
    return make_judge(configs.change(config, few), dataset)


def check_space(distilled: artefact.Distilled, dataset: Dataset, name: str) -> None:
    """Raise UserError unless a set lives in the space of the data set called ``name``, as far as its card says."""
    check_fits(distilled.synthetic, dataset)
    space = distilled.card["pixel_space"]
    if not same_space(space, dataset.preprocessing["kind"], name):
        raise UserError(
            f"the distilled set lives in pixel space {space!r}, data set {name} in {dataset.preprocessing['kind']!r}; "
            f"set --config.preprocessing={space}"
        )


def make_card(config: ConfigDict, dataset: Dataset, step: int) -> dict[str, Any]:
    """Make the card, for `artefact.save`, of a set that was distilled from a data set for so many steps."""
    return new_card(
        method=config.method.name,
        config=config.to_dict() | {"data_dir": ""},
        dataset=config.dataset,
        ipc=config.ipc,
        num_classes=dataset.num_classes,
        class_names=dataset.class_names,
        preprocessing=dataset.preprocessing,
        pixel_space=dataset.preprocessing["kind"],
        seed=config.seed,
        step=step,
        init_labels=config.init_labels,
    )


def _check_place(config: ConfigDict, workdir: Path) -> None:
    """Raise UserError for a workdir in a set, in a run's checkpoints, or among a folder's pictures: one class more."""
    check_plain(workdir)
    for folder in (workdir.resolve(), *workdir.resolve().parents):
        kept = folder.name in ("distilled", "checkpoints") and (folder.parent / "config.json").is_file()
        if kept or (folder / "card.json").is_file():
            raise UserError(f"workdir {workdir} must not lie in {folder}, which is replaced as a whole; choose another")
    path = Path(config.data.path).expanduser()
    if config.dataset == "folder" and config.data.path and workdir.resolve().is_relative_to(path.resolve()):
        raise UserError(f"workdir {workdir} must not lie in the data's folder {path}; it would be one class more")


def _same_data(card: Mapping[str, Any], dataset: Dataset) -> bool:
    """Return whether a set was made from these very data, as far as its card knows."""
    now = dataset.preprocessing.get("data")
    return card["dataset"] != dataset.name or now is None or card["preprocessing"].get("data", now) == now


def _holds(card: Mapping[str, Any], synthetic: Synthetic, new: Mapping[str, Any]) -> bool:
    """Return whether a card is of these numbers after as many steps as ``new`` says; only then are they hashed."""
    return card["step"] == new["step"] and card["arrays"] == seal(synthetic, new).card["arrays"]


def _begun(workdir: Path) -> artefact.Distilled | None:
    """Return what a run has made so far; None for nothing, or for a broken set (the last checkpoint mends it)."""
    try:
        return artefact.load(workdir)
    except UserError:
        return None


def _describe(section: ConfigDict) -> str:
    """Return a network's name with its main options: convnet(width=32,depth=3,norm=none)."""
    shown = ("width", "depth", "norm")
    return f"{section.name}({','.join(f'{name}={section[name]}' for name in shown if name in section)})"


@contextmanager
def claimed(config: ConfigDict, workdir: Path) -> Iterator[None]:
    """Hold the workdir: it must be writable, of this config, and no other process may be at work in it."""
    with ExitStack() as stack:
        try:
            if sharding.is_writer():
                stack.enter_context(locked(workdir / ".lock", wait=False))
        except BlockingIOError:
            raise UserError(f"another process is at work in {workdir}; wait for it or choose another workdir") from None
        configs.save(config, workdir, sharding.is_writer())
        yield
