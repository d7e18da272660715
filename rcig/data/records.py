"""Prepared TFDS sets: array_record files read through ``as_data_source``, without TensorFlow or a network."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rcig.data import cache, images
from rcig.data.corpora import Corpus
from rcig.data.raw import Raw, one_line, to_arrays
from rcig.errors import UserError


def locate(name: str, data_dir: Path) -> Path | None:
    """Return the newest version folder of a prepared set, ``data_dir/name/<a.b.c>``, or None."""
    versions = [
        path
        for path in (data_dir / name).glob("*")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "dataset_info.json").is_file()
    ]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def read(location: Path, cache_dir: Path, test_split: str = "test", resolution: int | None = None) -> Raw:
    """Read splits ``train`` and ``test_split``, with a resolution cropped to the centre square and resized by area.

    Decoded pixels are cached by a digest of dataset_info.json and the record files' sizes and times. Cost when cold:
    CIFAR-10 about 8 s on two cores, and its 184 MB in memory. Raises UserError for another format or broken files.
    """
    info = _checked(location, test_split)
    key = cache.digest("records", images.VERSION, info, cache.files_digest(location), resolution, test_split)
    return Raw(**cache.remember(cache_dir, key, partial(_decode, location, cache_dir, test_split, resolution)))


def read_texts(location: Path) -> Corpus:
    """Read the texts and labels of splits ``train`` and ``test``. Cost: IMDB about 4 s on two busy cores."""
    import tensorflow_datasets as tfds  # half a second to import, wanted by text sets and a cold cache only

    _checked(location, "test")
    with _broken_records(location):
        builder: Any = tfds.builder_from_directory(location)
        train, test = (_texts(builder.as_data_source(split=name)) for name in ("train", "test"))
    return Corpus(*train, *test, tuple(builder.info.features["label"].names))


def check_format(location: Path) -> dict[str, Any]:
    """Return dataset_info.json. Raises UserError unless it tells of array_record files."""
    try:
        info = json.loads((location / "dataset_info.json").read_text())
        file_format = info.get("fileFormat", "tfrecord")
    except (OSError, ValueError, AttributeError) as error:
        raise _again(location, f"dataset_info.json is broken ({error!r})") from None
    if file_format != "array_record":
        raise _again(location, f"it holds {file_format} files, readable with TensorFlow only, not array_record")
    return info


def _checked(location: Path, test_split: str) -> dict[str, Any]:
    """Return dataset_info.json, if it tells of the splits, too."""
    info = check_format(location)
    try:
        splits = sorted(entry["name"] for entry in info["splits"])
    except (KeyError, TypeError) as error:
        raise _again(location, f"dataset_info.json is broken ({error!r})") from None
    if not {"train", test_split} <= set(splits):
        raise _again(location, f"it must hold splits train and {test_split}, found {', '.join(splits)}")
    return info


@contextmanager
def _broken_records(location: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise _again(location, f"its records cannot be read ({one_line(error)})") from None


def _decode(location: Path, cache_dir: Path, test_split: str, resolution: int | None) -> cache.Arrays:
    import tensorflow_datasets as tfds  # half a second to import, wanted by a cold cache only

    with _broken_records(location):
        builder: Any = tfds.builder_from_directory(location)
        # bytes, for our own decoder: TFDS takes OpenCV or Pillow, whichever is there, and their pixels differ
        skip = {"image": tfds.decode.SkipDecoding()}
        train, test = (builder.as_data_source(split=name, decoders=skip) for name in ("train", test_split))
        channels = builder.info.features["image"].shape[-1]
        train, test = (_decode_split(source, channels, resolution, cache_dir) for source in (train, test))
    return to_arrays(Raw(*train, *test, np.array(builder.info.features["label"].names)))


def _decode_split(source: Any, channels: int, resolution: int | None, cache_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros(len(source), np.int32)

    def load(rows: Sequence[int]) -> list[images.Named]:
        found = source.__getitems__(list(rows))
        labels[list(rows)] = [record["label"] for record in found]
        return [(f"in record {row}", record["image"]) for row, record in zip(rows, found, strict=True)]

    return images.decode_all(load, len(source), channels, resolution, cache_dir), labels


def _texts(source: Any) -> tuple[list[str], np.ndarray]:
    records = source.__getitems__(list(range(len(source))))
    texts = [record["text"].decode("utf-8") for record in records]
    return texts, np.array([record["label"] for record in records], np.int32)


def _again(location: Path, problem: str) -> UserError:
    remedy = "remove that folder and prepare the data set again with `python -m rcig.data prepare`"
    return UserError(f"{location}: {problem}: {remedy}")
