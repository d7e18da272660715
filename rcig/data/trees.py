"""Trees of pictures: Tiny ImageNet, Imagenette, Imagewoof and your own folder, in place or in their archive.

Each set is a function from the paths it finds to a Listing; decoding and caching are the same for all.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from rcig.data import archives, cache, images
from rcig.data.archives import Tree
from rcig.data.raw import HELD_OUT, Raw, split_already, stratified_split, to_arrays
from rcig.errors import UserError
from rcig.files import is_text, local_path

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

Labelled = list[tuple[str, int]]  # paths and labels


class Listing(NamedTuple):
    """What a tree holds, by path."""

    train: Labelled
    test: Labelled
    class_names: Sequence[str]
    channels: int


def locate(stem: str, data_dir: Path) -> Path | None:
    """Return folder ``data_dir/<stem>``, else the archive there whose name begins with ``stem`` and is shortest."""
    if (data_dir / stem).is_dir():
        return data_dir / stem
    found = [path for path in data_dir.glob(f"{stem}*") if path.is_file() and path.name.endswith(archives.SUFFIXES)]
    return min(found, key=lambda path: (len(path.name), path.name), default=None)


def read_tiny_imagenet(location: Path, cache_dir: Path) -> Raw:
    """Read Tiny ImageNet: class = line of wnids.txt, the official val folder as test, grey pictures made RGB."""
    return _read(location, cache_dir, "tiny", _list_tiny_imagenet, None)


def read_wnids(names: Mapping[str, str], location: Path, cache_dir: Path, resolution: int = 128) -> Raw:
    """Read train/<wnid> and val/<wnid> (as test) of the classes in ``names``: centre square, area resize."""
    return _read(location, cache_dir, list(names), partial(_list_wnids, names), resolution)


_SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation")


def read_folder(
    location: None, cache_dir: Path, path: str = "", test_fraction: float = 0.0, resolution: int | None = None
) -> Raw:
    """Read your own pictures from path/train/<class>/ and path/test/<class>/ (or val/), or from path/<class>/ alone.

    In the second form a stratified ``test_fraction`` (a fifth) of every class is held out. Folders within a class's
    belong to it; what begins with a dot, and pictures outside the classes' folders, do not count. Pictures are grey
    only if all are.
    """
    root = local_path(path)
    if not path or not root.is_dir():
        raise UserError(
            f"data set 'folder' needs path= a folder with a folder of pictures for each class, got {str(path)!r}"
        )
    if (root / "train").is_dir():
        split_already(path, test_fraction)
        raw = _read(root, cache_dir, "splits", _list_splits, resolution)
        _say_empty([folder for part in ("train", "test", "val") for folder in _folders(root / part)], root)
        return raw
    below = _folders(root)
    splits = [path.name for path in below if path.name.lower() in _SPLITS and any(map(Path.is_dir, path.iterdir()))]
    if splits and len(splits) == len(below):
        raise UserError(f"folders {', '.join(sorted(splits))} in {root} look like splits; call them train and test")
    fraction = test_fraction or HELD_OUT
    raw = _read(root, cache_dir, ("classes", fraction), partial(_list_classes, fraction), resolution)
    _say_empty(below, root)
    return raw


def _folders(root: Path) -> list[Path]:
    """Return the folders in one, sorted, if that is there; what begins with a dot does not count."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))


def _say_empty(folders: Sequence[Path], root: Path) -> None:
    """Warn of somebody's folders of classes without any file, which no listing of files shows."""
    empty = [path for path in folders if all(file.name.startswith(".") for file in cache.files_below(path))]
    if empty:
        names = ", ".join(path.relative_to(root).as_posix() for path in empty)
        warnings.warn(f"folders of classes in {root} are empty and are left out: {names}", stacklevel=2)


def _read(
    location: Path, cache_dir: Path, kind: object, listing: Callable[[Tree], Listing], resolution: int | None
) -> Raw:
    """Decode what ``listing`` finds, or return it from the cache, where ``kind`` stands for the listing's rule."""

    def build() -> cache.Arrays:
        with archives.opened(location) as tree:
            found = listing(tree)
            if odd := [name for name in found.class_names if not is_text(name)]:
                raise UserError(f"class folder {odd[0]!r} must have a name in UTF-8; rename it")
            how = (found.channels, resolution, cache_dir)
            train, test = (_decode(tree, part, *how) for part in (found.train, found.test))
        return to_arrays(Raw(*train, *test, np.array(found.class_names)))

    key = cache.digest("tree", images.VERSION, kind, cache.files_digest(location), resolution)
    return Raw(**cache.remember(cache_dir, key, build))


def _decode(
    tree: Tree, part: Labelled, channels: int, resolution: int | None, cache_dir: Path
) -> tuple[np.ndarray, np.ndarray]:
    def load(rows: Sequence[int]) -> list[images.Named]:
        return [(part[row][0], tree[part[row][0]]()) for row in rows]

    labels = np.array([label for _, label in part], np.int32)
    return images.decode_all(load, len(part), channels, resolution, cache_dir), labels


def _list_tiny_imagenet(tree: Tree) -> Listing:
    roots = [PurePosixPath(name).parent for name in tree if PurePosixPath(name).name == "wnids.txt"]
    if not roots:
        raise UserError("no wnids.txt in the Tiny ImageNet tree: use the original archive or what it unpacks to")
    root = min(roots, key=lambda path: len(path.parts))
    wnids = [line for line in _lines(tree, root / "wnids.txt") if line]
    words = dict(line.split("\t", 1) for line in _lines(tree, root / "words.txt") if "\t" in line)
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    train = _by_class(_pictures(tree), lambda name: _wnid_of_train(name, root), label_of)
    test = []
    for line in _lines(tree, root / "val/val_annotations.txt"):
        file, wnid, *_ = (*line.split("\t"), "", "")
        name = str(root / "val/images" / file)
        if wnid in label_of and name in tree:
            test.append((name, label_of[wnid]))
    return Listing(train, _filled(test, "val"), [words.get(wnid, wnid) for wnid in wnids], 3)


def _wnid_of_train(name: str, root: PurePosixPath) -> str:
    parts = PurePosixPath(name).parts[len(root.parts) :]
    return parts[1] if len(parts) == 4 and parts[0] == "train" and PurePosixPath(name).is_relative_to(root) else ""


def _list_wnids(names: Mapping[str, str], tree: Tree) -> Listing:
    label_of = {wnid: label for label, wnid in enumerate(names)}
    train, test = (_by_class(_pictures(tree), partial(_class_below, part), label_of) for part in ("train", "val"))
    return Listing(train, test, list(names.values()), 3)


def _list_splits(tree: Tree) -> Listing:
    pictures = _own_pictures(tree)
    tested = next((part for part in ("test", "val") if any(_class_in(part, name) for name in pictures)), "test")
    classes, strangers = ({_class_in(part, name) for name in pictures} - {""} for part in ("train", tested))
    label_of = {name: label for label, name in enumerate(sorted(classes))}
    if strange := min(strangers - classes, default=""):
        raise UserError(f"class folder {tested}/{strange} has no train/{strange}: give each class both")
    train = _by_class(pictures, partial(_class_in, "train"), label_of, "train/<class>/")
    test = _by_class(pictures, partial(_class_in, tested), label_of, "test/<class>/ or val/<class>/")
    _say_left_out(pictures, train + test)
    return Listing(train, test, list(label_of), _channels(tree, [name for name, _ in train + test]))


def _list_classes(test_fraction: float, tree: Tree) -> Listing:
    every = _own_pictures(tree)
    pictures = [name for name in every if "/" in name]
    classes = sorted({name.split("/")[0] for name in pictures})
    label_of = {name: label for label, name in enumerate(classes)}
    labelled = _by_class(pictures, lambda name: name.split("/")[0], label_of, "<class>/")
    _say_left_out(every, labelled)
    rows = stratified_split(np.array([label for _, label in labelled]), test_fraction)
    train, test = ([labelled[row] for row in part] for part in rows)
    return Listing(train, test, classes, _channels(tree, pictures))


def _class_in(part: str, name: str) -> str:
    """Return C of a path part/C/.../picture, else the empty string."""
    first, *below = name.split("/")
    return below[0] if first == part and len(below) > 1 else ""


def _class_below(part: str, name: str) -> str:
    """Return C of a path .../part/C/picture, else the empty string."""
    parts = PurePosixPath(name).parts
    return parts[-2] if len(parts) >= 3 and parts[-3] == part else ""


def _by_class(
    pictures: Sequence[str], class_of: Callable[[str], str], label_of: Mapping[str, int], where: str = "the tree"
) -> Labelled:
    """Return the pictures of known classes, class-major and sorted by path within a class."""
    found = defaultdict(list)
    for name in pictures:
        found[class_of(name)].append(name)
    labelled = [(name, label) for wnid, label in label_of.items() for name in sorted(found[wnid])]
    return _filled(labelled, where)


def _filled(labelled: Labelled, where: str) -> Labelled:
    if not labelled:
        kinds = ", ".join(images.SUFFIXES)
        raise UserError(f"no pictures ({kinds}) of the expected classes in {where}: check names of folders and files")
    return labelled


def _own_pictures(tree: Tree) -> list[str]:
    """Return the pictures of somebody's own folder; what lies beside them is said."""
    pictures = _pictures(tree)
    others = sorted({*map(str, _visible(tree))} - {*pictures})
    if others and pictures:
        kinds = ", ".join(images.SUFFIXES)
        lost = sorted(
            {name.rpartition("/")[0] for name in others} - {name.rpartition("/")[0] for name in pictures} - {""}
        )
        told = f"; folders without any: {', '.join(lost)}" if lost else ""
        warnings.warn(
            f"{len(others)} files are no pictures ({kinds}) and are left out: {others[0]} …{told}", stacklevel=2
        )
    return pictures


def _say_left_out(pictures: Sequence[str], used: Labelled) -> None:
    """Warn of somebody's pictures that lie in no folder of a class, or in a third split."""
    if left := sorted({*pictures} - {name for name, _ in used}):
        warnings.warn(f"{len(left)} pictures are of no class or split and are left out: {left[0]} …", stacklevel=2)


def _pictures(tree: Tree) -> list[str]:
    return [str(path) for path in _visible(tree) if path.suffix.lower() in images.SUFFIXES]


def _visible(tree: Tree) -> list[PurePosixPath]:
    paths = (PurePosixPath(name) for name in tree)
    return [path for path in paths if not any(part.startswith((".", "__MACOSX")) for part in path.parts)]


def _channels(tree: Tree, pictures: Sequence[str]) -> int:
    return 1 if all(images.is_grey(name, tree[name]()) for name in pictures) else 3


def _lines(tree: Tree, path: PurePosixPath) -> list[str]:
    return tree[str(path)]().decode(errors="replace").splitlines() if str(path) in tree else []
