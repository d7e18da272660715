"""The distilled set on disk: arrays any machine can read, and a card that says what they are.

Layout of the folder: an orbax checkpoint of numpy arrays ``inputs`` (M, ...), ``labels`` (M, K) and, where learned,
``learning_rates`` (T,), all float32, rows class-major; beside it ``card.json``:

    schema_version  1
    method, dataset, pixel_space        names; the space the inputs live in, for example "zca"
    config                              every field as run
    ipc, num_classes, class_names       M = ipc * num_classes; row i belongs to class i // ipc
    preprocessing                       how real examples were brought into that space, constants included
    seed, step                          of the run that made it
    versions, commit                    of the libraries and of this code ("-dirty": with local changes); null unknown
    accuracies                          results of evaluations, added later by ``add_result``
    arrays                              name -> shape, dtype, sha256
    sha256                              of the card's canonical JSON without this field, hence of the arrays too

Files come from strangers: nothing is unpickled, and shapes, sizes and digests are checked before they are believed.
"""

import importlib.metadata
import json
import math
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rcig.checkpoint import quiet_orbax
from rcig.errors import UserError
from rcig.files import digest, disk_errors, json_digest, write
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
_MAX_CARD_BYTES = 64 * 2**20
_MAX_COMPRESSION = 1000  # claimed bytes a byte on disk; images compress by 1 to 20


@dataclass(frozen=True)
class Distilled:
    """A distilled set as read, checked against its card. Rows are class-major: row i is of class i // card["ipc"]."""

    inputs: np.ndarray  # (M, ...) float32, in model-input space
    labels: np.ndarray  # (M, K) float32, raw targets
    learning_rates: np.ndarray | None  # (T,) float32
    card: dict[str, Any]

    @property
    def synthetic(self) -> Synthetic:
        """The arrays as methods and evaluations take them."""
        return Synthetic(self.inputs, self.labels, self.learning_rates)


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
) -> dict[str, Any]:
    """Return a card for a set about to be saved; ``seal`` adds what depends on the arrays."""
    libraries = {"jax": "jax", "flax": "flax", "optax": "optax", "orbax": "orbax-checkpoint"}
    versions = {name: importlib.metadata.version(package) for name, package in libraries.items()}
    card = dict(method=method, config=config, dataset=dataset, ipc=ipc, num_classes=num_classes)
    card |= dict(class_names=class_names, preprocessing=preprocessing, pixel_space=pixel_space, seed=seed, step=step)
    card |= dict(versions=versions | {"python": platform.python_version()}, commit=commit(), accuracies=[])
    return {"schema_version": SCHEMA_VERSION} | _plain(card)


def seal(synthetic: Synthetic, card: Mapping[str, Any]) -> Distilled:
    """Put a set and its card together: float32 copies, their digests in the card. Raises UserError if unfit."""
    arrays = {k: np.array(v, np.float32, order="C") for k, v in synthetic._asdict().items() if v is not None}
    described = {k: {"shape": list(v.shape), "dtype": v.dtype.name, "sha256": digest(v)} for k, v in arrays.items()}
    return check(arrays, _stamp(dict(card) | {"arrays": described}), "the distilled set")


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


def save(directory: Path, synthetic: Synthetic, card: Mapping[str, Any]) -> Distilled:
    """Write a set and its card (of ``new_card``) to a folder, and return what was written.

    At every instant the folder, or ``<directory>.old`` that ``load`` knows of, holds the old set or the new one. One
    process writes; others need not call. Raises UserError for NaN or Inf and where the disk refuses.
    """
    directory = Path(directory).absolute()
    distilled = seal(synthetic, card)
    new, old = directory.with_name(directory.name + ".new"), _old(directory)
    arrays = {k: v for k, v in distilled.synthetic._asdict().items() if v is not None}
    with disk_errors(directory.parent), quiet_orbax():
        directory.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not directory.exists():  # a kill between the two renames below
            old.rename(directory)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        _checkpointer().save(new, args=ocp.args.StandardSave(arrays))
        write(new / "card.json", _text(distilled.card))
        if directory.exists():
            directory.rename(old)
        new.rename(directory)
        shutil.rmtree(old, ignore_errors=True)
    return distilled


def load(path: Path) -> Distilled:
    """Read a distilled set from its folder or from the workdir that holds it as ``distilled/``.

    Raises UserError for a missing, foreign, truncated or altered set.
    """
    folder = find(path)
    inode = folder.stat().st_ino
    try:
        return _load(folder)
    except UserError:
        again = find(path)
        if again.stat().st_ino == inode:
            raise
        return _load(again)  # a running distillation has replaced it meanwhile


def find(path: Path) -> Path:
    """Return the folder of a distilled set that ``path`` means. Raises UserError that says what is there instead."""
    path = Path(path).absolute()
    for folder in (path, _old(path), path / "distilled", _old(path / "distilled")):
        if (folder / "card.json").is_file():
            return folder
    if not path.exists():
        raise UserError(f"{path} must be a distilled set or a workdir but does not exist; check the path")
    if path.is_file():
        raise UserError(f"{path} must be a folder but is a file; say its --format, for example --format=npz")
    inside = sorted(card.parent.name for card in path.glob("*/card.json"))
    remedy = f"choose one of {', '.join(inside)} in it" if inside else "run distill_dataset.py first, or check the path"
    raise UserError(f"{path} holds no distilled set (a folder with card.json); {remedy}")


def add_result(path: Path, result: Mapping[str, Any]) -> None:
    """Append the result of an evaluation to the ``accuracies`` of a set's card."""
    folder = find(path)
    card = _read_card(folder)
    card["accuracies"].append(_plain(result))
    write(folder / "card.json", _text(_stamp(card)))


def commit() -> str | None:
    """Return the git commit of this code, with "-dirty" if it has local changes; None outside a checkout of it."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # an installed copy may lie inside another project's checkout, whose commit says nothing
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


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
    rows = card["ipc"] * card["num_classes"]
    if rows < 1 or shapes["inputs"][:1] != [rows] or shapes["labels"] != [rows, card["num_classes"]]:
        raise UserError(
            f"{name}: inputs {shapes['inputs']} and labels {shapes['labels']} must have ipc * num_classes = {rows} "
            f"rows and num_classes = {card['num_classes']} label columns"
        )
    if len(card["class_names"]) != card["num_classes"]:
        raise UserError(f"{name}: {len(card['class_names'])} class names for {card['num_classes']} classes")


def _load(folder: Path) -> Distilled:
    card = _read_card(folder)
    claimed = sum(4 * math.prod(described["shape"]) for described in card["arrays"].values())
    try:
        held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if claimed > _MAX_COMPRESSION * held + 2**20:
            raise UserError(f"{folder}: its card claims {claimed} bytes, the folder holds {held}; fetch the set again")
        arrays = _restore(folder, card)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # which bits are wrong decides which type of error orbax raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{folder} is broken ({reason}); fetch the set again or distil anew") from error
    return check(arrays, card, str(folder))


def _restore(folder: Path, card: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read the arrays, once orbax's own metadata claim no other shapes than the card."""
    stored = dict(_checkpointer().metadata(folder).item_metadata.items())
    if {k: list(v.shape) for k, v in stored.items()} != {k: v["shape"] for k, v in card["arrays"].items()}:
        raise ValueError("its arrays have other shapes than its card says")
    with quiet_orbax():
        return {k: np.asarray(v) for k, v in _checkpointer().restore(folder).items()}


def _checkpointer() -> ocp.Checkpointer:
    """Return an orbax checkpointer that does not wait for other processes."""
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / "card.json"
    try:
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise UserError(f"{path} must be at most {_MAX_CARD_BYTES} bytes; fetch the set again")
        card = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} must be a readable JSON file ({error}); fetch the set again") from error
    check_card(card, str(folder))
    return card


def _shape(described: Any, name: str) -> list[int]:
    """Return the shape in one entry of a card's ``arrays``, checked."""
    shape = described.get("shape") if isinstance(described, dict) else None
    whole = isinstance(shape, list) and all(type(n) is int and 0 < n < 2**40 for n in shape) and 0 < len(shape) < 9
    if not whole or described.get("dtype") != "float32" or not isinstance(described.get("sha256"), str):
        raise UserError(f"{name} must have a shape of whole numbers, dtype float32 and a sha256; fetch the set again")
    return shape


def _old(directory: Path) -> Path:
    return directory.with_name(directory.name + ".old")


def _stamp(card: Mapping[str, Any]) -> dict[str, Any]:
    body = {k: v for k, v in card.items() if k != "sha256"}
    return body | {"sha256": json_digest(body)}


def _text(card: Mapping[str, Any]) -> bytes:
    return (json.dumps(card, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: dicts, lists, text, whole numbers, finite numbers (others as text), null."""
    convert: Callable[[], Any] | None = getattr(value, "to_dict", None) or getattr(value, "tolist", None)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if convert is not None:  # a ConfigDict; a numpy or jax array or scalar
        return _plain(convert())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, Path) or isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a card cannot hold {type(value).__name__} {value!r}")
