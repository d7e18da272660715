"""Text as networks see it: sentences of a fixed number of tokens, each token a vector. Networks never see words.

    rcig.data.load("trec6", data_dir=...).train.inputs            # Embedded: shape (5452, 30, 100), float32
    rcig.data.load("tsv", path="mine.tsv", length=40)             # your own lines: label<TAB>text

Lower-cased text is split at whitespace; the most frequent words of the train split are the vocabulary, the others are
<unk>; sentences are cut or padded at the end with <pad> to ``length``. A real sentence is stored as the numbers of its
words and becomes vectors when rows are taken; a synthetic one is any (L, E) array, read back as the nearest words.
Preprocessing of Sucholutsky & Schonlau 2019 (soft-label distillation), with classes in a fixed order of their own.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcig.data.corpora import Corpus
from rcig.data.embeddings import from_file, trained
from rcig.data.raw import Raw
from rcig.errors import UserError
from rcig.files import local_path
from rcig.types import Array

OPTIONS = ("vocabulary", "length", "embedding_dim", "embeddings")
SPECIALS = ("<unk>", "<pad>")
UNKNOWN, PAD = range(len(SPECIALS))

_DEFAULT_DIM = 100
_BLOCK = 256  # vectors decoded at a time
_BORROWED = 40_000  # words of other texts, the most frequent ones, that tell what one's own mean


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Embedded:
    """Sentences (N, L, E) float32 without their memory: ``inputs[rows]`` is ``table[tokens[rows]]``.

    A pytree, on the host or on the device, also inside jit; it cannot be split over devices, the rows taken can.
    """

    tokens: Array  # (N, L) int32
    table: Array  # (V, E) float32

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the embedded set, (N, L, E)."""
        return (*self.tokens.shape, self.table.shape[-1])

    @property
    def dtype(self) -> np.dtype:
        """Type of the vectors."""
        return self.table.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of tokens and table together."""
        return self.tokens.nbytes + self.table.nbytes

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Any) -> Array:
        """Return the vectors (..., L, E) of rows: an integer, a slice, a mask or an array of integers of any shape."""
        return self.table[self.tokens[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def as_leaves(inputs: Any) -> Any:
    """Return a split's inputs as a tree of host arrays from which rows can be taken: an array, or ``Embedded``."""
    return inputs if isinstance(inputs, Embedded) else np.asarray(inputs)


@dataclass(frozen=True, eq=False)
class Embedding:
    """What tokens mean: stands where sets of pixels have a ``Preprocessing``. Its kind is ``embedding``."""

    words: tuple[str, ...]  # (V,)
    table: np.ndarray  # (V, E) float32; zeros for <unk>, <pad> and words without a vector
    told: dict[str, Any]  # where the vectors come from, and all that is needed to make them again

    def encode(self, tokens: np.ndarray) -> Embedded:
        """Return sentences (N, L) of word numbers as model inputs."""
        return Embedded(tokens, self.table)

    def decode(self, inputs: np.ndarray) -> np.ndarray:
        """Return the nearest word (M, L), text, of every vector (M, L, E), by Euclidean distance.

        |v - x|^2 = |v|^2 - 2 v.x + |x|^2, the last the same for all words: one matrix product. Of equally near words
        the most frequent; <pad> stands for all zero vectors. Cost: M L V E multiplications, _BLOCK V floats.
        """
        vectors = np.asarray(inputs, np.float32)
        known = np.append(PAD, np.flatnonzero(self.table.any(1)))
        table = self.table[known]
        factors = np.vstack([-2 * table.T, np.sum(table**2, 1)])  # (E + 1, V): the product with (x, 1) is all
        flat = np.pad(vectors.reshape(-1, vectors.shape[-1]), ((0, 0), (0, 1)), constant_values=1)
        blocks = (flat[start : start + _BLOCK] for start in range(0, len(flat), _BLOCK))
        nearest = np.concatenate([np.argmin(block @ factors, 1) for block in blocks])
        return np.array([self.words[known[i]] for i in nearest]).reshape(vectors.shape[:-1])

    def describe(self) -> dict[str, Any]:
        """Return what is needed to redo this, JSON-able."""
        return {"kind": "embedding", "image": False} | self.told


def read(
    corpus: Callable[..., Corpus],
    location: Path | None,
    cache_dir: Path,
    vocabulary: int = 0,
    length: int = 30,
    embedding_dim: int = 0,
    embeddings: str = "",
    others: Sequence[str] = (),
    **options: Any,
) -> Raw:
    """Read a corpus as sentences (N, length) of word numbers, with the ``Embedding`` that says what these mean.

    Args:
      corpus: ``corpus(location, **options)`` reads the texts.
      vocabulary: number of words, <unk> and <pad> among them; 0: all words of the train split.
      embedding_dim: numbers a word; 0: as many as the file has, else 100.
      embeddings: a GloVe text file; empty: vectors are trained on the train split, see ``rcig.data.embeddings``.
      others: texts on which they are trained instead, those that ``embeddings`` names.
    Raises UserError for options out of range, and what the readers refuse. Cost: IMDB about 8 s on two busy cores, and
    12 s more the first time, when its vectors are trained.
    """
    _check(vocabulary, length, embedding_dim)
    texts = corpus(location, **options)
    words = most_frequent(texts.train_texts, vocabulary)
    train, test = (list(number(part, words)) for part in (texts.train_texts, texts.test_texts))
    dim = embedding_dim or _DEFAULT_DIM
    if others:
        table, told = _borrowed(others, words, dim, cache_dir)
        told |= {"embeddings": f"PPMI and SVD of the train splits of {embeddings}"}
    elif embeddings:
        table, told = from_file(local_path(embeddings), words, embedding_dim)
    else:
        table, told = trained(train, len(words), dim, cache_dir)
    table[: len(SPECIALS)] = 0  # whatever a file, or texts that hold these very words, say of them
    told |= {"vocabulary": len(words), "length": length, "dim": table.shape[1], "words": "lower case, by whitespace"}
    return Raw(
        padded(train, length),
        texts.train_labels,
        padded(test, length),
        texts.test_labels,
        np.array(texts.class_names),
        Embedding(words, table, told),
    )


def _borrowed(
    texts: Sequence[str], words: Sequence[str], dim: int, cache_dir: Path
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the vectors (V, dim) of words as other texts use them, zeros for what these do not have, and how made."""
    company = tuple(dict.fromkeys([*words, *most_frequent(texts, _BORROWED)]))
    table, told = trained(list(number(texts, company)), len(company), dim, cache_dir)
    return table[: len(words)], told


def tokenise(text: str) -> list[str]:
    """Return the words of a text: lower case, split at whitespace, punctuation left where it is."""
    return text.lower().split()


def most_frequent(texts: Sequence[str], size: int = 0) -> tuple[str, ...]:
    """Return <unk>, <pad> and the most frequent words of texts, ``size`` in all (0: all words); ties by alphabet."""
    counts = Counter(word for text in texts for word in tokenise(text))
    for special in SPECIALS:
        counts.pop(special, None)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return (*SPECIALS, *ranked[: size - len(SPECIALS) if size else None])


def number(texts: Sequence[str], words: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield every text as the numbers of its words, int32; a word outside the vocabulary is <unk>."""
    number_of = {word: row for row, word in enumerate(words)}
    for text in texts:
        yield np.array([number_of.get(word, UNKNOWN) for word in tokenise(text)], np.int32)


def padded(sentences: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return sentences (N, length) int32: the first ``length`` tokens of each, then <pad>."""
    rows = np.full((len(sentences), length), PAD, np.int32)
    for row, sentence in zip(rows, sentences, strict=True):
        row[: len(sentence)] = sentence[:length]
    return rows


def _check(vocabulary: int, length: int, embedding_dim: int) -> None:
    rules = (("vocabulary", vocabulary, len(SPECIALS) + 1), ("length", length, 1), ("embedding_dim", embedding_dim, 1))
    for name, value, least in rules:
        unset = value == 0 and name != "length"
        if not isinstance(value, int) or not (unset or value >= least):
            raise UserError(f"{name} must be a whole number of at least {least}, got {value!r}: use a larger one")
