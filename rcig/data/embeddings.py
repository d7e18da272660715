"""Word vectors: read from a GloVe text file, or trained on the train split where there is none.

    table, told = trained(sentences, num_words, dim, cache_dir)      # (V, dim) float32, and what the card says of it
    table, told = from_file(Path("glove.6B.100d.txt"), words, dim=0)
    to_file(Path("imdb.txt"), words, table)                          # for a smaller set of texts to start from

Training factorises positive pointwise mutual information (Levy & Goldberg 2014, "Neural word embedding as implicit
matrix factorization", eq. 10), M_ij = max(0, log(n_ij n / (n_i n_j))), where n_ij counts how often words i and j stand
at most five tokens apart: the vectors are M's leading factors U sqrt(S), each word's scaled to GloVe's size.
No gradient step, no random start that matters: the same texts give the same vectors on every machine, to rounding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from rcig import files
from rcig.data import cache
from rcig.errors import UserError

WINDOW = 5  # tokens on either side
SCALE = 0.4  # root mean square of a word's coordinates, about that of GloVe's 100-dimensional vectors
UNKNOWN = 0  # the number of <unk>

_ITERATIONS = 4  # power iterations of the randomised decomposition
_CHUNK = 1 << 22  # pairs counted at a time


def trained(sentences: Sequence[np.ndarray], num_words: int, dim: int, cache_dir: Path) -> tuple[np.ndarray, dict]:
    """Return vectors (V, dim) float32 learned from sentences of word numbers, and how they were made.

    Zero for words that have no neighbour, and in the last coordinates where there are fewer words than dimensions.
    Cost: 15 s on two busy cores and 0.7 GB for IMDB's 25,000 reviews and 10,000 words, 40 s and 0.9 GB for 30,000;
    then from the cache.
    """
    tokens = np.concatenate([*sentences, np.zeros(0, np.int32)])
    lengths = np.array([len(sentence) for sentence in sentences])
    recipe = {
        "embeddings": "PPMI and SVD of the train split",
        "window": WINDOW,
        "scale": SCALE,
        "iterations": _ITERATIONS,
        "random_state": 0,
    }
    digest = cache.digest(tokens, lengths, num_words, dim, sorted(recipe.items()))

    def build() -> cache.Arrays:
        counts = cooccurrence(tokens, np.repeat(np.arange(len(lengths)), lengths), num_words)
        return {"table": factorised(ppmi(counts), dim)}

    return np.array(cache.remember(cache_dir, digest, build)["table"]), recipe | {"digest": digest}


def cooccurrence(tokens: np.ndarray, sentence: np.ndarray, num_words: int, window: int = WINDOW) -> sparse.csr_matrix:
    """Return how often two words stand at most ``window`` tokens apart in one sentence: (V, V), symmetric.

    Args: tokens (T,) all sentences one after the other, ``sentence`` (T,) the number of each token's sentence.
    <unk> has no neighbours: it would be everyone's.
    """
    counts = sparse.csr_matrix((num_words, num_words))
    for distance in range(1, window + 1):
        for start in range(0, len(tokens) - distance, _CHUNK):
            left = slice(start, min(start + _CHUNK, len(tokens) - distance))
            right = slice(left.start + distance, left.stop + distance)
            a, b = tokens[left], tokens[right]
            near = (sentence[left] == sentence[right]) & (a != UNKNOWN) & (b != UNKNOWN)
            counts += sparse.csr_matrix((np.ones(near.sum()), (a[near], b[near])), counts.shape)
    return counts + counts.T


def ppmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return max(0, log(n_ij n / (n_i n_j))) of symmetric counts (V, V), float64; zero where a pair never occurs."""
    pairs, totals = counts.tocoo(), np.asarray(counts.sum(1)).ravel()
    information = np.log(pairs.data * totals.sum() / (totals[pairs.row] * totals[pairs.col]))
    positive = information > 0
    entries = (information[positive], (pairs.row[positive], pairs.col[positive]))
    return sparse.csr_matrix(entries, counts.shape)


def factorised(matrix: sparse.csr_matrix, dim: int) -> np.ndarray:
    """Return rows of U sqrt(S), the ``dim`` leading factors of a matrix U S V^T (V, V), each scaled to rms ``SCALE``.

    Float32 (V, dim). Mean vectors classify TREC, SST-5 and IMDB equally well with U, U sqrt(S) and U S, scaled or not.
    Raises UserError for a matrix of zeros, whose vectors would all be zero.
    """
    if not matrix.nnz:
        raise UserError("no two words of the train split stand together, so none has a vector; give data.embeddings")
    from sklearn.utils import extmath  # a second to import, wanted by a cold cache only

    svd: Any = extmath.randomized_svd  # whose inferred types are wrong
    rank = min(dim, matrix.shape[0])
    left, values, _ = svd(matrix, rank, n_iter=_ITERATIONS, random_state=0)  # (V, rank), (rank,)
    vectors = left * np.sqrt(values)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    kept = norms[:, 0] > 1e-6 * norms.max()  # the others are rounding errors, which must not be scaled up
    table = np.zeros((matrix.shape[0], dim), np.float32)
    table[kept, :rank] = vectors[kept] / norms[kept] * (SCALE * dim**0.5)
    return table


def from_file(path: Path, words: Sequence[str], dim: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the vectors (V, dim) of words in a GloVe text file (a word and its numbers a line), and what was read.

    Words that the file does not have are zeros. ``dim`` 0: what the file has. Raises UserError that names the line for
    another count of numbers, what is no number or not UTF-8. Cost: one pass over the file, 5 s on two busy cores for
    400,000 words of 100 numbers.
    """
    number_of = {word: row for row, word in enumerate(words)}
    found: dict[int, np.ndarray] = {}
    try:
        with path.open("rb") as file:
            for row, line in enumerate(file, 1):
                where = f"{path}, line {row}"
                word, *numbers = _fields(line, where)
                dim = dim or len(numbers)
                if (more := len(numbers) - dim) > 0 and not any(map(_is_number, numbers[:more])):  # a word with spaces
                    word, numbers = " ".join([word, *numbers[:more]]), numbers[more:]
                if len(numbers) != dim or not dim:
                    raise UserError(f"{where} has {len(numbers)} numbers, not {dim}: {_remedy(row)}")
                if word in number_of:
                    found[number_of[word]] = _vector(numbers, where)
    except OSError as error:
        raise UserError(
            f"embeddings {path} cannot be read ({error.strerror}): check the path, or name texts as in imdb+sst5"
        ) from None
    if not found:
        raise UserError(
            f"{path} has none of the {len(words)} words of the data set: use one of its language, lower case"
        )
    table = np.zeros((len(words), dim), np.float32)
    table[list(found)] = list(found.values())
    told = {"embeddings": path.name, "words_found": len(found), "digest": cache.digest(tuple(words), table)}
    return table, told


def to_file(path: Path, words: Sequence[str], table: np.ndarray) -> int:
    """Write vectors (V, dim) as a GloVe text file, which `from_file` reads; returns how many words have one."""
    known = np.flatnonzero(table.any(1)).tolist()
    lines = (f"{words[row]} {' '.join(f'{number:.6g}' for number in table[row])}\n" for row in known)
    files.write(path, "".join(lines).encode())
    return len(known)


def _is_number(text: str) -> bool:
    try:
        float(text)
        return True
    except ValueError:
        return False


def _fields(line: bytes, where: str) -> list[str]:
    try:
        return line.decode("utf-8").rstrip("\r\n ").split(" ")
    except UnicodeDecodeError:
        raise UserError(f"{where} is not UTF-8: give a GloVe text file, unpacked") from None


def _vector(numbers: list[str], where: str) -> np.ndarray:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError:
        raise UserError(
            f"{where} holds what is no number: give a GloVe text file, a word and its numbers a line"
        ) from None
    if not np.isfinite(vector).all():
        raise UserError(f"{where} holds NaN or Inf: remove that line")
    return vector


def _remedy(row: int) -> str:
    return "set embedding_dim to the file's" if row == 1 else "fetch the file again, or mend that line"
