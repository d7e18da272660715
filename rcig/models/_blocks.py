"""A few images at a time, so that what a convolution makes of them stays in cache; no derivative goes through here."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def map_blocks(fn: Callable[[jax.Array], jax.Array], x: jax.Array, size: int) -> jax.Array:
    """Return ``fn(x)``, (B, ...) -> (B, ...), of an ``fn`` that takes each of its rows by itself."""
    whole = len(x) // size
    if whole < 2:
        return fn(x)
    y = lax.map(fn, _split(x, whole, size))
    y = y.reshape(-1, *y.shape[2:])
    return y if len(y) == len(x) else jnp.concatenate([y, fn(x[whole * size :])])


def sum_blocks(fn: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], size: int) -> jax.Array:
    """Return ``fn(*arrays)`` of an ``fn`` that sums over the rows of arrays (B, ...)."""
    num_rows = len(arrays[0])
    whole = num_rows // size
    if whole < 2:
        return fn(*arrays)
    parts = [_split(a, whole, size) for a in arrays]
    first = fn(*(part[0] for part in parts))
    total, _ = lax.scan(lambda total, part: (total + fn(*part), None), first, tuple(part[1:] for part in parts))
    return total + fn(*(a[whole * size :] for a in arrays)) if num_rows % size else total


def _split(x: jax.Array, whole: int, size: int) -> jax.Array:
    return x[: whole * size].reshape(whole, size, *x.shape[1:])
