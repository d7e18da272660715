"""Configurations: a file's ``get_config()``, completed with every option's default, overridden from the command line.

A config names a method, a model and an evaluation protocol; their own signatures say which options exist, so
``config.method``, ``config.model``, ``config.eval`` hold every field after `load`, and a misspelt one is an error.
"""

import ast
import importlib.util
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rcig.errors import UserError, unknown
from rcig.lookup import find, names

_CHOICES = ("name", "protocol", "preset", "model")  # fields that decide which other fields a section has
_LOCATIONS = ("data_dir",)  # fields that say where things are, not what the experiment is


def load(source: str, overrides: list[str] = ()) -> ConfigDict:
    """Load a config file (.py with get_config, or a run's config.json) or the name of one in ``configs``.

    Args: overrides: strings ``config.method.ridge=1e-3`` (leading dashes allowed). Raises UserError.
    """
    return _completed(_read(source), overrides)


def from_dict(fields: Mapping[str, Any], overrides: list[str] = ()) -> ConfigDict:
    """Return the config of a card or a run, as `load` would."""
    return _completed(ConfigDict(fields), overrides)


def _completed(config: ConfigDict, overrides: list[str]) -> ConfigDict:
    assignments = [_parse(override) for override in overrides]
    for key, value in assignments:  # names first: they decide which other fields exist
        if key.split(".")[-1] in ("name", "protocol", "preset"):
            _choose(config, key, value)
    complete(config)
    for key, value in assignments:
        assign(config, key, value)
    return config.lock()


def complete(config: ConfigDict) -> None:
    """Fill in the defaults of every option of the config's method, models and evaluation protocol."""
    _fill(config.model, "model", _options_of("rcig.models", config.model.name))
    _fill(config.method, "method", _options_of("methods", config.method.name))
    protocol = find("rcig.evaluation", config.eval.protocol)
    if config.eval.preset not in protocol.PRESETS:
        raise unknown("eval.preset", config.eval.preset, protocol.PRESETS)
    known = _options_of("rcig.evaluation", config.eval.protocol) | protocol.PRESETS[config.eval.preset]
    _fill(config.eval, "eval", known, keep=("protocol", "preset", "model"))
    if "model" not in config.eval:  # judged by the network that distilled, with ReLU
        config.eval.model = ConfigDict(config.model.to_dict())
        if "activation" in config.eval.model:
            config.eval.model.activation = "relu"
    _fill(config.eval.model, "eval.model", _options_of("rcig.models", config.eval.model.name))


def options(section: ConfigDict) -> dict[str, Any]:
    """Return a section's options, without the fields that choose whose options they are."""
    return {key: value for key, value in section.to_dict().items() if key not in _CHOICES}


def save(config: ConfigDict, workdir: Path) -> None:
    """Write ``config.json``, or raise UserError if the workdir holds another config, naming the first difference."""
    path = workdir / "config.json"
    fresh = json.loads(json.dumps(config.to_dict()))
    if not path.exists():
        path.write_text(json.dumps(fresh, indent=1))
        return
    stored, fresh = _flat(_read(str(path)).to_dict()), _flat(fresh)
    for key in sorted(stored.keys() | fresh.keys()):
        if key not in _LOCATIONS and stored.get(key) != fresh.get(key):
            raise UserError(
                f"workdir {workdir} belongs to another config: {key} is {stored.get(key)!r} there and "
                f"{fresh.get(key)!r} here; use another --workdir or the same config"
            )


def _read(source: str) -> ConfigDict:
    path = Path(source)
    if path.suffix == ".json":
        try:
            return ConfigDict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read config {source}: {error}; give a config.json written by a run") from None
    if path.exists():
        spec = importlib.util.spec_from_file_location("rcig_config", path)
        if spec is None or path.is_dir():
            raise UserError(f"config {source} is not a Python file; see configs/quickstart.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    elif path.stem in names("configs"):
        module = find("configs", path.stem)
    else:
        raise unknown("config", source, names("configs"))
    if not hasattr(module, "get_config"):
        raise UserError(f"config {source} defines no get_config(); see configs/quickstart.py")
    return module.get_config()


def _options_of(package: str, name: str) -> dict[str, Any]:
    """Return the options of a plug-in's ``make``, with their defaults."""
    parameters = inspect.signature(find(package, name).make).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _fill(section: ConfigDict, title: str, known: dict[str, Any], keep: tuple[str, ...] = ("name",)) -> None:
    for key in section:
        if key not in known and key not in keep:
            raise unknown("config field", f"{title}.{key}", [f"{title}.{name}" for name in known])
    for key, default in known.items():
        if key not in section:
            section[key] = default


def assign(config: ConfigDict, key: str, value: Any) -> None:
    """Set one existing field, ``key`` like "method.ridge". Raises UserError for unknown fields and wrong types."""
    section, field = _section(config, key)
    old = section[field]
    if isinstance(old, ConfigDict):
        raise UserError(f"config.{key} is a section, not a field; set one of {', '.join(old)}")
    if isinstance(old, str) and not isinstance(value, str):
        value = str(value)  # a name or path that reads like a number
    try:
        if isinstance(old, bool) != isinstance(value, bool):
            raise TypeError
        section[field] = value
    except TypeError:
        raise UserError(
            f"config.{key} must be a {type(old).__name__}, not {value!r}; its present value is {old!r}"
        ) from None


def _choose(config: ConfigDict, key: str, value: Any) -> None:
    """Set a field that decides which other fields exist, and drop what was said for its predecessor."""
    section, field = _section(config, key)
    if section[field] == value:
        return
    assign(config, key, value)
    keep = {field} | ({"protocol", "model", "flip"} if field in ("protocol", "preset") else set())
    for name in set(section) - keep:
        del section[name]


def _section(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
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
    return section, field


def _parse(override: str) -> tuple[str, Any]:
    key, separator, text = override.lstrip("-").partition("=")
    if not separator or not key.startswith("config."):
        raise UserError(f"cannot read {override!r}; write --config.FIELD=VALUE, for example --config.num_steps=100")
    if text.lower() in ("true", "false"):
        return key.removeprefix("config."), text.lower() == "true"
    try:
        return key.removeprefix("config."), ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key.removeprefix("config."), text


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
