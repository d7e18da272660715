"""A function of many rows, a few rows at a time.

On a CPU a network is fastest when its activations stay in cache, 16 images or so at a time; on any device it bounds the
memory of a forward pass, and with ``remat`` that of a backward pass too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rcig.types import Model, PyTree, Variables

_CPU_ROWS = 16


def map_rows(fn: Callable[[PyTree], PyTree], rows: PyTree, size: int = 0) -> PyTree:
    """Return ``fn(rows)`` for a row-wise ``fn``, computed in chunks of ``size`` rows; exact, also for gradients.

    A chunk takes every (B / size)-th row, so that rows split over devices stay split in every chunk.

    Args:
      fn: maps a tree of (b, ...) arrays to a tree of (b, ...) arrays, each row by itself.
      rows: tree of arrays (B, ...).
      size: rows at a time; 0 chooses by platform: 16 on a CPU, else all. Chunks of an explicit size are
        rematerialised: a backward pass holds one chunk's activations and costs one more forward pass.
    """
    num_rows = len(jax.tree.leaves(rows)[0])
    if size:
        fn = jax.checkpoint(fn, prevent_cse=False)
    size = size or (_CPU_ROWS if jax.default_backend() == "cpu" else num_rows)
    whole = num_rows // size
    if whole < 2:
        return fn(rows)
    results = jax.lax.map(fn, _chunks(rows, whole, size))  # (whole, size, ...)
    results = jax.tree.map(lambda a: a.swapaxes(0, 1).reshape(whole * size, *a.shape[2:]), results)
    if whole * size == num_rows:
        return results
    rest = fn(jax.tree.map(lambda a: a[whole * size :], rows))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, rest)


def sum_rows(fn: Callable[[PyTree], jax.Array], rows: PyTree, size: int) -> jax.Array:
    """Return ``fn(rows)`` for an ``fn`` that sums over rows, ``size`` of them at a time, as `map_rows` takes them."""
    num_rows = len(jax.tree.leaves(rows)[0])
    whole = num_rows // size
    if whole < 2:
        return fn(rows)
    chunks = _chunks(rows, whole, size)
    first, others = (jax.tree.map(lambda a, part=part: a[part], chunks) for part in (0, slice(1, None)))
    total, _ = jax.lax.scan(lambda total, chunk: (total + fn(chunk), None), fn(first), others)
    return total + fn(jax.tree.map(lambda a: a[whole * size :], rows)) if num_rows % size else total


def _chunks(rows: PyTree, whole: int, size: int) -> PyTree:
    """Return the first ``whole * size`` rows as (whole, size, ...), every ``whole``-th row in one chunk."""
    return jax.tree.map(lambda a: a[: whole * size].reshape(size, whole, *a.shape[1:]).swapaxes(0, 1), rows)


def map_features(model: Model, variables: Variables, inputs: jax.Array, size: int = 0) -> jax.Array:
    """Return a network's features (B, D) of inputs (B, ...), in running-statistics mode; ``size`` as in `map_rows`."""
    return map_rows(lambda x: model.apply(variables, x, False, None)[0].features, inputs, size)
