"""DC's four operations (Zhao et al. 2021): outside is the batch's mean colour, or 0.

Scale and rotate are bilinear here, where the reference resizes by nearest neighbours and turns with cubic splines on
the host.
"""

import math

import jax
import jax.numpy as jnp

from rcig.augment.change import Change, between, diagonal, displacement, rotation, whole


def nothing(images: jax.Array) -> Change:
    """Return the identity of DC's family."""
    return Change(displacement(images, fill=_mean(images)), noise=jnp.zeros(len(images), images.dtype))


def _mean(images):
    return jnp.broadcast_to(jnp.mean(images, axis=(0, 1, 2))[None], (len(images), images.shape[3]))


def crop(draws: jax.Array, images: jax.Array) -> Change:
    """Pad by 4 pixels of the mean and crop at offsets of 0 to 7: moves by -4 to 3 whole pixels."""
    return Change(displacement(images, offset=whole(draws[:, :2], -4, 8), fill=_mean(images)))


def scale(draws: jax.Array, images: jax.Array) -> Change:
    """Enlarge height and width by independent factors U(0.8, 1.2) about the centre, 0 outside."""
    matrix = diagonal(1 / between(draws[:, :2], 0.8, 1.2))
    return Change(displacement(images, matrix, fill=jnp.zeros_like(_mean(images))))


def rotate(draws: jax.Array, images: jax.Array) -> Change:
    """Turn by whole degrees from -45 to 44, the mean outside."""
    degrees = whole(draws[:, 0], -45, 90)
    return Change(displacement(images, rotation(degrees * (math.pi / 180)), fill=_mean(images)))


def noise(draws: jax.Array, images: jax.Array) -> Change:
    """Add 0.001 N(0, 1)."""
    return Change(noise=jnp.full(len(draws), 0.001, images.dtype))


OPERATIONS = {"crop": crop, "scale": scale, "rotate": rotate, "noise": noise}
