"""Where a config is read from: a Python file with get_config, a cell of one, a run's config.json, the command line."""

import importlib.util
import inspect
import json
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcig.errors import UserError, unknown
from rcig.lookup import find, names

Fields = dict[str, Any]  # full name of a field -> value, or the text of one


def parse(override: str) -> tuple[str, str]:
    """Return (name, text) of an override such as --config.seed=1. Raises UserError."""
    key, separator, text = override.lstrip("-").partition("=")
    if not separator or not key.startswith("config."):
        raise UserError(f"cannot read {override!r}; write --config.FIELD=VALUE, for example --config.num_steps=100")
    return key.removeprefix("config."), os.path.expanduser(text)  # shells leave a ~ behind the = as it is


def read(source: str) -> Fields:
    """Return what a config says: a file, one with a cell, the name of one in ``configs``, a run's. Raises UserError."""
    path = Path(os.path.expanduser(source))
    source = str(path)
    if path.suffix == ".json":
        try:
            return flat(json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError, AttributeError) as error:
            raise UserError(f"cannot read config {source}: {error}; give a config.json written by a run") from None
    name, separator, cell = source.rpartition(":")
    path, arguments = (Path(name), (cell,)) if separator and not _is_file(path) else (path, ())
    if _is_file(path):
        return _run(str(path), arguments)
    if path.stem in names("configs") and path.parts[:-1] in ((), ("configs",)):
        return _run(str(find("configs", path.stem).__file__), arguments)
    raise unknown("config", str(path), names("configs"))


def _run(source: str, arguments: Sequence[str]) -> Fields:
    """Run a config file; whatever goes wrong in it is its writer's to mend, and is said with the line."""
    spec = importlib.util.spec_from_file_location("rcig_config", source)
    if spec is None or spec.loader is None:
        raise UserError(f"config {source} is not a Python file; see configs/quickstart.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if arguments and not inspect.signature(module.get_config).parameters:
            raise UserError(f"config {source} is one experiment, it has no cell {arguments[0]!r}; leave out the colon")
        return flat(module.get_config(*arguments).to_dict())
    except UserError:
        raise
    except Exception as error:
        if arguments and isinstance(error, ValueError):
            raise UserError(f"config {source} has no cell {arguments[0]!r}: {error}") from None
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        where = f" at line {lines[-1]}" if lines else ""
        raise UserError(
            f"config {source} fails{where} with {type(error).__name__}: {error}; "
            "it must define get_config() -> ConfigDict, see configs/quickstart.py"
        ) from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def flat(tree: Mapping[str, Any], prefix: str = "") -> Fields:
    """Return a nested dict with full names, such as method.ridge."""
    fields = {}
    for key, value in tree.items():
        fields |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return fields
