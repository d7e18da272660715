"""Distilled sentences for the eye: the nearest words of every vector, under what each sentence says of the classes.

    write_sentences(workdir, synthetic, dataset.decode(synthetic.inputs), dataset.class_names, step=500)

The words are no English: a method moves vectors, not words, and only their neighbours can be read.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rcig.files import write
from rcig.types import Array, Synthetic

_TOP = 3  # classes named over a sentence
_PAD = "<pad>"


def write_sentences(
    workdir: Path, synthetic: Synthetic, words: np.ndarray, class_names: Sequence[str], step: int
) -> None:
    """Write ``sentences/distilled-<step>.txt`` and ``latest.txt``, as ``rcig.render`` does pictures. words (M, L)."""
    text = f"step {step}: {len(words)} sentences\n\n{blocks(words, synthetic.labels, class_names)}"
    folder = Path(workdir) / "sentences"
    for name in (f"distilled-{step}.txt", "latest.txt"):
        write(folder / name, text.encode())


def blocks(words: np.ndarray, labels: Array, class_names: Sequence[str]) -> str:
    """Return two lines and an empty one a sentence: its label's largest values, its words without <pad>.

    Args: words (M, L) text; labels (M, K), any real numbers; class_names of the K columns.
    """
    rows = zip(words, np.asarray(labels), strict=True)
    return "\n".join(_block(number, *row, class_names) for number, row in enumerate(rows, 1))


def largest(label: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Return the largest entries of a label (K,), at most three, as "name 2.5", the largest first."""
    top = np.argsort(-label, kind="stable")[:_TOP]
    return [f"{class_names[k]} {label[k]:.1f}" for k in top]


def _block(number: int, words: np.ndarray, label: np.ndarray, class_names: Sequence[str]) -> str:
    told = ", ".join(largest(label, class_names))
    return f"{number}. {told}\n{' '.join(word for word in words if word != _PAD)}\n"
