"""What a distilled set says of itself: a plain dict, kept beside the arrays in every format.

schema_version  1
method, dataset, pixel_space        names; the space the inputs live in, for example "zca"
config                              every field as run
ipc, num_classes, class_names       M = ipc * num_classes; row i belongs to class i // ipc
source                              of a set that another program made: its file
init_labels                         if any: M = ipc * len(init_labels); row i belongs to class init_labels[i // ipc]
preprocessing                       how real examples were brought into that space: constants, a digest of the data
seed, step                          of the run that made it
versions, commit                    of the libraries and of this code ("-dirty": with local changes); null unknown
accuracies                          results of evaluations, added later by ``rcig.artefact.add_result``
arrays                              name -> shape, dtype, sha256
sha256                              of the card's canonical JSON without this field, hence of the arrays too
"""

import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcig.errors import UserError
from rcig.files import digest, json_digest
from rcig.types import Synthetic

SCHEMA_VERSION = 1
_SCHEMA: dict[str, type | tuple[type, ...]] = {
    "schema_version": int,
    "method": str,
    "config": dict,
    "dataset": str,
    "ipc": int,
    "num_classes": int,
    "class_names": list,
    "preprocessing": dict,
    "pixel_space": str,
    "seed": int,
    "step": int,
    "versions": dict,
    "commit": (str, type(None)),
    "accuracies": list,
    "arrays": dict,
    "sha256": str,
}


@dataclass(frozen=True)
class Distilled:
    """A distilled set as read, checked against its card. Rows are class-major: see ``classes``."""

    inputs: np.ndarray  # (M, ...) float32, in model-input space
    labels: np.ndarray  # (M, K) float32, raw targets
    learning_rates: np.ndarray | None  # (E, D) float32
    card: dict[str, Any]
    folder: Path | None = None  # where it was read

    @property
    def synthetic(self) -> Synthetic:
        """The arrays as methods and evaluations take them."""
        return Synthetic(self.inputs, self.labels, self.learning_rates)

    @property
    def classes(self) -> list[int]:
        """The class that each group of ``card["ipc"]`` rows started from."""
        return self.card.get("init_labels") or list(range(self.card["num_classes"]))


def new_card(
    *,
    method: str,
    config: Mapping[str, Any],
    dataset: str,
    ipc: int,
    num_classes: int,
    class_names: Sequence[str],
    preprocessing: Mapping[str, Any],
    pixel_space: str,
    seed: int,
    step: int,
    init_labels: Sequence[int] = (),
) -> dict[str, Any]:
    """Return a card for a set about to be saved; ``seal`` adds what depends on the arrays."""
    libraries = {"jax": "jax", "flax": "flax", "optax": "optax", "orbax": "orbax-checkpoint"}
    versions = {name: importlib.metadata.version(package) for name, package in libraries.items()}
    card = dict(method=method, config=config, dataset=dataset, ipc=ipc, num_classes=num_classes)
    card |= dict(class_names=class_names, preprocessing=preprocessing, pixel_space=pixel_space, seed=seed, step=step)
    card |= dict(init_labels=init_labels)
    card |= dict(versions=versions | {"python": platform.python_version()}, commit=commit(), accuracies=[])
    return {"schema_version": SCHEMA_VERSION} | plain(card)


def text(card: Mapping[str, Any]) -> bytes:
    """Return the content of a ``card.json``."""
    return (json.dumps(card, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def seal(synthetic: Synthetic, card: Mapping[str, Any]) -> Distilled:
    """Put a set and its card together: float32 copies, their digests in the card. Raises UserError if unfit.

    The results of other arrays, which the card may have been that of, are dropped.
    """
    arrays = {k: np.array(v, np.float32, order="C") for k, v in synthetic._asdict().items() if v is not None}
    described = {k: {"shape": list(v.shape), "dtype": v.dtype.name, "sha256": digest(v)} for k, v in arrays.items()}
    measured = {} if card.get("arrays", described) == described else {"accuracies": []}
    return check(arrays, stamp(dict(card) | measured | {"arrays": described}), "the distilled set")


def check(arrays: Mapping[str, np.ndarray], card: Mapping[str, Any], name: str) -> Distilled:
    """Return arrays and card as a Distilled if they fit each other. Raises UserError that names the broken rule."""
    check_card(card, name)
    for key, described in card["arrays"].items():
        array = arrays.get(key)
        if array is None or [list(array.shape), array.dtype.name] != [described["shape"], described["dtype"]]:
            raise UserError(f"{name}: array {key!r} is not the {described} its card says; fetch the set again")
        if digest(array) != described["sha256"]:
            raise UserError(f"{name}: array {key!r} does not match the sha256 on its card; fetch the set again")
        if not np.isfinite(array).all():
            raise UserError(f"{name}: array {key!r} holds NaN or Inf; take the set of an earlier step")
    return Distilled(arrays["inputs"], arrays["labels"], arrays.get("learning_rates"), dict(card))


def commit() -> str | None:
    """Return the git commit of this code, with "-dirty" if it has local changes; None outside a checkout of it.

    A copy of the code without its checkout is told by the environment variable RCIG_COMMIT.
    """
    root, told = Path(__file__).resolve().parent.parent, os.environ.get("RCIG_COMMIT")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # an installed copy may lie inside another project's checkout, whose commit says nothing
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return told
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return told


def check_card(card: Any, name: str) -> None:
    """Raise UserError unless ``card`` follows the schema, is what its sha256 says and agrees with itself."""
    if not isinstance(card, dict) or not isinstance(card.get("schema_version"), int):
        raise UserError(f"{name}: the card must be a JSON object with a schema_version; fetch the set again")
    if card["schema_version"] != SCHEMA_VERSION:
        raise UserError(f"{name}: schema_version {card['schema_version']}, this code knows {SCHEMA_VERSION}; update it")
    for field, kind in _SCHEMA.items():
        if field not in card or not isinstance(card[field], kind) or isinstance(card[field], bool):
            raise UserError(f"{name}: card field {field!r} is missing or of the wrong type; fetch the set again")
    if card["sha256"] != json_digest({k: v for k, v in card.items() if k != "sha256"}):
        raise UserError(f"{name}: the card does not match its own sha256; fetch the set again")
    shapes = {k: _shape(described, f"{name}: array {k!r}") for k, described in card["arrays"].items()}
    if not {"inputs", "labels"} <= shapes.keys() <= {"inputs", "labels", "learning_rates"}:
        raise UserError(f"{name}: arrays {sorted(shapes)} must be inputs, labels and perhaps learning_rates")
    if len(shapes.get("learning_rates", [1, 1])) != 2:
        raise UserError(f"{name}: learning_rates {shapes['learning_rates']} must be a matrix (passes, steps)")
    rows = card["ipc"] * _num_groups(card, name)
    if rows < 1 or shapes["inputs"][:1] != [rows] or shapes["labels"] != [rows, card["num_classes"]]:
        raise UserError(
            f"{name}: inputs {shapes['inputs']} and labels {shapes['labels']} must have ipc * (num_classes or "
            f"len(init_labels)) = {rows} rows and num_classes = {card['num_classes']} label columns"
        )
    if len(card["class_names"]) != card["num_classes"]:
        raise UserError(f"{name}: {len(card['class_names'])} class names for {card['num_classes']} classes")


def stamp(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card with the sha256 of what it says now."""
    body = {k: v for k, v in card.items() if k != "sha256"}
    return body | {"sha256": json_digest(body)}


def plain(value: Any) -> Any:
    """Return a value as JSON has it: dicts, lists, text, whole numbers, finite numbers (others as text), null."""
    convert: Callable[[], Any] | None = getattr(value, "to_dict", None) or getattr(value, "tolist", None)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if convert is not None:  # a ConfigDict; a numpy or jax array or scalar
        return plain(convert())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, Path) or isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a card cannot hold {type(value).__name__} {value!r}")


def _num_groups(card: Mapping[str, Any], name: str) -> int:
    """Return how many groups of ipc rows a card tells of; cards had no ``init_labels`` at first."""
    groups, num_classes = card.get("init_labels", []), card["num_classes"]
    if not isinstance(groups, list) or any(type(k) is not int or not 0 <= k < num_classes for k in groups):
        raise UserError(f"{name}: init_labels must be a list of classes 0..{num_classes - 1}; fetch the set again")
    if len(set(groups)) < len(groups):
        raise UserError(f"{name}: init_labels must name each class once, not {groups}; fetch the set again")
    return len(groups) or num_classes


def _shape(described: Any, name: str) -> list[int]:
    """Return the shape in one entry of a card's ``arrays``, checked."""
    known = described if isinstance(described, dict) else {}
    shape = known.get("shape")
    if isinstance(shape, list) and 0 < len(shape) < 9 and all(type(n) is int and 0 < n < 2**40 for n in shape):
        if known.get("dtype") == "float32" and isinstance(known.get("sha256"), str):
            return shape
    raise UserError(f"{name} must have a shape of whole numbers, dtype float32 and a sha256; fetch the set again")
