"""Records of one size in flat files, one file a field: appended whole, mapped into memory, each with its checksum.

    with Writer(folder, about, layout) as writer:       # goes on after the last committed record
        writer.append({"logits": (n, B, K), "image": (n, B), ...})
    records = Records(folder, layout, count)
    records.read(ids)                                    # {"logits": (len(ids), B, K), ...}

Data reach the disk before ``meta.json`` counts them, so a kill, or a full disk, leaves all records before; what lies
beyond the count is dropped by the next writer. Readers see the records of the moment in which they open, in any number
of processes. The checksum is CRC-32, of a record's bytes over all fields in order.
"""

import json
import mmap
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from rcig.errors import UserError
from rcig.files import disk_errors, write

Layout = dict[str, tuple[str, tuple[int, ...]]]  # field -> dtype and shape of one record
_CHECKSUMS = "checksums"
_MAPPED = 8 * 2**20  # bytes read before the pages go back: a map else grows to the size of the files


def record_bytes(layout: Layout) -> int:
    """Return the bytes of one record, its checksum included."""
    return sum(_field_bytes(*field) for field in _with_checksums(layout).values())


def read_meta(folder: Path) -> dict[str, Any]:
    """Return what a folder says of its records. Raises UserError where it is no folder of records."""
    path = Path(folder) / "meta.json"
    try:
        meta = json.loads(path.read_bytes())
        if type(meta["count"]) is not int or meta["count"] < 0:
            raise ValueError(f"count is {meta['count']}")
        return meta
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{folder} must be a pool of soft labels ({error}); make it with the relabel stage") from error


def whole(folder: Path, layout: Layout) -> int:
    """Return how many records of a folder are counted and there in every file; 0 where nothing is."""
    if not (Path(folder) / "meta.json").exists():
        return 0
    held = _held(folder, layout).values()
    return min(read_meta(folder)["count"], *held)


class Records:
    """The first ``count`` records of a folder, for reading. Memory: what is read, and about 100 MB of mapped pages."""

    def __init__(self, folder: Path, layout: Layout, count: int) -> None:
        self.folder, self.count = Path(folder), count
        self._maps, self._arrays, self._touched = [], {}, 0
        held = _held(folder, layout)
        for name, (dtype, shape) in _with_checksums(layout).items():
            path = self.folder / f"{name}.bin"
            if held[name] < count:
                raise UserError(
                    f"{self.folder} counts {count} records but {path.name} ends within record {held[name]}; "
                    "label again, which goes on from there"
                )
            if not count:
                self._arrays[name] = np.empty((0, *shape), dtype)
                continue
            with open(path, "rb") as file:
                size = count * _field_bytes(dtype, shape)
                self._maps.append(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
            self._arrays[name] = np.frombuffer(self._maps[-1], dtype).reshape(count, *shape)
        self._sound = np.zeros(count, bool)  # records whose checksum has been looked at
        self._bytes_each = record_bytes(layout)

    def read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Return records by number, copied. Raises UserError that names the first whose checksum is off."""
        rows = self._take(ids)
        fresh = np.flatnonzero(~self._sound[ids])
        for place in fresh:
            if _checksum(rows, place) != self._arrays[_CHECKSUMS][ids[place]]:
                raise UserError(
                    f"record {ids[place]} of {self.folder} does not match its checksum; delete the folder and start "
                    "the same distillation again to label anew, or in Python leave it out by LabelPool.sound()"
                )
        self._sound[ids[fresh]] = True
        return rows

    def broken(self) -> np.ndarray:
        """Return the numbers of all records whose checksum is off. Cost: one pass over the files."""
        step = max(1, _MAPPED // self._bytes_each)
        found = []
        for start in range(0, self.count, step):
            ids = np.arange(start, min(start + step, self.count))
            rows = self._take(ids)
            found += [i for at, i in enumerate(ids) if _checksum(rows, at) != self._arrays[_CHECKSUMS][i]]
        return np.array(found, np.int64)

    def _take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        rows = {name: array[ids] for name, array in self._arrays.items() if name != _CHECKSUMS}
        self._touched += len(ids) * self._bytes_each
        if self._touched > _MAPPED:
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return rows


class Writer:
    """Appends records to a folder; ``about`` is what ``meta.json`` says beside the count. One writer at a time.

    Raises UserError where the disk refuses; the records committed before stay.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], layout: Layout) -> None:
        self.folder, self._about, self._files = Path(folder), dict(about), {}
        every = _with_checksums(layout)
        self._dtypes = {name: np.dtype(dtype) for name, (dtype, _) in every.items()}
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.count = whole(self.folder, layout)
            self._files = {name: open(self.folder / f"{name}.bin", "ab") for name in every}
            self._commit()
            for name, file in self._files.items():
                file.truncate(self.count * _field_bytes(*every[name]))

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add records, every field (n, ...): on the disk when this returns, all of them or none."""
        rows = {name: np.ascontiguousarray(rows[name], dtype) for name, dtype in self._dtypes.items() if name in rows}
        num_rows = len(next(iter(rows.values())))
        rows[_CHECKSUMS] = np.array([_checksum(rows, row) for row in range(num_rows)], np.uint32)
        with disk_errors(self.folder):
            for name, file in self._files.items():
                file.write(rows[name].data)
                file.flush()
                os.fsync(file.fileno())
            self.count += num_rows
            self._commit()

    def _commit(self) -> None:
        write(self.folder / "meta.json", (json.dumps(self._about | {"count": self.count}, indent=1) + "\n").encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for file in self._files.values():
            try:
                file.close()
            except OSError:
                if kind is None:  # else what could not be written has been said
                    raise


def _with_checksums(layout: Layout) -> Layout:
    return layout | {_CHECKSUMS: ("<u4", ())}


def _field_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return np.dtype(dtype).itemsize * int(np.prod(shape))


def _held(folder: Path, layout: Layout) -> dict[str, int]:
    """Return the whole records in each file."""
    paths = {name: Path(folder) / f"{name}.bin" for name in _with_checksums(layout)}
    sizes = {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}
    return {name: sizes[name] // _field_bytes(*field) for name, field in _with_checksums(layout).items()}


def _checksum(rows: Mapping[str, np.ndarray], row: int) -> int:
    crc = 0
    for array in rows.values():
        crc = zlib.crc32(array[row].tobytes(), crc)
    return crc
