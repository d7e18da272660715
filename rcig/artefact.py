"""The distilled set on disk: arrays any machine can read, and a card that says what they are.

Layout of the folder: an orbax checkpoint of numpy arrays ``inputs`` (M, ...), ``labels`` (M, K) and, where learned,
``learning_rates`` (E, D), all float32, rows class-major; beside it ``card.json``, whose fields ``rcig/card.py`` lists.

Files come from strangers: nothing is unpickled, and shapes, sizes and digests are checked before they are believed.
"""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rcig.card import Distilled as Distilled
from rcig.card import check, check_card, plain, seal, stamp, text
from rcig.card import new_card as new_card
from rcig.checkpoint import quiet_orbax
from rcig.errors import UserError
from rcig.files import check_plain, disk_errors, locked, write
from rcig.types import Synthetic

_DONE = "commit_success.txt"  # written last
_MAX_CARD_BYTES = 64 * 2**20
_MAX_COMPRESSION = 1000  # claimed bytes a byte on disk; images compress by 1 to 20


def save(directory: Path, synthetic: Synthetic, card: Mapping[str, Any]) -> Distilled:
    """Write a set and its card (of ``new_card``) to a folder, and return what was written.

    At every instant the folder, or ``.<name>.old`` beside it that ``load`` knows of, holds the old set or the new one.
    One process writes; others need not call. Raises UserError for NaN or Inf, where the disk refuses, and rather than
    replace a folder that is no distilled set.
    """
    directory = Path(directory).resolve()  # what a link means is replaced, not the link
    check_plain(directory)
    distilled = seal(synthetic, card)
    new, old = directory.with_name(f".{directory.name}.new"), _old(directory)
    arrays = {k: v for k, v in distilled.synthetic._asdict().items() if v is not None}
    with disk_errors(directory.parent), quiet_orbax():
        directory.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not directory.exists():  # a kill between the two renames below
            old.rename(directory)
        kept = {name for name in ("card.json", _DONE, "_CHECKPOINT_METADATA") if (directory / name).is_file()}
        ours = _DONE in kept or kept == {"card.json", "_CHECKPOINT_METADATA"}  # one of them may be lost
        if directory.exists() and any(directory.iterdir()) and not ours:
            raise UserError(f"{directory} must be a distilled set to be replaced but holds other files; choose another")
        for leftover in (old, *directory.parent.glob(f"{new.name}*")):
            shutil.rmtree(leftover, ignore_errors=True)
        _checkpointer().save(new, args=ocp.args.StandardSave(arrays))
        write(new / _DONE, b"committed\n")  # orbax's own text tells strangers where it was saved
        write(new / "card.json", text(distilled.card))
        if directory.exists():
            directory.rename(old)
        new.rename(directory)
        shutil.rmtree(old, ignore_errors=True)
    return distilled


def load(path: Path) -> Distilled:
    """Read a distilled set from its folder or from the workdir that holds it as ``distilled/``.

    Raises UserError for a missing, foreign, truncated or altered set.
    """
    while True:
        folder = find(path)
        seen = _identity(folder)
        try:
            return dataclasses.replace(_load(folder), folder=folder)
        except UserError:
            if _identity(find(path)) == seen:  # else a running distillation has replaced it meanwhile
                raise


def find(path: Path) -> Path:
    """Return the folder of a distilled set that ``path`` means. Raises UserError that says what is there instead."""
    path = Path(path).absolute()
    # twice: a running distillation may move the set from the second name to the first between two looks
    for folder in 2 * (path, _old(path), path / "distilled", _old(path / "distilled")):
        if (folder / "card.json").is_file():
            return folder
    if not path.exists():
        raise UserError(f"{path} must be a distilled set or a workdir but does not exist; check the path")
    if path.is_file():
        raise UserError(
            f"{path} must be a folder but is a file; say its --format, as --format=npz; in Python rcig.formats.read"
        )
    cards = [card for place in ("*/card.json", "*/distilled/card.json") for card in path.glob(place)]
    inside = sorted(card.relative_to(path).parts[0] for card in cards)
    remedy = f"choose one of {', '.join(inside)} in it" if inside else "run distill_dataset.py first, or check the path"
    raise UserError(f"{path} holds no distilled set (a folder with card.json); {remedy}")


def add_result(path: Path, result: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Append the result of an evaluation to the ``accuracies`` of a set's card.

    Raises: UserError where the set no longer has the ``arrays``, as its card lists them, that were evaluated.
    """
    folder = find(path)
    seen = _identity(folder)
    with locked(folder / _DONE):  # another evaluation of the set may end at the same time
        card = _read_card(folder)
        if card["arrays"] != arrays or _identity(folder) != seen:
            raise UserError(f"{folder} holds a newer set than the one that was evaluated; evaluate it again")
        card["accuracies"].append(plain(result))
        write(folder / "card.json", text(stamp(card)))


def _load(folder: Path) -> Distilled:
    if not (folder / _DONE).is_file() and any((folder / name).is_file() for name in ("labels.csv", "labels.pt")):
        raise UserError(f"{folder} is a set for other programs, of rcig.convert; give the one that it was made from")
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
    with quiet_orbax():
        stored = dict((_checkpointer().metadata(folder).item_metadata or {}).items())
        if {k: list(v.shape) for k, v in stored.items()} != {k: v["shape"] for k, v in card["arrays"].items()}:
            raise ValueError("its arrays have other shapes than its card says")
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
        card = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} must be a readable JSON file ({error}); fetch the set again") from error
    check_card(card, str(folder))
    return card


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _old(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from its successor under the same name; None if it is gone."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns
