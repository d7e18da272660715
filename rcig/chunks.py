"""A function of many rows, a few rows at a time, on all devices of a step (see `sharding.spread`).

On a CPU a network is fastest when its activations stay in cache, 16 images or so at a time; on any device it bounds the
memory of a forward pass, and with ``remat`` that of a backward pass too.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from rcig import sharding
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
    num_rows, remat = sharding.count_rows(rows), bool(size)
    size = size or _size(num_rows)
    whole = num_rows // size
    if whole < 2:
        return fn(rows)
    if remat:
        fn = jax.checkpoint(fn, prevent_cse=False)
    results = jax.lax.map(fn, _chunks(rows, whole, size))  # (whole, size, ...)
    results = jax.tree.map(lambda a: a.swapaxes(0, 1).reshape(whole * size, *a.shape[2:]), results)
    if whole * size == num_rows:
        return results
    rest = fn(jax.tree.map(lambda a: a[whole * size :], rows))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, rest)


def spread_rows(fn: Callable[[PyTree, PyTree], PyTree], params: PyTree, rows: PyTree, size: int = 0) -> PyTree:
    """Return ``fn(params, rows)`` for an ``fn`` row-wise in rows, in chunks as in `map_rows`, on all devices of a step.

    Args: fn, which closes over nothing that is differentiated; params and rows, trees of arrays, rows (B, ...).
    """
    return sharding.spread(lambda params, rows: map_rows(partial(fn, params), rows, size))(params, rows)


def mean_rows(
    fn: Callable[[PyTree, PyTree], tuple[jax.Array, PyTree]], params: PyTree, rows: PyTree, size: int = 0
) -> tuple[jax.Array, PyTree]:
    """Return ``fn(params, rows)``, a loss and metrics that are means over rows, computed in chunks of ``size`` rows.

    The loss's gradient by ``params`` is taken along the way, so that no activation outlives its chunk: a fifth faster
    on a CPU than to differentiate `map_rows`, and without the second forward pass of explicit chunks. Differentiable
    once, in reverse, by ``params`` only.

    Args: fn, params, rows as said, rows a tree of arrays (B, ...); size as in `map_rows`.
    """

    def mean(fn, params, rows):
        num_rows = sharding.count_rows(rows)
        part = lambda chunk: jax.tree.map(lambda a: a * (sharding.count_rows(chunk) / num_rows), fn(params, chunk))
        return sum_rows(part, rows, size or _size(num_rows))

    def mean_of_all(fn, params, rows):
        return sharding.spread_mean(partial(mean, fn))(params, rows)

    value = jax.custom_vjp(partial(mean_of_all, fn))
    value.defvjp(
        partial(mean_of_all, jax.value_and_grad(fn, has_aux=True)),
        lambda grads, cotangent: (jax.tree.map(lambda g: cotangent[0] * g, grads), None),
    )
    return value(params, rows)


def sum_rows(fn: Callable[[PyTree], PyTree], rows: PyTree, size: int) -> PyTree:
    """Return ``fn(rows)`` for an ``fn`` that sums over rows, ``size`` of them at a time, as `map_rows` takes them."""
    num_rows = sharding.count_rows(rows)
    whole = num_rows // size
    if whole < 2:
        return fn(rows)
    chunks = _chunks(rows, whole, size)
    first, others = (jax.tree.map(lambda a, part=part: a[part], chunks) for part in (0, slice(1, None)))
    add = partial(jax.tree.map, jnp.add)
    total, _ = jax.lax.scan(lambda total, chunk: (add(total, fn(chunk)), None), fn(first), others)
    return add(total, fn(jax.tree.map(lambda a: a[whole * size :], rows))) if num_rows % size else total


def _size(num_rows: int) -> int:
    """Return how many rows at a time this platform wants."""
    return _CPU_ROWS if jax.default_backend() == "cpu" else num_rows


def _chunks(rows: PyTree, whole: int, size: int) -> PyTree:
    """Return the first ``whole * size`` rows as (whole, size, ...), every ``whole``-th row in one chunk."""
    return jax.tree.map(lambda a: a[: whole * size].reshape(size, whole, *a.shape[1:]).swapaxes(0, 1), rows)


def map_features(model: Model, variables: Variables, inputs: jax.Array, size: int = 0) -> jax.Array:
    """Return a network's features (B, D) of inputs (B, ...), in running-statistics mode; ``size`` as in `map_rows`."""
    return spread_rows(lambda variables, x: model.apply(variables, x, False, None)[0].features, variables, inputs, size)


def train_logits(model: Model, variables: Variables, inputs: jax.Array) -> tuple[jax.Array, Variables]:
    """Return a network's logits (B, K) in training mode, and its variables after; all rows at once.

    They are spread over devices, unless the network normalises over all of them.
    """

    def fn(variables, inputs):
        outputs, variables = model.apply(variables, inputs, True, None)
        return outputs.logits, variables

    if "batch_stats" in variables:
        return fn(variables, inputs)
    return sharding.spread(lambda *args: fn(*args)[0])(variables, inputs), variables
