"""From a config to a distilled set: what the first command calls, and the parts that both are made of."""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rcig import artefact, data, label_starts, loop, metrics, render, sharding
from rcig import config as configs
from rcig.card import new_card, seal
from rcig.config_source import flat
from rcig.errors import UserError
from rcig.files import check_plain, local_path, locked, write
from rcig.initialize import initialize
from rcig.lookup import find
from rcig.render_schedule import write_schedule
from rcig.schedule import NETWORKS
from rcig.sentences import write_sentences
from rcig.types import Dataset, Key, Model, Synthetic


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
    if options.get("augmentation") == "none":
        options["augmentation"] = ""  # one word for it: protocols ask whether there is any
    module.make(**options)  # what is wrong with them is said now, not after the distillation

    def judge(key, synthetic, **changes):
        return module.evaluate(key, synthetic, dataset, model, module.make(**options | changes))

    return judge


def judges_key(seed: int, step: int = 0) -> Key:
    """Return an evaluation's key, far from the run's streams 0 to 5: its networks are none that the set has met.

    (``jax.random.split(key, n)[i]`` is ``fold_in(key, i)``, so streams that are split must not lie side by side.)
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1 << 20), step)


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
    for doubt in _doubts(config):
        warnings.warn(doubt, stacklevel=2)
    schedule = loop.Schedule(**{name: config[name] for name in loop.Schedule.__dataclass_fields__})
    layout = sharding.layout(config.parallel)
    with claimed(config, workdir):
        make = find("methods", config.method.name).make
        ends = isinstance(make, type) and not hasattr(make, "complete")  # with the loop; of a function one cannot know
        begun = _begun(workdir)
        if begun is not None and begun.card["step"] == config.num_steps and (other := _judged_otherwise(begun, config)):
            told = f"the set in {workdir} is finished and keeps the evaluation that it was made with"
            warnings.warn(f"{told}; pass {' '.join(other)} to eval.py", stacklevel=2)
        if begun is not None and ends and _is_end(begun.card, config):
            return begun
        dataset = load_dataset(config)
        check_data(dataset, workdir, begun and begun.card)
        model, judge = make_model(config.model, dataset), make_judge(config, dataset)
        method = make(model, **configs.options(config.method))
        start = make_start(config, dataset)
        key_prepare, key_complete = (jax.random.fold_in(jax.random.key(config.seed), stream) for stream in (4, 5))
        if hasattr(method, "prepare"):
            stage, drawn, start = method.prepare(key_prepare, dataset, start, workdir)
        else:
            stage, drawn = method, dataset

        def evaluate(step: int, synthetic: Synthetic) -> dict[str, float]:
            result = judge(judges_key(config.seed, step), synthetic)
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
        if hasattr(method, "complete"):
            method.complete(key_complete, synthetic, dataset, workdir)
        return seal(synthetic, make_card(config, dataset, config.num_steps))


def _doubts(config: ConfigDict) -> Iterator[str]:
    """Yield what of a config is better known before the run than after it."""
    decay = config.method.get("decay_steps", 0)
    if 0 < decay < config.num_steps:
        told = f"after method.decay_steps={decay} of num_steps={config.num_steps} the rates have fallen all the way"
        yield f"{told}; set both at a run's first start"
    networks = config.eval.get("networks", "")
    if networks in ("", *NETWORKS):
        return
    if not (Path(networks) / "pool.json").is_file():
        yield f"eval.networks {networks} is no finished pool yet; the evaluation will want it (python -m rcig.pretrain)"
    elif Path(networks).resolve() == Path(config.method.get("networks", "")).resolve():
        yield f"eval.networks {networks} are those that the set is made for; held-out ones would be another pool"


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
    place = _resolved(workdir)
    for folder in (place, *place.parents):
        kept = folder.name in ("distilled", "checkpoints") and (folder.parent / "config.json").is_file()
        if kept or (folder / "card.json").is_file():
            raise UserError(f"workdir {workdir} must not lie in {folder}, which is replaced as a whole; choose another")
    path = local_path(config.data.path)
    if config.dataset == "folder" and config.data.path and place.is_relative_to(_resolved(path)):
        raise UserError(f"workdir {workdir} must not lie in the data's folder {path}; it would be one class more")


def _resolved(path: Path) -> Path:
    """Return a path without links; raises UserError where these lead in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} must be a folder, not links in a circle ({error}); choose another") from None


def check_data(dataset: Dataset, workdir: Path, card: Mapping[str, Any] | None = None) -> None:
    """Raise UserError where a run has begun on other data: its steps would not be those of any one run.

    The first start writes down what they are, since of a set that is lost there is no card. Call it in `claimed`.
    """
    path, told = workdir / ".data", dataset.preprocessing
    vectors = told["digest"] if told["kind"] == "embedding" else None  # a whitening matrix's is this machine's
    now = {"data": told.get("data"), "vectors": vectors}
    if not configs.has_results(workdir):
        if sharding.is_writer():
            write(path, (json.dumps(now) + "\n").encode())
    elif _kept(path, now) != now or card is not None and not same_data(card, dataset):
        raise UserError(
            f"data set {dataset.name} has changed since the run in {workdir} began; put the data back as they were, "
            "or use another --workdir"
        )


def _kept(path: Path, default: Any) -> Any:
    """Return what a JSON file holds; the default where there is none, or none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return default


def same_data(card: Mapping[str, Any], dataset: Dataset) -> bool:
    """Return whether a set was made from these very data, as far as its card knows."""
    now = dataset.preprocessing.get("data")
    same = now is None or card["preprocessing"].get("data", now) == now
    return card["dataset"] != dataset.name or same and same_vectors(card, dataset)


def same_vectors(card: Mapping[str, Any], dataset: Dataset) -> bool:
    """Return whether a set's words, if any, have the data set's vectors, as far as its card knows."""
    told = dataset.preprocessing
    return told["kind"] != "embedding" or card["preprocessing"].get("digest", told["digest"]) == told["digest"]


def _is_end(card: Mapping[str, Any], config: ConfigDict) -> bool:
    """Return whether a set is what a config's loop ends with; data from another place may be others."""
    return card["step"] == config.num_steps and card["config"].get("data") == config.data.to_dict()


def _judged_otherwise(begun: artefact.Distilled, config: ConfigDict) -> list[str]:
    """Return what a config says of the evaluation and a set's card says otherwise, as flags."""
    sections = config.eval.to_dict(), begun.card["config"].get("eval", {})
    now, before = (flat(json.loads(json.dumps(section))) for section in sections)  # tuples are lists in a card
    return [f"--config.eval.{key}={value}" for key, value in now.items() if before.get(key, value) != value]


def _holds(card: Mapping[str, Any], synthetic: Synthetic, new: Mapping[str, Any]) -> bool:
    """Return whether a card is of these numbers after as many steps as ``new`` says; only then are they hashed."""
    return card["step"] == new["step"] and card["arrays"] == seal(synthetic, new).card["arrays"]


def _begun(workdir: Path) -> artefact.Distilled | None:
    """Return what a run has made so far; None for nothing, or for a broken set (the last checkpoint mends it)."""
    try:
        return artefact.load(workdir)
    except UserError:
        return None


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
        _check_shared(workdir)
        yield


def _check_shared(workdir: Path) -> None:
    """Raise UserError unless all processes of a run see one folder: now, not at the first checkpoint."""
    if jax.process_count() == 1:
        return
    token, number = workdir / ".processes", os.getpid() if sharding.is_writer() else 0
    if number:
        write(token, str(number).encode())
    number = sharding.agreed(number)
    seen = token.is_file() and token.read_text() == str(number)
    if sharding.agreed(int(not seen)):
        raise UserError(f"workdir {workdir} must be one folder that all hosts see; put it on a disk that they share")
