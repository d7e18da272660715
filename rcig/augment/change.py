"""What an operation may do to images: one affine warp, one recolouring, noise and a hole, each with its parameters.

An operation only fills in parts of a `Change`; `apply` then does the work for all operations, so that drawing one of
six for each image costs what one costs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rcig.types import Key

Bound = float | jax.Array


class Warp(NamedTuple):
    """Where each pixel of each of B images comes from: see `warp`."""

    matrix: jax.Array  # (B, 2, 2)
    offset: jax.Array  # (B, 2) pixels
    fill: jax.Array | None  # (B, C) value outside the image; None repeats the edge


class Change(NamedTuple):
    """What happens to each of B images. A part that is None happens to none of them, and costs nothing."""

    warp: Warp | None = None
    color: jax.Array | None = None  # (B, 3): see `recolor`
    noise: jax.Array | None = None  # (B,) standard deviation of added Gaussian noise
    hole: jax.Array | None = None  # (B, 4): see `cut`


Operation = Callable[[jax.Array, jax.Array], Change]  # (draws (B, 3) uniform in [0, 1), images) -> its own part


def apply(key: Key, images: jax.Array, change: Change) -> jax.Array:
    """Warp, recolour, add noise, cut, in this order. images (B,H,W,C) -> (B,H,W,C); the key is for the noise."""
    if change.warp is not None:
        images = warp(images, change.warp)
    if change.color is not None:
        images = recolor(images, change.color)
    if change.noise is not None:
        images = images + _per_image(change.noise) * jax.random.normal(key, images.shape, images.dtype)
    if change.hole is not None:
        images = cut(images, change.hole)
    return images


def warp(images: jax.Array, change: Warp) -> jax.Array:
    """Let each pixel p of the result be the image at matrix (p - centre) + centre + offset, bilinearly.

    Pixels are (row, column), their centre ((H-1)/2, (W-1)/2); whole-pixel sources are taken exactly.
    images (B,H,W,C) -> (B,H,W,C). Cost: four gathers.
    """
    batch, height, width, channels = images.shape
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2], images.dtype)
    pixels = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)
    targets = pixels.reshape(-1, 2).astype(images.dtype) - centre[None]  # (P, 2)
    turned = jnp.einsum("bij,pj->bpi", change.matrix, targets, precision=jax.lax.Precision.HIGHEST)
    sources = turned + change.offset[:, None] + centre[None, None]  # (B, P, 2)
    if change.fill is not None:  # framed with the fill, what lies outside is a repeated edge again
        images, sources = _framed(images, change.fill), sources + 1
    return _sample(images, sources).reshape(batch, height, width, channels)


def recolor(images: jax.Array, color: jax.Array) -> jax.Array:
    """Add a constant, then scale about each image's mean, then about each pixel's mean over channels.

    Args: images (B,H,W,C); color (B,3): the constant (brightness) and the two factors (contrast, saturation).
    """
    brightness, contrast, saturation = (_per_image(part) for part in color.T)
    images = images + brightness
    images = images + (contrast - 1) * (images - jnp.mean(images, axis=(1, 2, 3), keepdims=True))
    return images + (saturation - 1) * (images - jnp.mean(images, axis=3, keepdims=True))


def cut(images: jax.Array, hole: jax.Array) -> jax.Array:
    """Set a rectangle to 0. images (B,H,W,C); hole (B,4) pixels: first row and column, height and width (0: none)."""
    top, left, height, width = jnp.split(hole, 4, axis=1)  # (B, 1) each
    rows, columns = jnp.arange(images.shape[1])[None], jnp.arange(images.shape[2])[None]
    in_rows = (rows >= top) & (rows < top + height)  # (B, H)
    in_columns = (columns >= left) & (columns < left + width)  # (B, W)
    return jnp.where((in_rows[:, :, None] & in_columns[:, None, :])[..., None], 0, images)


def _sample(images, sources):
    """Bilinear with repeated edges. images (B,H,W,C), sources (B,P,2) -> (B,P,C)."""
    batch, height, width, channels = images.shape
    sources = jnp.clip(sources, 0, jnp.array([[[height - 1, width - 1]]], images.dtype))
    corner = jnp.floor(sources).astype(jnp.int32)
    row_weight, column_weight = jnp.split(sources - corner, 2, axis=-1)  # (B, P, 1)
    flat = images.reshape(batch, height * width, channels)

    def at(down, right):
        row, column = jnp.minimum(corner[..., 0] + down, height - 1), jnp.minimum(corner[..., 1] + right, width - 1)
        return jnp.take_along_axis(flat, (row * width + column)[..., None], axis=1, mode="clip")

    above = (1 - column_weight) * at(0, 0) + column_weight * at(0, 1)
    below = (1 - column_weight) * at(1, 0) + column_weight * at(1, 1)
    return (1 - row_weight) * above + row_weight * below


def _framed(images, fill):
    batch, height, width, channels = images.shape
    frame = jnp.broadcast_to(fill[:, None, None, :], (batch, height + 2, width + 2, channels))
    return frame.at[:, 1:-1, 1:-1].set(images)


def _per_image(values):
    return values[:, None, None, None]


# What operations are made of.


def rotation(angle: jax.Array) -> jax.Array:
    """Return the matrices that turn images by ``angle`` (B,) radians, counter-clockwise as displayed. (B, 2, 2)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


def between(draws: jax.Array, low: float, high: float) -> jax.Array:
    """Map draws in [0, 1) to [low, high)."""
    return low + (high - low) * draws


def whole(draws: jax.Array, low: Bound, count: Bound) -> jax.Array:
    """Map draws in [0, 1) to one of the ``count`` whole numbers from ``low`` on."""
    return low + jnp.floor(count * draws)


def size(images: jax.Array) -> jax.Array:
    """Return height and width, (1, 2)."""
    return jnp.array([images.shape[1:3]], images.dtype)


def hole_at(corner: jax.Array, sides: jax.Array) -> jax.Array:
    """Return holes at corners (B, 2), all of the height and width (1, 2); see `cut`."""
    return jnp.concatenate([corner, jnp.broadcast_to(sides, corner.shape)], axis=1)


def displacement(
    images: jax.Array,
    matrix: jax.Array | None = None,
    offset: jax.Array | None = None,
    fill: jax.Array | None = None,
) -> Warp:
    """Return the warp of these images with these parts, the identity where none is given."""
    if matrix is None:
        matrix = jnp.broadcast_to(jnp.eye(2, dtype=images.dtype), (len(images), 2, 2))
    if offset is None:
        offset = jnp.zeros((len(images), 2), images.dtype)
    return Warp(matrix, offset, fill)


def diagonal(scales: jax.Array) -> jax.Array:
    """Return diagonal matrices. (B, 2) -> (B, 2, 2)."""
    return scales[:, :, None] * jnp.eye(2, dtype=scales.dtype)[None]
