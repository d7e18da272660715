"""What takes long to make is made once: named arrays on disk, found again by the digest of what they came from.

An entry is a folder ``<cache>/<key>/`` of .npy files beside ``index.json`` (size and CRC of each). It is written under
another name and renamed when whole, so a killed run never leaves half an entry; a damaged entry is made again; a cache
that cannot be written costs time only. Entries are never needed: the folder may be deleted at any moment.
"""

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from rcig.errors import UserError
from rcig.files import home

Arrays = Mapping[str, np.ndarray]

_log = logging.getLogger(__name__)
_INDEX = "index.json"
LARGE = 1 << 30


def default_folder() -> Path:
    """Return the folder of the environment variable RCIG_CACHE, else ~/.cache/rcig; a temporary one of no home."""
    if named := os.environ.get("RCIG_CACHE"):
        return Path(os.path.expanduser(named))
    return folder / ".cache" / "rcig" if (folder := home()) else Path(tempfile.gettempdir(), f"rcig-{os.getuid()}")


def remember(folder: Path, key: str, build: Callable[[], Arrays]) -> Arrays:
    """Return ``build()``, or what an earlier call with this key stored; stored arrays come memory-mapped, read-only.

    Cost: one pass over the stored bytes (CRC) when found, ``build`` and one write when not. Never raises for the disk.
    """
    entry = folder / key
    if entry.exists():
        try:
            return _read(entry)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _log.warning("cache entry %s is damaged (%s) and is made again", entry, error)
            shutil.rmtree(entry, ignore_errors=True)
    arrays = build()
    try:
        _write(entry, arrays)
    except OSError as error:
        if not entry.exists():  # nor has another process written it in the meantime
            _log.warning("cache entry %s cannot be written (%s): the next load makes it again", entry, error)
    return arrays


def scratch(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return uint8 memory to be filled; what is larger than ``LARGE`` bytes lies on the disk, where it takes it."""
    if math.prod(shape) > LARGE:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                _reserve(file, math.prod(shape))
                return np.memmap(file, np.uint8, "w+", shape=shape)
        except OSError as error:
            _log.warning("%s takes no %s pictures (%s): they are decoded in memory", folder, shape[0], error)
    return np.empty(shape, np.uint8)


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the file's whole room on the disk; raises OSError where it lacks: a page without room would kill us."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:  # macOS
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve
            raise


def digest(*parts: object) -> str:
    """Return 32 hexadecimal digits that change when any part does. Arrays count by dtype, shape and contents."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype.str}{part.shape};".encode())
            for block in _blocks(part):
                state.update(block)
        else:
            state.update(f"{part!r};".encode())
    return state.hexdigest()[:32]


def files_digest(root: Path) -> str:
    """Return a digest of the names, sizes and times of a file, or of all files below a folder (not their contents).

    Of the times that of the inode, too: copies and containers set the other as they like.
    """
    files = [root] if root.is_file() else files_below(root)
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in files]
    return digest(*[(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats])


def files_below(root: Path) -> list[Path]:
    """Return the files below a folder, sorted; folders that are links are followed, but in no circle.

    Raises UserError for a folder that cannot be listed: a class would be missing without a word.
    """

    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"folder {error.filename} cannot be read ({error.strerror}): grant the right or remove it")

    found, seen = [], set()
    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        status = os.stat(folder)
        if (identity := (status.st_dev, status.st_ino)) in seen:
            below.clear()
            continue
        seen.add(identity)
        found += [path for path in (Path(folder, name) for name in names) if path.is_file()]
    return sorted(found)


def _read(entry: Path) -> Arrays:
    index = json.loads((entry / _INDEX).read_text())
    arrays = {}
    for name, (size, crc) in index.items():
        path = entry / f"{name}.npy"
        if path.stat().st_size != size or _crc(path) != crc:
            raise ValueError(f"{name} is not what was written")
        arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    return arrays


def _write(entry: Path, arrays: Arrays) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        index = {}
        for name, array in arrays.items():
            path = temporary / f"{name}.npy"
            with path.open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            index[name] = [path.stat().st_size, _crc(path)]
        (temporary / _INDEX).write_text(json.dumps(index))
        temporary.rename(entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def _blocks(array: np.ndarray) -> Iterator[bytes]:
    rows = max(1, (1 << 24) // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield np.ascontiguousarray(array[start : start + rows]).tobytes()
