"""Wide 3x3 convolutions with a quarter of the multiplications: Winograd's minimal filtering F(4x4, 3x3), for the CPU.

A tile of 4x4 outputs sees 6x6 inputs. With the matrices B, G, A of Lavin & Gray 2016 ("Fast Algorithms for
Convolutional Neural Networks", section 4), for channels c and o,

    y = A^T [sum_c (G k_co G^T) * (B^T x_c B)] A              of every tile
    k_co = G^T [sum_tiles (B^T x_c B) * (A y_o A^T)] G        the gradient of the kernel

where * is elementwise: 36 matrix products instead of 16 * 9 multiplications a tile. The transforms are sums, along one
axis and then the other, with a barrier between, without which XLA makes the first sums six times over. A few images are
taken at a time, so that their tiles stay in cache.

Rounding in float32: 1e-6 to 4e-6 of the outputs' standard deviation, ten times that of the plain sum.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rcig.chunks import map_rows, sum_rows
from rcig.models._banded import turned, turned_padding

_B = np.array(  # B^T
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])  # A^T

_TILE = 4  # outputs a side
_BLOCK = 128  # tiles at a time
_LARGE = 2**17  # inputs times outputs
_CHANNELS, _TILES = 32, 16  # fewer are not worth the transforms
_WASTE = 1.6  # outputs computed for each that is wanted, at most


def suits(kernel: tuple[int, ...], outputs: tuple[int, ...]) -> bool:
    """Return whether a kernel (h,w,C,O) and outputs (B,H',W',O) run faster so, and may: not at float32 precision."""
    height, width = _grid(outputs[1:3])
    enough = min(kernel[2:]) >= _CHANNELS and outputs[0] * height * width >= _TILES
    rounded = jax.config.jax_default_matmul_precision not in ("float32", "highest")
    return kernel[:2] == (3, 3) and rounded and enough and 16 * height * width <= _WASTE * outputs[1] * outputs[2]


def conv(x: jax.Array, k: jax.Array, *, padding) -> jax.Array:
    """Convolve at stride 1: x (B,H,W,C), k (3,3,C,O) -> (B,H',W',O)."""
    return _filtered(x, k, 1, padding)


def transposed(y: jax.Array, k: jax.Array, *, padding) -> jax.Array:
    """Return the gradient of the images: y (B,H',W',O), k (3,3,C,O) -> (B,H,W,C).

    To exchange the channels of a large kernel costs more than all the rest where images are few; where it is small,
    products with a kernel that is not exchanged cost more.
    """
    back = turned_padding(k.shape, padding)
    if k[0, 0].size < _LARGE:
        return conv(y, turned(k), padding=back)
    return _filtered(y, jnp.flip(k, (0, 1)), 2, back)


def _filtered(x: jax.Array, k: jax.Array, axis: int, padding) -> jax.Array:
    """Return the convolution of x (B,H,W,.) with k (3,3,.,.), of whose last two axes ``axis`` counts x's channels."""
    height, width = (side + sum(pads) - 2 for side, pads in zip(x.shape[1:3], padding, strict=True))
    grid = _grid((height, width))
    rows = _along(_G, [k[i] for i in range(3)])  # (6, 3, ., .)
    kernel = _along(_G, [rows[:, j] for j in range(3)]).reshape(36, *k.shape[2:])

    def block(x):
        products = lax.dot_general(_tiles_in(x, grid), kernel, (((2,), (axis,)), ((0,), (0,))))  # (36, tiles, .)
        return _tiles_out(products.reshape(6, 6, len(x), *grid, -1))

    return map_rows(block, _padded(x, padding, grid), _images(grid))[:, :height, :width]


def correlate(x: jax.Array, y: jax.Array, *, padding) -> jax.Array:
    """Return the gradient of the kernel: x (B,H,W,C), y (B,H',W',O) -> (3,3,C,O)."""
    grid = _grid(y.shape[1:3])
    y = jnp.pad(y, ((0, 0), *((0, _TILE * n - side) for n, side in zip(grid, y.shape[1:3], strict=True)), (0, 0)))

    def block(xy):
        return lax.dot_general(_tiles_in(xy[0], grid), _tiles_back(xy[1]), (((1,), (1,)), ((0,), (0,))))  # (36, C, O)

    total = sum_rows(block, (_padded(x, padding, grid), y), _images(grid))
    total = total.reshape(6, 6, *total.shape[1:])
    rows = _along(_G.T, [total[:, i] for i in range(6)])  # (3, 6, C, O)
    return _along(_G.T, [rows[:, j] for j in range(6)], 1)


def _grid(sides: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of tiles along both axes."""
    return -(-sides[0] // _TILE), -(-sides[1] // _TILE)


def _images(grid: tuple[int, int]) -> int:
    return max(1, _BLOCK // (grid[0] * grid[1]))


def _padded(x: jax.Array, padding, grid: tuple[int, int]) -> jax.Array:
    """Return x with its zeros, and as many more as whole tiles need: (B, 4 th + 2, 4 tw + 2, C)."""
    sides = zip(x.shape[1:3], padding, grid, strict=True)
    pads = [(before, _TILE * n + 2 - side - before, 0) for side, (before, _), n in sides]
    return lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *pads, (0, 0, 0)))  # which may be negative


def _tiles_in(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Return B^T x B of every tile, (B, 4 th + 2, 4 tw + 2, C) -> (36, B th tw, C)."""
    height, width = (_TILE * (n - 1) + 1 for n in grid)
    rows = _along(_B, [x[:, i : i + height : _TILE] for i in range(6)])  # (6, B, th, W, C)
    both = _along(_B, [rows[:, :, :, j : j + width : _TILE] for j in range(6)])  # (6, 6, B, th, tw, C)
    return both.reshape(36, -1, x.shape[-1])


def _tiles_back(y: jax.Array) -> jax.Array:
    """Return A y A^T of every tile, (B, 4 th, 4 tw, O) -> (36, B th tw, O)."""
    rows = _along(_A.T, [y[:, i::_TILE] for i in range(_TILE)])
    both = _along(_A.T, [rows[:, :, :, j::_TILE] for j in range(_TILE)])
    return both.reshape(36, -1, y.shape[-1])


def _tiles_out(products: jax.Array) -> jax.Array:
    """Return A^T m A of every tile m, (6, 6, B, th, tw, O) -> (B, 4 th, 4 tw, O)."""
    rows = _along(_A, [products[:, i] for i in range(6)], 3)  # (6, B, th, 4, tw, O)
    y = _along(_A, [rows[j] for j in range(6)], 4)  # (B, th, 4, tw, 4, O)
    return y.reshape(y.shape[0], _TILE * y.shape[1], -1, y.shape[-1])


def _along(matrix: np.ndarray, parts: list[jax.Array], axis: int = 0) -> jax.Array:
    """Return ``sum_j matrix[i, j] parts[j]`` for every i, stacked at ``axis``."""
    sums = [sum(float(factor) * part for factor, part in zip(row, parts, strict=True) if factor) for row in matrix]
    return lax.optimization_barrier(jnp.stack(sums, axis))
