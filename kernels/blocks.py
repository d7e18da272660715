"""A function of many rows, a block of rows at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any

BLOCK = 2**24  # numbers in a covariance of one block; in float32 64 MB


def map_rows(fn: Callable[[PyTree], PyTree], rows: PyTree, size: int) -> PyTree:
    """Return ``fn(rows)`` for a row-wise function of trees of (N, ...) arrays, ``size`` rows at a time.

    A block takes every n-th row, so that rows split over devices stay split in every block. The first rows, once more,
    fill up the last block.
    """
    num_rows = len(jax.tree.leaves(rows)[0])
    blocks = -(-num_rows // size)
    if blocks == 1:
        return fn(rows)
    fill = lambda a: jnp.concatenate([a, a[: blocks * size - num_rows]]) if blocks * size > num_rows else a
    split = lambda a: fill(a).reshape(size, blocks, *a.shape[1:]).swapaxes(0, 1)
    join = lambda a: a.swapaxes(0, 1).reshape(blocks * size, *a.shape[2:])[:num_rows]
    return jax.tree.map(join, jax.lax.map(fn, jax.tree.map(split, rows)))
