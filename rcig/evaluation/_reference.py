"""Accuracies of networks trained on everything, kept in a file of JSON lines: dear to make, equal for every set.

A line is an object with the ``key`` of all that it depends on, the ``network``, its ``validation`` and ``test``
accuracies (one a trained network) and ``seconds``. A last line without an end, cut off by a kill, is made again.
"""

import json
from pathlib import Path
from typing import Any

from rcig.errors import UserError
from rcig.files import write

Reference = dict[str, Any]

_unkept: dict[str, Reference] = {}  # of whoever names no file: for the next set of this process


def read(path: Path | None) -> dict[str, Reference]:
    """Return key -> line of a file, of this process without one. Raises: UserError for a file of something else."""
    if path is None:
        return dict(_unkept)
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read eval.reference {path}: {error}; name another file") from None
    lines = [_line(line, path) for line in text.split("\n")[:-1]]
    return {line["key"]: line for line in lines}


def add(path: Path | None, key: str, reference: Reference) -> dict[str, Reference]:
    """Add a line; return all that the file holds now, those of other processes among them."""
    known = read(path) | {key: {"key": key} | reference}
    if path is None:
        _unkept.update(known)
    else:
        write(path, "".join(json.dumps(line) + "\n" for line in known.values()).encode())
    return known


def _line(text: str, path: Path) -> Reference:
    try:
        line = json.loads(text)
        accuracies = [*line["validation"], *line["test"]]
        if type(line["key"]) is str and len(accuracies) >= 2 and all(0 <= accuracy <= 1 for accuracy in accuracies):
            return line | {"seconds": float(line["seconds"])}
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"eval.reference {path} holds a line that is no reference accuracy; name another file")
