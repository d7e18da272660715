"""Labelled texts as their publishers' files have them, and your own in a tab-separated file.

sst5        sst_train.txt, sst_test.txt: ``__label__1`` (very negative) to 5, a tab, the sentence; no dev split
trec6, 50   train_5500.label, TREC_10.label: ``COARSE:fine``, a space, the question
tsv         your own: the label, a tab, the text

One line an example, UTF-8; TREC's official file has one line in Latin-1. IMDB is a TFDS set: see ``records``.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rcig.data.raw import HELD_OUT, stratified_split
from rcig.errors import UserError
from rcig.files import local_path

SST5 = ("sst_train.txt", "sst_test.txt")
SST5_URL = (
    "https://raw.githubusercontent.com/prrao87/fine-grained-sentiment/a4401669eecbe9dda494faf36afe1e6a0b065a38/data/sst"
)
TREC = ("train_5500.label", "TREC_10.label")
TREC_URL = "https://cogcomp.seas.upenn.edu/Data/QA/QC"

_SENTIMENTS = ("very negative", "negative", "neutral", "positive", "very positive")
_Example = tuple[str, str]  # label, text


class Corpus(NamedTuple):
    """Labelled texts, before anything is done to them."""

    train_texts: Sequence[str]
    train_labels: np.ndarray  # (N,) int32 in [0, K)
    test_texts: Sequence[str]
    test_labels: np.ndarray
    class_names: tuple[str, ...]


def locate(folder: str, files: Sequence[str], data_dir: Path) -> Path | None:
    """Return ``folder`` with all ``files``, in ``data_dir`` or beside it, or None."""
    found = (data_dir / folder, data_dir.absolute().parent / folder)
    return next((path for path in found if all((path / file).is_file() for file in files)), None)


def read_sst5(location: Path) -> Corpus:
    """Read SST-5: 8544 training and 2210 test sentences, five classes. Raises UserError that names a broken line."""
    labels = {f"__label__{number}": name for number, name in enumerate(_SENTIMENTS, 1)}

    def parse(line: str) -> _Example:
        label, text = line.split("\t", 1)
        return labels[label], text

    train, test = (_read(location / file, parse, "__label__1 to 5, a tab and a sentence") for file in SST5)
    return _corpus(train, test, _SENTIMENTS)


def read_trec(location: Path, fine: bool) -> Corpus:
    """Read TREC: 5452 training and 500 test questions of 6 classes, or of 50 where ``fine``; classes by alphabet."""

    def parse(line: str) -> _Example:
        label, text = line.split(" ", 1)
        coarse, _ = label.split(":")
        return label if fine else coarse, text

    train, test = (_read(location / file, parse, "COARSE:fine, a space and a question", "latin-1") for file in TREC)
    return _corpus(train, test, sorted({label for label, _ in train}))


def read_tsv(location: None, path: str = "", test_path: str = "", test_fraction: float = 0.0) -> Corpus:
    """Read your own lines ``label<TAB>text``; the test split is another file, or a stratified share (a fifth) of it.

    Classes are the labels of ``path``, by number if they are numbers, else by alphabet. Warns of what looks
    like a header. Raises UserError that names the line for a missing tab, an empty text, what is not UTF-8, a test
    label that no training line has.
    """
    if not path:
        raise UserError("data set 'tsv' needs path= a text file with lines label<TAB>text")
    if test_path and test_fraction:
        raise UserError(f"test_path and test_fraction={test_fraction} exclude each other: give one of them")
    read = partial(_read, parse=_parse_tsv, rule="a label, a tab and a text")
    train = read(local_path(path))
    _doubt_header(train, path)
    classes = sorted({label for label, _ in train}, key=_by_number)
    if test_path:
        return _corpus(train, read(local_path(test_path)), classes)
    labels = np.array([classes.index(label) for label, _ in train])
    kept, held_out = stratified_split(labels, test_fraction or HELD_OUT)
    return _corpus([train[row] for row in kept], [train[row] for row in held_out], classes)


def _doubt_header(examples: Sequence[_Example], path: str) -> None:
    """Warn of a first line whose label no other line has, where labels come again."""
    counts = Counter(label for label, _ in examples)
    label = examples[0][0]
    if counts[label] == 1 < max(counts.values()):
        told = f"{path}, line 1 looks like a header, no other line has the label {label!r}: remove it if it is one"
        warnings.warn(told, stacklevel=2)


def _by_number(label: str) -> tuple[int, int, str]:
    number = label.isdecimal() and len(label) <= 640  # `int` may refuse more digits
    return (0, int(label), label) if number else (1, 0, label)


def _parse_tsv(line: str) -> _Example:
    label, text = line.split("\t", 1)
    return label.strip(), text


def _read(path: Path, parse: Callable[[str], _Example], rule: str, fallback: str = "utf-8") -> list[_Example]:
    """Return the (label, text) of every line of a file; raises UserError that names the first line that breaks a rule.

    A line that is not UTF-8 is read in encoding ``fallback``.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path") from None
    return [_example(f"{path}, line {row}", line, parse, rule, fallback) for row, line in enumerate(lines, 1)]


def _example(where: str, line: bytes, parse: Callable[[str], _Example], rule: str, fallback: str) -> _Example:
    try:
        text = _decoded(line, fallback).removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not UTF-8 ({error.reason} at byte {error.start}): save the file as UTF-8"
        ) from None
    try:
        label, words = parse(text)
    except (ValueError, KeyError):
        raise UserError(f"{where} must be {rule}, got {text[:60]!r}: mend or remove it") from None
    if not label or not words.strip():
        raise UserError(f"{where} must be {rule}, but its {'text' if label else 'label'} is empty: mend or remove it")
    return label, words


def _decoded(line: bytes, fallback: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode(fallback)


def _corpus(train: Sequence[_Example], test: Sequence[_Example], class_names: Sequence[str]) -> Corpus:
    number_of = {name: number for number, name in enumerate(class_names)}
    for label, text in test:
        if label not in number_of:
            raise UserError(f"test label {label!r} (of {text[:40]!r}) has no training example: add some or mend it")
    parts = []
    for examples in (train, test):
        labels = np.array([number_of[label] for label, _ in examples], np.int32)
        parts += [[text for _, text in examples], labels]
    return Corpus(*parts, class_names=tuple(class_names))
