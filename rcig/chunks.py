"""A function of many rows, a few rows at a time, on all devices of a step (see `sharding.spread`).

On a CPU a network is fastest when its activations stay in cache, 16 images or so at a time; on any device it bounds the
memory of a forward pass, and with an explicit ``size`` that of a backward pass too.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from rcig import sharding
from rcig.types import Key, Model, PyTree, Variables

_CPU_ROWS = 16
_ROWS = 4096  # elsewhere: of 64 pixels and 128 channels 8 GiB a layer


def map_rows(fn: Callable[[PyTree], PyTree], rows: PyTree, size: int = 0) -> PyTree:
    """Return ``fn(rows)`` for a row-wise ``fn``, computed in chunks of ``size`` rows; exact, also for gradients.

    A chunk takes every (B / size)-th row, so that rows split over devices stay split in every chunk.

    Args:
      fn: maps a tree of (b, ...) arrays to a tree of (b, ...) arrays, each row by itself.
      rows: tree of arrays (B, ...).
      size: rows at a time; 0 chooses by platform: about 16 on a CPU, else 4,096. Chunks of an explicit size are
        rematerialised: a backward pass holds one chunk's activations and costs one more forward pass.
    """
    if 0 < size <= sharding.count_rows(rows) // 2:  # all at once, nothing is
        fn = jax.checkpoint(fn, prevent_cse=False)
    return _scan(lambda chunk: ((), fn(chunk)), rows, size)[1]


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
        return sum_rows(_share(partial(fn, params), rows), rows, size)

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
    return _scan(lambda chunk: (fn(chunk), ()), rows, size)[0]


def grad_rows(
    fn: Callable[[PyTree, PyTree, PyTree], jax.Array], params: PyTree, rows: PyTree, fixed: PyTree = (), size: int = 0
) -> tuple[PyTree, PyTree]:
    """Return the gradients of ``fn(params, rows, fixed)``, a mean over rows, by ``params`` and by ``rows``.

    They are taken chunk by chunk, as those of `mean_rows`, but can be differentiated again, in any way.

    Args: fn, params, rows as said; ``fixed``, a tree of (B, ...) arrays, goes with the rows; size as in `map_rows`.
    """
    gradients = lambda chunk: jax.grad(fn, (0, 1))(params, *chunk)
    return _scan(_share(gradients, rows), (rows, fixed), size)


def _share(fn: Callable[[PyTree], PyTree], rows: PyTree) -> Callable[[PyTree], PyTree]:
    """Return what a chunk adds to the mean over all ``rows``, where ``fn(chunk)`` is the mean over the chunk's."""
    num_rows = sharding.count_rows(rows)
    return lambda chunk: jax.tree.map(lambda a: a * (sharding.count_rows(chunk) / num_rows), fn(chunk))


def _scan(fn: Callable[[PyTree], tuple[PyTree, PyTree]], rows: PyTree, size: int) -> tuple[PyTree, PyTree]:
    """Return ``fn(rows)``, of which the first part is a sum over rows, the second row-wise, ``size`` rows at a time."""
    num_rows = sharding.count_rows(rows)
    size = size or _size(num_rows)
    whole = num_rows // size
    if whole < 2:
        return fn(rows)
    add, cut = partial(jax.tree.map, jnp.add), whole * size
    chunks = jax.tree.map(lambda a: a[:cut].reshape(size, whole, *a.shape[1:]).swapaxes(0, 1), rows)
    sums, _ = jax.eval_shape(fn, jax.tree.map(lambda a: a[0], chunks))

    def body(total, chunk):
        part, each = fn(chunk)
        return add(total, part), each

    total, each = jax.lax.scan(body, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), sums), chunks)
    each = jax.tree.map(lambda a: a.swapaxes(0, 1).reshape(cut, *a.shape[2:]), each)
    if cut == num_rows:
        return total, each
    last, rest = fn(jax.tree.map(lambda a: a[cut:], rows))
    return add(total, last), jax.tree.map(lambda a, b: jnp.concatenate([a, b]), each, rest)


def _size(num_rows: int) -> int:
    """Return how many rows at a time this platform wants."""
    if jax.default_backend() != "cpu":
        return min(num_rows, _ROWS)
    even = (size for size in range(_CPU_ROWS // 2, 3 * _CPU_ROWS // 2 + 1) if num_rows % size == 0)
    return min(even, key=lambda size: max(size / _CPU_ROWS, _CPU_ROWS / size), default=_CPU_ROWS)


def map_features(model: Model, variables: Variables, inputs: jax.Array, size: int = 0) -> jax.Array:
    """Return a network's features (B, D) of inputs (B, ...), in running-statistics mode; ``size`` as in `map_rows`."""
    return spread_rows(lambda variables, x: model.apply(variables, x, False, None)[0].features, variables, inputs, size)


def training_gradient(
    model: Model,
    loss: Callable[[jax.Array, PyTree], jax.Array],
    variables: Variables,
    inputs: jax.Array,
    targets: PyTree,
    key: Key | None = None,
) -> tuple[jax.Array, PyTree, Variables]:
    """Return a network's loss in training mode, the gradient of its parameters, and its variables after.

    In chunks and over devices as `mean_rows`, unless the network normalises over all rows.

    Args: loss, (logits (b, K), targets (b, ...)) -> (), a mean over rows; inputs (B, ...); key, for dropout, whose
    masks are drawn a chunk at a time: they are others where rows are cut otherwise, by platform and number of devices.
    """

    def fn(params, rows):
        inputs, targets, place = rows
        key_rows = None if key is None else jax.random.fold_in(key, place[0])
        outputs, after = model.apply({**variables, "params": params}, inputs, True, key_rows)
        return loss(outputs.logits, targets), after

    params, rows = variables["params"], (inputs, targets, jnp.arange(len(inputs)))
    if "batch_stats" in variables:
        (value, after), grads = jax.value_and_grad(fn, has_aux=True)(params, rows)
        return value, grads, after
    mean = lambda params: mean_rows(lambda *args: (fn(*args)[0], ()), params, rows)[0]
    return *jax.value_and_grad(mean)(params), variables
