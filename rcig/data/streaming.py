"""Batches of sets that do not fit on the device: rows are read on the host by grain's threads, in the order asked for.

chunk = gather(dataset.train, rows)       # rows (K, B) -> inputs (K, B, H, W, C), labels (K, B)
"""

from typing import Any

import numpy as np

from rcig.types import Batch

_PIECE = 128  # rows that one thread reads at a time


class _Pieces:
    """Random access, as grain wants it, to the rows asked for, a piece at a time."""

    def __init__(self, inputs: Any, rows: np.ndarray):
        self._inputs, self._rows = inputs, rows

    def __len__(self) -> int:
        return -(-len(self._rows) // _PIECE)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self._inputs[self._rows[index * _PIECE : (index + 1) * _PIECE]])


def gather(source: Batch, rows: np.ndarray, num_threads: int = 16) -> Batch:
    """Return the host batches ``inputs[rows]`` (K, B, ...) and ``labels[rows]`` (K, B).

    Equal to NumPy's indexing for arrays and for array-likes that encode rows when they are taken. Cost: the memory of
    the result, and one copy of it. Raises ValueError for rows that are not integers (K, B) within the set.
    """
    import grain  # slow to import, and sets that fit the device never need it

    rows = np.asarray(rows)
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"rows must be integers of shape (K, B), got {rows.dtype} of shape {rows.shape}")
    if rows.size and (rows.min() < 0 or rows.max() >= len(source.labels)):
        raise ValueError(f"rows must lie in 0..{len(source.labels) - 1}, got {rows.min()}..{rows.max()}")
    flat = rows.reshape(-1)
    inputs = np.empty((rows.size, *source.inputs.shape[1:]), source.inputs.dtype)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    pieces = grain.MapDataset.source(_Pieces(source.inputs, flat)).to_iter_dataset(options)
    for number, piece in enumerate(pieces):
        inputs[number * _PIECE : (number + 1) * _PIECE] = piece
    return Batch(inputs.reshape(*rows.shape, *inputs.shape[1:]), np.asarray(source.labels)[rows])
