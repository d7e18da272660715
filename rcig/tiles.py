"""Multi-formation: a stored image holds f x f examples, each enlarged to its full size (IDC: Kim et al., ICML 2022).

    x_(i f^2 + a f + b) = upsample(tile (a, b) of s_i),    stored s (N, H, W, C), examples x (N f^2, H, W, C)

So the memory of n images a class trains networks on f^2 n examples a class.
"""

import jax
import jax.numpy as jnp

from rcig.errors import UserError


def check(shape: tuple[int, ...], num_classes: int, factor: int) -> None:
    """Raise UserError for examples (M, H, W, C) that do not make whole stored images, each of one class."""
    if factor == 1:
        return
    if len(shape) != 4 or shape[1] % factor or shape[2] % factor:
        raise UserError(f"method.formation {factor} must divide the sides of images {shape[1:]}; choose another")
    if shape[0] // num_classes % factor**2:
        raise UserError(
            f"method.formation {factor} stores {factor**2} examples in an image; "
            f"let ipc, which counts examples, be a multiple of that, not {shape[0] // num_classes}"
        )


def unfold(stored: jax.Array, factor: int) -> jax.Array:
    """Return the examples of stored images: their tiles, row by row, enlarged bilinearly.

    Sides that the factor does not divide are first continued with 0.5, the grey of pixels, below and on the right.
    """
    if factor == 1:
        return stored
    num_images, *sides, channels = stored.shape
    high, wide = (-(-side // factor) for side in sides)
    spare = [(0, 0), (0, factor * high - sides[0]), (0, factor * wide - sides[1]), (0, 0)]
    tiles = jnp.pad(stored, spare, constant_values=0.5).reshape(num_images, factor, high, factor, wide, channels)
    tiles = tiles.swapaxes(2, 3).reshape(-1, high, wide, channels)
    return jax.image.resize(tiles, (len(tiles), *sides, channels), "bilinear")


def fold(examples: jax.Array, factor: int) -> jax.Array:
    """Return images that store the examples, made small: where a run starts."""
    if factor == 1:
        return examples
    num_rows, height, width, channels = examples.shape
    small = jax.image.resize(examples, (num_rows, height // factor, width // factor, channels), "bilinear")
    tiles = small.reshape(-1, factor, factor, *small.shape[1:]).swapaxes(2, 3)
    return jnp.reshape(tiles, (-1, height, width, channels))
