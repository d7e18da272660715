"""Where data sets come from: a name and a folder in, raw arrays out. Nothing here ever goes to the network.

A source is found in SOURCES by name: prepared TFDS sets are read by ``records``, trees of pictures (Tiny ImageNet,
Imagenette, Imagewoof, your own folder) by ``trees``, your own arrays by ``arrays``, USPS by ``usps``, texts by
``corpora`` and ``text``; scikit-learn's digits are here.
"""

import os
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcig.data import arrays, corpora, records, text, trees, usps
from rcig.data.raw import Raw, check, split
from rcig.errors import UserError, unknown
from rcig.files import home, local_path


class Source(NamedTuple):
    """How a set is found and read.

    ``read(location, cache_dir, **options)`` returns it raw; ``locate(data_dir)`` is its newest copy or None, and absent
    where nothing needs finding; ``sought`` says what ``locate`` looks for. ``tfds`` is the set's name there; ``url`` is
    the archive of a set that TFDS does not prepare, or where its ``files`` are, to be kept in ``folder``. Of texts that
    are found so, ``corpus(location)`` returns the words.
    """

    read: Callable[..., Raw]
    options: tuple[str, ...] = ()
    locate: Callable[[Path], Path | None] | None = None
    sought: str = ""
    url: str = ""
    tfds: str = ""
    files: tuple[str, ...] = ()
    folder: str = ""
    corpus: Callable[..., corpora.Corpus] | None = None


def default_data_dir() -> Path:
    """Return the folder of the environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets; UserError of no home."""
    if named := os.environ.get("TFDS_DATA_DIR"):
        return local_path(named)
    if folder := home():
        return folder / "tensorflow_datasets"
    raise UserError("prepared data sets are sought in ~/tensorflow_datasets, but ~ is unknown; set TFDS_DATA_DIR")


def find(name: str) -> Source:
    """Return source ``name``. Raises UserError that lists the known ones."""
    if name not in SOURCES:
        raise unknown("data set", name, SOURCES)
    return SOURCES[name]


def read(name: str, data_dir: Path | None, cache_dir: Path, options: Mapping[str, Any]) -> Raw:
    """Read a data set, checked; without a ``data_dir`` from the default one, if it is of those that are prepared.

    Raises UserError for an unknown name or option, a missing set, broken contents.
    """
    source = find(name)
    for option in options:
        if not source.options:
            raise UserError(f"data set {name!r} takes no options, got {option!r}: leave it out")
        if option not in source.options:
            raise unknown(f"option of data set {name!r}", option, source.options)
    resolution = options.get("resolution")
    if resolution is not None and not (isinstance(resolution, int) and resolution > 0):
        raise UserError(f"resolution must be a positive number of pixels, got {resolution!r}: use e.g. 32")
    location = _located(name, source, data_dir)
    if others := _named_texts(str(options.get("embeddings", "")), data_dir):
        options = {**options, "others": others}
    return check(source.read(location, cache_dir, **options), where=f"data set {name!r}")


def _located(name: str, source: Source, data_dir: Path | None) -> Path | None:
    if not source.locate:
        return None
    data_dir = data_dir or default_data_dir()
    if location := source.locate(data_dir):
        return location
    raise _missing(name, source, data_dir)


def _named_texts(embeddings: str, data_dir: Path | None) -> list[str]:
    """Return the training texts of ``imdb+sst5``; nothing where a part is no text's name, as in the path of a file."""
    texts = []
    for name in embeddings.split("+"):
        if name not in SOURCES or not (corpus := SOURCES[name].corpus):
            return []
        texts += corpus(_located(name, SOURCES[name], data_dir)).train_texts
    return texts


def read_digits(location: None, cache_dir: Path) -> Raw:
    """Return scikit-learn's digits: 1797 images (8, 8, 1) of 16 grey levels as [0, 1], a fixed third held out."""
    from sklearn.datasets import load_digits  # a second to import, wanted by this set only

    digits: Any = load_digits()
    inputs = (digits.images[..., None] / 16).astype(np.float32)
    names = np.array([str(name) for name in digits.target_names])
    return split(inputs, digits.target.astype(np.int32), 1 / 3, names)


def read_mnist_rgb(location: Path, cache_dir: Path) -> Raw:
    """Return MNIST with its grey values in three equal channels, for networks of colour images."""
    raw = records.read(location, cache_dir)
    train, test = (np.repeat(inputs, 3, axis=-1) for inputs in (raw.train_inputs, raw.test_inputs))
    return raw._replace(train_inputs=train, test_inputs=test)


def _missing(name: str, source: Source, data_dir: Path) -> UserError:
    command = f"python -m rcig.data prepare {name} --data_dir {shlex.quote(str(data_dir))}"
    needs = f"downloads {source.url}" if source.url else 'needs pip install ".[prepare]"'
    return UserError(
        f"data set {name!r} not found: looked for {source.sought} in {data_dir}; prepare it once with `{command}` "
        f"({needs}), or name the folder that has it by data_dir or TFDS_DATA_DIR"
    )


def _tfds(name: str, test_split: str = "test") -> Source:
    return Source(
        partial(records.read, test_split=test_split),
        locate=partial(records.locate, name),
        sought=f"{name}/<version>/dataset_info.json",
        tfds=name,
    )


def _tree(read: Callable[..., Raw], options: tuple[str, ...], stem: str, url: str) -> Source:
    return Source(read, options, partial(trees.locate, stem), f"{stem}, {stem}*.zip, .tar, .tar.gz or .tgz", url)


def _texts(corpus: Callable[..., corpora.Corpus], folder: str, files: tuple[str, ...], url: str) -> Source:
    locate = partial(corpora.locate, folder, files)
    sought = " and ".join(f"{folder}/{file}" for file in files)
    return Source(partial(text.read, corpus), text.OPTIONS, locate, sought, url, "", files, folder, corpus)


_FAST_AI = "https://s3.amazonaws.com/fast-ai-imageclas"

SOURCES: dict[str, Source] = {
    "digits": Source(read_digits),
    "mnist": _tfds("mnist"),
    "mnist_rgb": _tfds("mnist")._replace(read=read_mnist_rgb),
    "fashion_mnist": _tfds("fashion_mnist"),
    "cifar10": _tfds("cifar10"),
    "cifar100": _tfds("cifar100"),
    "svhn_cropped": _tfds("svhn_cropped"),
    "caltech_birds2011": _tfds("caltech_birds2011")._replace(
        read=partial(records.read, resolution=32), options=("resolution",)
    ),
    "imagenet2012": _tfds("imagenet2012")._replace(
        read=partial(records.read, test_split="validation", resolution=224), options=("resolution",)
    ),
    "imagenet_resized/64x64": _tfds("imagenet_resized/64x64", test_split="validation"),
    "tiny_imagenet": _tree(
        trees.read_tiny_imagenet, (), "tiny-imagenet-200", "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    ),
    "imagenette": _tree(
        partial(trees.read_wnids, trees.IMAGENETTE),
        ("resolution",),
        "imagenette2-160",
        f"{_FAST_AI}/imagenette2-160.tgz",
    ),
    "imagewoof": _tree(
        partial(trees.read_wnids, trees.IMAGEWOOF), ("resolution",), "imagewoof2-160", f"{_FAST_AI}/imagewoof2-160.tgz"
    ),
    "usps": Source(
        usps.read, ("resolution", "test_fraction"), usps.locate, "usps/zip.*.gz", usps.URL, "", usps.FILES, "usps"
    ),
    "imdb": _tfds("imdb_reviews/plain_text")._replace(
        read=partial(text.read, records.read_texts, vocabulary=10_000, length=200),
        options=text.OPTIONS,
        tfds="imdb_reviews",
        corpus=records.read_texts,
    ),
    "sst5": _texts(corpora.read_sst5, "sst5", corpora.SST5, corpora.SST5_URL),
    "trec6": _texts(partial(corpora.read_trec, fine=False), "trec", corpora.TREC, corpora.TREC_URL),
    "trec50": _texts(partial(corpora.read_trec, fine=True), "trec", corpora.TREC, corpora.TREC_URL),
    "npz": Source(arrays.read_npz, ("path", "test_fraction")),
    "folder": Source(trees.read_folder, ("path", "test_fraction", "resolution")),
    "tsv": Source(partial(text.read, corpora.read_tsv), ("path", "test_path", "test_fraction", *text.OPTIONS)),
}
