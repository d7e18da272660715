"""Convolutions of few channels as matrix products, for the CPU.

With 1-8 channels on one side and 6-32 on the other a convolution is too thin for the CPU's kernels. Here a strip of t
output columns is one vector, made from the strip of t + w - 1 input columns by a banded matrix,

    y[b, i, (j, o)] = sum_{h, (v, c)} x[b, i + h, (v, c)] T[(h, v, c), (j, o)],    T[h, v, c, j, o] = k[h, v - j, c, o],

with (t + w - 1) / w times the arithmetic, but at the speed of matrix products; t makes (j, o) as long as their inner
loop. T's transpose spreads y back over x, and the gradient of T, summed along the band, is that of k. A kernel with
more inputs than outputs is taken the other way round, so that the long side of the product is always the wide one.

Microseconds an image, forward / image's gradient / kernel's gradient, beside XLA's own kernels, in a loop on one core:

    5x5, 1 -> 6, 28 px (LeNet)      6 / 11 / 9      104 / 139 / 20
    5x5, 6 -> 16, 14 px (LeNet)     8 / 12 / 9       15 / 53 / 9
    3x3, 1 -> 16, 32 px             7 / 31 / 8      104 / 42 / 7
    3x3, 3 -> 32, 32 px            30 / 46 / 34      85 / 36 / 21
    3x3, 8 -> 8, 8 px             2.4 / 2.4 / 3.2   3.9 / 4.0 / 3.6
"""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from rcig.chunks import map_rows, sum_rows

_CHANNELS = 96  # inputs times outputs, at most
_TAPS = 9  # of the kernel, at least
_LONG = 24  # numbers of a strip's output, at least
_IMAGES = 16  # at a time


def suits(kernel: tuple[int, ...]) -> bool:
    """Return whether a kernel (h,w,C,O) runs faster as a banded matrix product."""
    height, width, inputs, outputs = kernel
    return height * width >= _TAPS and (inputs * outputs <= _CHANNELS or outputs == 1)


def conv(x: jax.Array, k: jax.Array, *, padding) -> jax.Array:
    """Convolve at stride 1: x (B,H,W,C), k (h,w,C,O) -> (B,H',W',O)."""
    if k.shape[2] > k.shape[3]:
        return transposed(x, turned(k), padding=turned_padding(k.shape, padding))
    return map_rows(lambda x: _gather(x, k), _padded(x, padding), _IMAGES)


def transposed(y: jax.Array, k: jax.Array, *, padding) -> jax.Array:
    """Return the gradient of the images: y (B,H',W',O), k (h,w,C,O) -> (B,H,W,C)."""
    if k.shape[2] > k.shape[3]:
        return conv(y, turned(k), padding=turned_padding(k.shape, padding))
    return map_rows(lambda y: _spread(y, k, padding), y, _IMAGES)


def correlate(x: jax.Array, y: jax.Array, *, padding) -> jax.Array:
    """Return the gradient of the kernel: x (B,H,W,C), y (B,H',W',O) -> (h,w,C,O)."""
    sides = zip(x.shape[1:3], y.shape[1:3], padding, strict=True)
    window = tuple(outer + sum(pads) - inner + 1 for outer, inner, pads in sides)
    if x.shape[3] > y.shape[3]:
        return turned(correlate(y, x, padding=turned_padding(window, padding)))

    def block(xy):
        strips, tile = _strips(xy[0], window, y.shape[3])  # (b, rows, n, h*v*C)
        gaps = strips.shape[2] * tile - xy[1].shape[2]
        wide = jnp.pad(xy[1], ((0, 0), (0, 0), (0, gaps), (0, 0))).reshape(-1, tile * y.shape[3])
        total = strips.reshape(len(wide), -1).T @ wide
        total = total.reshape(window[0], -1, x.shape[3], tile, y.shape[3])
        return sum(total[:, j : j + window[1], :, j] for j in range(tile))

    return sum_rows(block, (_padded(x, padding), y), _IMAGES)


def _gather(x: jax.Array, k: jax.Array) -> jax.Array:
    """Return the convolution of padded x (b,H,W,C), C <= O."""
    strips, tile = _strips(x, k.shape[:2], k.shape[3])
    y = strips @ _banded(k, tile).reshape(strips.shape[-1], -1)  # (b, rows, n, t*O)
    return y.reshape(*y.shape[:2], -1, k.shape[3])[:, :, : x.shape[2] - k.shape[1] + 1]


def _spread(y: jax.Array, k: jax.Array, padding) -> jax.Array:
    """Return x (b,H,W,C) of <x, x'> = <y, conv(x', k)>, C <= O."""
    h, w = k.shape[:2]
    rows, columns, wide = y.shape[1:]
    tile = _tile(wide)
    n = -(-columns // tile)
    y = jnp.pad(y, ((0, 0), (0, 0), (0, n * tile - columns), (0, 0))).reshape(len(y), rows, n, tile * wide)
    parts = (y @ _banded(k, tile).reshape(-1, tile * wide).T).reshape(*y.shape[:3], h, tile + w - 1, k.shape[2])
    none = ((0, 0), (0, 0))
    shifted = [jnp.pad(parts[:, :, :, i], ((0, 0), (i, h - 1 - i), (0, 0), *none)) for i in range(h)]
    strips = reduce(jnp.add, shifted)  # (b, H, n, v, C)
    x = reduce(jnp.add, [_padded(strips[:, :, i], ((0, 0), (i * tile, (n - 1 - i) * tile))) for i in range(n)])
    return _padded(x[:, :, : columns + w - 1], -np.array(padding))


def _strips(x: jax.Array, window: tuple[int, int], wide: int) -> tuple[jax.Array, int]:
    """Return what strips of outputs see of padded x (b,H,W,C), (b, rows, n, h*v*C), and a strip's columns."""
    h, w = window
    tile = _tile(wide)
    rows, columns = x.shape[1] - h + 1, x.shape[2] - w + 1
    n = -(-columns // tile)
    x = _stored(jnp.pad(x, ((0, 0), (0, 0), (0, n * tile - columns), (0, 0))))
    starts = range(0, n * tile, tile)
    strips = jnp.stack([x[:, :, j : j + tile + w - 1].reshape(*x.shape[:2], -1) for j in starts], 2)
    return jnp.concatenate([strips[:, i : i + rows] for i in range(h)], -1), tile


def _stored(x: jax.Array) -> jax.Array:
    """Return x as an array in memory, or XLA computes what x comes from, say a pooling, anew for every slice of it.

    An optimization barrier does not help: it is gone before XLA fuses. A call that must not be inlined stays.
    """
    with set_xla_metadata(inlineable="false"):
        return jax.jit(lambda x: x)(x)


def _tile(wide: int) -> int:
    """Return the columns of a strip."""
    return max(2, -(-_LONG // wide))


def _banded(k: jax.Array, tile: int) -> jax.Array:
    """Return T (h, t + w - 1, C, t, O)."""
    return jnp.stack([jnp.pad(k, ((0, 0), (j, tile - 1 - j), (0, 0), (0, 0))) for j in range(tile)], 3)


def turned(k: jax.Array) -> jax.Array:
    """Return the kernel of the transposed convolution."""
    return jnp.flip(k, (0, 1)).swapaxes(2, 3)


def turned_padding(window: tuple[int, ...], padding):
    """Return the transposed convolution's padding."""
    return tuple((side - 1 - before, side - 1 - after) for side, (before, after) in zip(window, padding, strict=False))


def _padded(x: jax.Array, padding) -> jax.Array:
    """Return images with zeros around, or with as much cut off where the padding is negative."""
    return lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *((*pads, 0) for pads in padding), (0, 0, 0)))
