"""Memory addressing: every example is a mixture of a few shared bases (Deng & Russakovsky 2022).

    x_i = upsample(sum_j A_ij b_j),     bases b (J, H/s, W/s, C), coefficients A (M, J)

The memory of B images a class holds, beside J bases, r = (B H W C K - J H W C / s^2) / (K J) mixtures a class.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rcig.errors import UserError
from rcig.types import Key


class Addressed(NamedTuple):
    """A set in compressed form."""

    bases: jax.Array  # (J, h, w, C)
    coefficients: jax.Array  # (M, J)


def create(key: Key, shape: tuple[int, ...], num_bases: int, downsample: int) -> Addressed:
    """Draw bases and coefficients for a set of shape (M, H, W, C), Xavier-uniform over both matrices."""
    if len(shape) != 4 or downsample < 1 or shape[1] % downsample or shape[2] % downsample:
        raise UserError(f"method.downsample {downsample} must divide the sides of images {shape[1:]}; choose another")
    num_rows, height, width, channels = shape
    small = (num_bases, height // downsample, width // downsample, channels)
    size = small[1] * small[2] * small[3]
    key_bases, key_coefficients = jax.random.split(key)
    draw = lambda key, rows, columns: jax.random.uniform(
        key, (rows, columns), jnp.float32, -((6 / (rows + columns)) ** 0.5), (6 / (rows + columns)) ** 0.5
    )
    return Addressed(draw(key_bases, num_bases, size).reshape(small), draw(key_coefficients, num_rows, num_bases))


def images(addressed: Addressed, shape: tuple[int, ...]) -> jax.Array:
    """Return the set, (M, H, W, C): mixed small, then enlarged bilinearly."""
    mixed = jnp.einsum("mj,jhwc->mhwc", addressed.coefficients, addressed.bases)
    return jax.image.resize(mixed, shape, "bilinear")
