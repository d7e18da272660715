"""Configurations: ``configs/default.py``, and over it layers of assignments: a config file's, then the command line's.

A config names a method, a model and an evaluation protocol; their own signatures say which options exist, so
``config.method``, ``config.model``, ``config.eval`` hold every field after `load`, and a misspelt one is an error.
"""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rcig.config_source import Fields, flat, parse, read
from rcig.errors import UserError, unknown
from rcig.files import write
from rcig.lookup import find

# a field that decides which others its section has -> which of them stay when another is chosen
_CHOICES = {
    "method.name": (),
    "model.name": (),
    "eval.protocol": ("eval.flip", "eval.augmentation", "eval.model."),  # and what `_kept` says
    "eval.preset": ("eval.protocol", "eval.flip", "eval.model."),
    "eval.model.name": (),
}
# what holds for a method holds for its evaluation, unless that says otherwise
_SHARED = ("networks", "networks_seed", "steps", "label_softmax", "attack", "flip", "kernel", "depth", "ridge")
_ASKING = ("num_networks", "plain", "test_chunk")  # of the standard protocol: how many are asked, not how taught
_SIGNED = ("labels.add",)  # numbers that may be negative
_BYTES = ("max_resident_bytes", "method.budget")  # numbers that may be larger than jax's integers
_JUDGED = ("dataset", "data.", "preprocessing", "labels.", "precision", "x64", "eval.model.")  # an evaluation's fields
# fields on which no step depends; where one's own data are is free, what they are is compared by their digests
_FREE = ("data_dir", "data.path", "data.test_path", "data.embeddings", "eval_every", "eval.")


def load(source: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Load a config file (.py with get_config, or a run's config.json) or the name of one in ``configs``.

    Args: source: "configs/dm.py:cifar10_ipc10" calls ``get_config("cifar10_ipc10")``, for files of many cells;
    overrides: strings ``config.method.ridge=1e-3`` (leading dashes allowed). Raises UserError.
    """
    return _build(read(source), dict(map(parse, overrides)))


def from_dict(fields: Mapping[str, Any], overrides: Sequence[str] = ()) -> ConfigDict:
    """Return the config of a card or a run, as `load` would."""
    return _build(flat(fields), dict(map(parse, overrides)))


def change(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Return the config with other values of some fields, ``{"method.ridge": 1e-3}``."""
    return _build(flat(config.to_dict()), dict(changes))


def options(section: ConfigDict) -> dict[str, Any]:
    """Return a section's options, without the fields that choose whose options they are."""
    choices = {choice.split(".")[-1] for choice in _CHOICES}
    return {key: value for key, value in section.items() if key not in choices and not isinstance(value, ConfigDict)}


def beyond_preset(config: ConfigDict) -> dict[str, Any]:
    """Return the options of the evaluation that are not its preset's; places on this machine are left out."""
    preset = _eval_section(flat(config.to_dict()))
    same = lambda name: name not in preset or config.eval[name] == preset[name]
    return {name: value for name, value in options(config.eval).items() if not same(name) and "/" not in str(value)}


def elsewhere(config: ConfigDict, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else an evaluation depends on and is not as a card's config ``said``; no places on this machine."""
    now, before = flat(config.to_dict()), flat(said)
    other = [name for name in now if name.startswith(_JUDGED) and before.get(name, now[name]) != now[name]]
    return {name.removeprefix("eval."): now[name] for name in other if "/" not in str(now[name])}


def save(config: ConfigDict, workdir: Path, writer: bool = True) -> None:
    """Write ``config.json``, if a ``writer``; raise UserError where the workdir keeps another one's results.

    The evaluation and the places of the data may be others, and ``num_steps`` may have grown: no step depends on how
    many follow, so the run goes on to where the longer one ends.
    """
    path = workdir / "config.json"
    try:
        stored = flat(load(str(path)).to_dict()) if path.exists() else {}
    except UserError as error:
        raise UserError(f"{path} is no config of this program ({error}); use another --workdir") from None
    results = [workdir / name for name in ("checkpoints", "distilled", "metrics.jsonl") if (workdir / name).exists()]
    if results and not path.exists():
        raise UserError(f"{path} is missing beside {results[0]}: nobody knows of what these are; use another --workdir")
    if stored and has_results(workdir):
        fresh = flat(config.to_dict())
        for key in sorted(stored.keys() | fresh.keys()):
            longer = key == "num_steps" and stored[key] < fresh[key]
            if not key.startswith(_FREE) and stored.get(key) != fresh.get(key) and not longer:
                raise UserError(
                    f"workdir {workdir} belongs to another config: {key} is {stored.get(key)!r} there and "
                    f"{fresh.get(key)!r} here; use another --workdir or the same config"
                )
    if writer:
        write(path, (json.dumps(config.to_dict(), indent=1) + "\n").encode())


def has_results(workdir: Path) -> bool:
    """Return whether a run keeps anything; before its first checkpoint a mistake in the config may still be mended."""
    return any(True for _ in workdir.glob("*/*"))


def _build(*layers: Fields) -> ConfigDict:
    """Lay assignments over the defaults, in order, and complete them with every option's default."""
    config = find("configs", "default").get_config()
    fields = flat(config.to_dict())
    for layer in layers:
        fields = _over(fields, layer)
    config.method = _section("methods", fields["method.name"])
    config.model = _section("rcig.models", fields["model.name"])
    config.eval = _eval_section(fields)
    config.eval.model = _judge_of(config.model)  # for errors: it is a section, too
    shared = _shared(config, fields)
    _assign_all(config, {key: value for key, value in (shared | fields).items() if not key.startswith("eval.model.")})
    name = fields.get("eval.model.name", config.model.name)
    config.eval.model = _judge_of(config.model) if name == config.model.name else _section("rcig.models", name)
    _assign_all(config, {key: value for key, value in fields.items() if key.startswith("eval.model.")})
    return config.lock()


def _over(fields: Fields, layer: Fields) -> Fields:
    """Return assignments with later ones over them; another method's options go when a method is chosen, and so on."""
    if layer.get("model.name", fields["model.name"]) != fields["model.name"] and "eval.model.name" not in fields:
        fields = {k: v for k, v in fields.items() if not k.startswith("eval.model.")}  # of the judge that it was
    for choice, keep in _CHOICES.items():
        if choice in layer and layer[choice] != fields.get(choice):
            section = choice.rpartition(".")[0] + "."
            if choice == "eval.protocol":
                known = _defaults(find("rcig.evaluation", str(layer[choice])))
                keep = tuple(field for field in keep if field.endswith(".") or field.removeprefix("eval.") in known)
                keep += _kept(layer[choice], fields)
            fields = {k: v for k, v in fields.items() if not k.startswith(section) or k.startswith(keep)}
    if "eval.num_epochs" in layer and "augmented_epochs" in _eval_section(fields | layer):
        layer = {"eval.augmented_epochs": 0} | layer  # as many, with augmentation too: a preset may say otherwise
    return fields | layer


def _shared(config: ConfigDict, fields: Fields) -> Fields:
    """Return what the evaluation takes over from the method; networks of a pool have been met, others must be named."""
    said = {key: fields.get(f"method.{key}", config.method[key]) for key in _SHARED if key in config.method}
    if said.get("networks") not in (None, "fixed", "random"):
        said["networks"] = ""
    if "networks" not in config.eval:  # the steps of `continual` are others
        said.pop("steps", None)
    if "kernel" not in config.method:  # the ridge of a finite network's last layer is another
        said.pop("ridge", None)
    return {f"eval.{key}": value for key, value in said.items() if key in config.eval}


def _kept(protocol: Any, fields: Fields) -> tuple[str, ...]:
    """Return which fields of the evaluation hold under another protocol, too, where both train as the standard one.

    A chosen preset, but its default one, where both have it; with the same preset, how networks learn beyond that.
    """
    _, *shared = _presets("standard")
    now = _eval_section(fields)
    stays = fields.get("eval.preset") in {*shared} & {*_presets(protocol)}
    after = now.preset if stays else next(iter(_presets(protocol)))
    kept = ("eval.preset",) if stays else ()
    if after != now.preset or after not in _presets("standard"):
        return kept
    recipe = [name for name in _defaults(find("rcig.evaluation", "standard")) if name not in _ASKING]
    return kept + tuple(f"eval.{name}" for name in recipe if fields.get(f"eval.{name}", now[name]) != now[name])


def _presets(protocol: Any) -> dict[str, dict[str, Any]]:
    """Return the presets of a protocol; one that has none has its defaults, under its own name."""
    return getattr(find("rcig.evaluation", str(protocol)), "PRESETS", {str(protocol): {}})


def _section(package: str, name: str) -> ConfigDict:
    """Return the section of a plug-in: its name and the defaults of all options of its ``make``."""
    return ConfigDict({"name": name} | _defaults(find(package, str(name))))


def _eval_section(fields: Fields) -> ConfigDict:
    """Return the section of an evaluation protocol on the data set; a protocol's first preset is its default."""
    protocol, presets = find("rcig.evaluation", str(fields["eval.protocol"])), _presets(fields["eval.protocol"])
    preset = str(fields.get("eval.preset", next(iter(presets))))
    if preset not in presets:
        raise unknown("eval.preset", preset, presets)
    chosen = {"protocol": fields["eval.protocol"], "preset": preset}
    on_dataset = find("rcig.evaluation", "standard").ON_DATASETS.get((preset, fields["dataset"]), {})
    return ConfigDict(chosen | _defaults(protocol) | presets[preset] | on_dataset)


def _judge_of(model: ConfigDict) -> ConfigDict:
    """Return who judges where nothing else is said: the network that distilled; softplus, made for that, is ReLU."""
    judge = ConfigDict(model.to_dict())
    if judge.get("activation") == "softplus":
        judge.activation = "relu"
    return judge


def _defaults(plugin: ModuleType) -> dict[str, Any]:
    parameters = inspect.signature(plugin.make).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _assign_all(config: ConfigDict, fields: Fields) -> None:
    for key, value in fields.items():
        section, field = _find_field(config, key)
        section[field] = _converted(key, section[field], value)


def _find_field(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """Return the section that holds a field, and the field's name in it."""
    *sections, field = key.split(".")
    section = config
    for depth, name in enumerate(sections):
        if not isinstance(section.get(name), ConfigDict):
            known = [".".join([*sections[:depth], k]) for k in section if isinstance(section[k], ConfigDict)]
            raise unknown("config section", ".".join(sections[: depth + 1]), known)
        section = section[name]
    if field not in section:
        raise unknown("config field", key, [".".join([*sections, k]) for k in section])
    if isinstance(section[field], ConfigDict):
        raise UserError(f"config.{key} is a section, not a field; set one of {', '.join(section[field])}")
    return section, field


def _converted(key: str, old: Any, value: Any) -> Any:
    """Return a value, or what its text says, as the type of the field's default; numbers finite and not negative."""
    name, kind = f"config.{key}", type(old)
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    try:
        if kind is bool and isinstance(value, str):
            converted = {"true": True, "false": False}[value.lower()]
        elif kind is tuple:  # (3, 7) of a config file, [3, 7] of a JSON file, the text "3,7"
            parts = json.loads(f"[{value.strip('()[], ')}]") if isinstance(value, str) else value
            converted = tuple(part.item() if isinstance(part, np.generic) else part for part in parts)
        elif isinstance(value, str) or kind is float and type(value) is int:
            converted = kind(value)
        else:
            converted = value
        if type(converted) is not kind:
            raise TypeError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{name} must be of type {kind.__name__}, not {value!r}; its default is {old!r}") from None
    size = abs(converted) if key in _SIGNED else converted
    most = _most(key, kind)
    if kind in (int, float) and not 0 <= size < most:
        kinds = "finite number, not negative," if kind is float else f"number from 0 to {most - 1},"
        raise UserError(f"{name} must be a {kinds} not {value}; its default is {old!r}")
    return converted


def _most(key: str, kind: type) -> float:
    """Return what a number must be below: jax takes seeds modulo 2**32 without a word, its integers end at 2**31."""
    if kind is float:
        return math.inf
    return 2**63 if key in _BYTES else 2**32 if key.endswith("seed") else 2**30  # to add to
