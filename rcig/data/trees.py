"""Trees of pictures: Tiny ImageNet, Imagenette, Imagewoof and your own folder, in place, in a tar or in a zip.

An archive is read directly and its paths are only ever compared, never written to: a hostile name is no danger.
"""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from rcig.data import cache, images
from rcig.data.raw import Raw, from_arrays, split
from rcig.errors import UserError

Tree = Mapping[str, Callable[[], bytes]]  # from a file's path to its contents
Listing = Sequence[tuple[str, int]]  # paths and labels of one split

MAX_FILE = 1 << 26  # bytes; nothing in these sets comes near
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
IMAGEWOOF = {
    "n02093754": "Border terrier",
    "n02089973": "English foxhound",
    "n02099601": "Golden retriever",
    "n02087394": "Rhodesian ridgeback",
    "n02105641": "Old English sheepdog",
    "n02096294": "Australian terrier",
    "n02088364": "Beagle",
    "n02115641": "Dingo",
    "n02111889": "Samoyed",
    "n02086240": "Shih-Tzu",
}


def locate(stem: str, data_dir: Path) -> Path | None:
    """Return folder ``data_dir/<stem>``, else the archive there whose name begins with ``stem`` and is shortest."""
    if (data_dir / stem).is_dir():
        return data_dir / stem
    found = [path for path in data_dir.glob(f"{stem}*") if path.is_file() and path.name.endswith(_ARCHIVES)]
    return min(found, key=lambda path: (len(path.name), path.name), default=None)


def read_tiny_imagenet(location: Path, cache_dir: Path) -> Raw:
    """Read Tiny ImageNet: class = line of wnids.txt, official val folder as test, grey pictures repeated to RGB.

    Cost: as ``records.read``; the pictures of a tar are held in memory once.
    """
    return _remembered(location, cache_dir, "tiny", _list_tiny_imagenet, None)


def read_wnids(names: Mapping[str, str], location: Path, cache_dir: Path, resolution: int = 128) -> Raw:
    """Read the folders train/<wnid> and val/<wnid> (as test) of the classes in ``names``: centre square, area resize."""
    return _remembered(location, cache_dir, list(names), partial(_list_wnids, names), resolution)


def read_folder(
    location: None, cache_dir: Path, path: str = "", test_fraction: float = 0.2, resolution: int | None = None
) -> Raw:
    """Read your own pictures from path/train/<class>/* and path/test/<class>/*, or from path/<class>/* alone.

    In the second form a stratified ``test_fraction`` of every class is held out. Pictures are grey only if all are.
    """
    root = Path(path)
    if not path or not root.is_dir():
        raise UserError(f"data set 'folder' needs path= a folder of <class>/*.png or .jpg, got {path!r}")
    if not (root / "train").is_dir():
        whole = _remembered(root, cache_dir, "classes", _list_classes, resolution)
        return split(whole.train_inputs, whole.train_labels, test_fraction, whole.class_names)
    return _remembered(root, cache_dir, "splits", _list_splits, resolution)


def _remembered(
    location: Path,
    cache_dir: Path,
    kind: object,
    listing: Callable[[Tree], tuple[Listing, Listing, Sequence[str]]],
    resolution: int | None,
) -> Raw:
    """Decode what ``listing`` finds in the tree (train, test, class names), or return it from the cache."""

    def build() -> cache.Arrays:
        with _opened(location) as tree:
            train, test, class_names = listing(tree)
            grey = all(images.is_grey(name, tree[name]()) for name, _ in [*train, *test])
            parts = [_decode(tree, part, 1 if grey else 3, resolution) for part in (train, test)]
        return Raw(*parts[0], *parts[1], np.array(class_names))._asdict()

    if resolution is not None and resolution < 1:
        raise UserError(f"resolution must be a positive number of pixels, got {resolution}")
    key = cache.digest("tree", kind, cache.files_digest(location), resolution)
    return from_arrays(cache.remember(cache_dir, key, build))


def _decode(tree: Tree, listing: Listing, channels: int, resolution: int | None) -> tuple[np.ndarray, np.ndarray]:
    def load(rows: Sequence[int]) -> list[images.Named]:
        return [(listing[row][0], tree[listing[row][0]]()) for row in rows]

    labels = np.array([label for _, label in listing], np.int32)
    return images.decode_all(load, len(listing), channels, resolution), labels
