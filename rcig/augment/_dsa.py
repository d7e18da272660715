"""DSA's six operations (Zhao & Bilen 2021, "Dataset Condensation with Differentiable Siamese Augmentation").

Outside the image is 0, the mean colour of standardised images. Positions are the reference's with corners aligned: the
corner pixels' centres map to -1 and 1. Lengths are shares of the side: moves 1/8, holes 1/2, rounded half up.
"""

import math

import jax
import jax.numpy as jnp

from rcig.augment.change import Change, between, diagonal, displacement, hole_at, rotation, size, whole


def nothing(images: jax.Array) -> Change:
    """Return the identity of DSA's family."""
    idle = jnp.broadcast_to(jnp.array([[0, 1, 1]], images.dtype), (len(images), 3))
    return Change(_warp(images), idle, hole=jnp.zeros((len(images), 4), images.dtype))


def color(draws: jax.Array, images: jax.Array) -> Change:
    """Add U(-0.5, 0.5); contrast U(0.5, 1.5), saturation U(0, 2).

    The reference saturates before it changes the contrast: the same, for the two commute.
    """
    return Change(color=draws * jnp.array([[1, 1, 2]], images.dtype) + jnp.array([[-0.5, 0.5, 0]], images.dtype))


def crop(draws: jax.Array, images: jax.Array) -> Change:
    """Move by whole pixels, uniform in -p..p, where p is an eighth of the side."""
    reach = jnp.floor(0.125 * size(images) + 0.5)  # (1, 2)
    return Change(_warp(images, offset=whole(draws[:, :2], -reach, 2 * reach + 1)))


def cutout(draws: jax.Array, images: jax.Array) -> Change:
    """Cut half of each side about a centre anywhere in the image; what sticks out is not cut."""
    sides = jnp.floor(0.5 * size(images) + 0.5)  # (1, 2)
    centre = whole(draws[:, :2], 0, size(images) + 1 - sides % 2)  # (B, 2); an even side has a centre more
    return Change(hole=hole_at(centre - sides // 2, sides))


def flip(draws: jax.Array, images: jax.Array) -> Change:
    """Mirror left and right, with probability 1/2."""
    sign = jnp.where(draws[:, :1] < 0.5, -1, 1).astype(images.dtype)
    return Change(_warp(images, diagonal(jnp.concatenate([jnp.ones_like(sign), sign], axis=1))))


def scale(draws: jax.Array, images: jax.Array) -> Change:
    """Shrink height and width by independent factors U(1/1.2, 1.2) about the centre (below 1: enlarge)."""
    return Change(_warp(images, diagonal(between(draws[:, :2], 1 / 1.2, 1.2))))


def rotate(draws: jax.Array, images: jax.Array) -> Change:
    """Turn by U(-15, 15) degrees."""
    return Change(_warp(images, rotation(between(draws[:, 0], -math.pi / 12, math.pi / 12))))


def _warp(images, matrix=None, offset=None):
    return displacement(images, matrix, offset, fill=jnp.zeros((len(images), images.shape[3]), images.dtype))


OPERATIONS = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate}
