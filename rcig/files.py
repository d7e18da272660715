"""Files that are whole or not there: atomic writing, digests, and disk trouble said in one line."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rcig.errors import UserError


def write(path: Path, data: bytes) -> None:
    """Write a file such that a reader, or a kill at any instant, sees the old content or the new, never a half."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")  # pids of containers are all alike
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def check_new(place: Path) -> None:
    """Raise UserError unless a place for a file or folder is free: nothing there, or an empty folder."""
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"{place} must be new, or an empty folder, but holds something; choose another")


def check_plain(folder: Path) -> None:
    """Raise UserError for a folder whose path orbax would misread: it looks for its own parts by a pattern.

    With brackets in it the parts are not found, and nothing is kept, without a word; of a backslash it makes a folder.
    """
    if odd := sorted(set(str(Path(folder).absolute())) & set("[]*?\\")):
        raise UserError(
            f"{folder} must not have {' '.join(odd)} in its path, orbax cannot keep anything there; rename it"
        )


def local_path(text: str | Path) -> Path:
    """Return the path that a text names; its ~ is the home folder, if there is one. Raises UserError for a URL."""
    if "://" in str(text):
        raise UserError(f"{text} is no path on this machine; mount it, or give a local path")
    return Path(os.path.expanduser(text))  # Path's own raises where there is no such user


def home() -> Path | None:
    """Return the home folder; None where the user is unknown, as in containers."""
    found = os.path.expanduser("~")
    return None if found == "~" else Path(found)


def is_text(name: str) -> bool:
    """Return whether a name of a file is UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)  # what Python makes of other bytes


@contextlib.contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock file against other processes; raises BlockingIOError where one has it and is not waited for."""
    with disk_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = open(file, "a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            told = f"{file.parent} has no file locks ({error.strerror}): let no other process work there"
            warnings.warn(told, stacklevel=3)
        yield


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk, a missing right or a vanished folder into a UserError that names ``folder`` and the remedy."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = _disk_reason(error)
        if reason is None:
            raise
        raise UserError(
            f"cannot write to {folder}: {reason}; make room or grant the right to write, or choose another place"
        ) from error


def digest(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's dtype, shape and bytes (C order), in hex. About 1 s a gigabyte."""
    array = np.ascontiguousarray(array)
    hasher = hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode())
    hasher.update(array.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def json_digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value's canonical text, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _disk_reason(error: Exception) -> str | None:
    """Return why the disk refused, or None where the error is of another kind."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # tensorstore, under orbax, reports what the operating system said as a ValueError
    match = re.search(r"([^:]*) \[os_error_code", str(error))
    return match.group(1).strip() if match else None
