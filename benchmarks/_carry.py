"""Take a prepared TFDS set of pictures to a machine without a network, losslessly and in parts of at most 52 MiB.

Pixels are predicted from their left and upper neighbours (MED) after subtracting green, and what is left is
compressed by bz2: CIFAR-10 2 parts of 50 MiB (its records are 124), Fashion-MNIST 28 MiB, MNIST 12 MiB. On the
other side the decoded pixels go straight into rcig's own cache. The records stay at home: empty files of their sizes
and times stand in for them, which is all that the cache's key asks of them; should the cache be lost, reading them is
an ``error:`` line.
"""

import bz2
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from rcig.data import cache, records, sources
from rcig.data.raw import Raw, to_arrays

_PART = 55_000_000  # bytes of a part, at most about
_TEXT = (".json", ".txt")  # files of a prepared set that travel as they are


def pack(name: str, folder: Path, data_dir: Path) -> list[Path]:
    """Write ``folder/<name>.{json,0.bz2,1.bz2,...}``; returns the files. CIFAR-10 takes half a minute."""
    location = records.locate(name, data_dir)
    if location is None:
        raise SystemExit(f"error: {name} is not prepared in {data_dir}; see python -m rcig.data prepare")
    raw = sources.read(name, data_dir, cache.default_folder(), {})
    pixels = np.concatenate([raw.train_inputs, raw.test_inputs])
    num_parts = -(-len(bz2.compress(_residuals(pixels[::100]).tobytes())) * 100 // _PART)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, part in enumerate(np.array_split(pixels, num_parts)):
        made.append(folder / f"{name}.{number}.bz2")
        made[-1].write_bytes(bz2.compress(_residuals(part).tobytes()))
    stats = {path.name: (path, path.stat()) for path in location.iterdir()}
    note = {
        "location": str(location.relative_to(data_dir)),
        "files": {
            n: [s.st_size, s.st_mtime_ns, p.read_text() if p.suffix in _TEXT else ""] for n, (p, s) in stats.items()
        },
        "shape": pixels.shape,
        "parts": num_parts,
        "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "train_labels": raw.train_labels.tolist(),
        "test_labels": raw.test_labels.tolist(),
        "class_names": raw.class_names.tolist(),
    }
    made.append(folder / f"{name}.json")
    made[-1].write_text(json.dumps(note))
    return made


def unpack(name: str, folder: Path, data_dir: Path) -> None:
    """Fill rcig's cache from the parts in ``folder``, and make the stand-ins in ``data_dir``; checked by SHA-256."""
    note = json.loads((folder / f"{name}.json").read_text())
    missing = [n for n in range(note["parts"]) if not (folder / f"{name}.{n}.bz2").exists()]
    if missing:
        raise SystemExit(f"error: parts {missing} of {name} are not in {folder} yet; carry them too")
    parts = [bz2.decompress((folder / f"{name}.{n}.bz2").read_bytes()) for n in range(note["parts"])]
    shape = (-1, *note["shape"][1:])
    channels_first = (-1, shape[3], *shape[1:3])
    planes = [np.frombuffer(part, np.uint8).reshape(channels_first) for part in parts]
    pixels = np.concatenate([_pixels(part) for part in planes])
    if hashlib.sha256(pixels.tobytes()).hexdigest() != note["sha256"]:
        raise SystemExit(f"error: the parts of {name} in {folder} are damaged; pack and carry them again")
    location = data_dir / note["location"]
    _stand_in(location, note["files"])
    train, test = (np.array(note[f"{part}_labels"], np.int32) for part in ("train", "test"))
    raw = Raw(pixels[: len(train)], train, pixels[len(train) :], test, np.array(note["class_names"]))
    records._decode = lambda *_: to_arrays(raw)  # so that rcig itself decides under which key they are kept
    sources.read(name, data_dir, cache.default_folder(), {})


def _stand_in(location: Path, files: dict) -> None:
    location.mkdir(parents=True, exist_ok=True)
    for name, (size, time, text) in files.items():
        path = location / name
        path.write_text(text)
        os.truncate(path, size)
        os.utime(path, ns=(time, time))


def _residuals(pixels: np.ndarray) -> np.ndarray:
    """Return what prediction leaves of pixels (N, H, W, C), uint8 (N, C, H, W)."""
    planes = _without_green(pixels.transpose(0, 3, 1, 2).astype(np.int16))
    left, up, corner = (np.zeros_like(planes) for _ in range(3))
    left[..., 1:], up[..., 1:, :], corner[..., 1:, 1:] = planes[..., :-1], planes[..., :-1, :], planes[..., :-1, :-1]
    return (planes - _predict(left, up, corner)).astype(np.uint8)


def _pixels(residuals: np.ndarray) -> np.ndarray:
    """Invert `_residuals`, pixel by pixel over all images at once."""
    num, channels, height, width = residuals.shape
    planes = np.zeros((num, channels, height + 1, width + 1), np.int16)  # a border of zeros above and to the left
    for i in range(height):
        for j in range(width):
            predicted = _predict(planes[:, :, i + 1, j], planes[:, :, i, j + 1], planes[:, :, i, j])
            value = residuals[:, :, i, j] + predicted
            green = value[:, 1:2] & 255 if channels == 3 else 0
            base = np.concatenate([green, 0 * green, green], 1) if channels == 3 else 0
            planes[:, :, i + 1, j + 1] = ((value + base) & 255) - base
    planes = planes[:, :, 1:, 1:]
    if channels == 3:
        planes = planes + planes[:, 1:2] * np.array([1, 0, 1], np.int16)[None, :, None, None]
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)).astype(np.uint8)


def _without_green(planes: np.ndarray) -> np.ndarray:
    if planes.shape[1] != 3:
        return planes
    return planes - planes[:, 1:2] * np.array([1, 0, 1], np.int16)[None, :, None, None]


def _predict(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The median edge detector: of left, up and left + up - corner the one in the middle."""
    low, high = np.minimum(left, up), np.maximum(left, up)
    return np.clip(left + up - corner, low, high)
