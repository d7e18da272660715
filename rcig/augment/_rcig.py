"""RCIG's and FRePo's six operations: edges repeat."""

import math

import jax
import jax.numpy as jnp

from rcig.augment.change import Change, between, diagonal, displacement, hole_at, rotation, size, whole


def nothing(images: jax.Array) -> Change:
    """Return the identity of RCIG's family."""
    color = jnp.broadcast_to(jnp.array([[0, 1, 1]], images.dtype), (len(images), 3))
    return Change(displacement(images), color, hole=jnp.zeros((len(images), 4), images.dtype))


def flip(draws: jax.Array, images: jax.Array) -> Change:
    """Mirror left and right, with probability 1/2."""
    sign = jnp.where(draws[:, :1] < 0.5, -1, 1).astype(images.dtype)
    return Change(displacement(images, diagonal(jnp.concatenate([jnp.ones_like(sign), sign], axis=1))))


def color(draws: jax.Array, images: jax.Array) -> Change:
    """Add U(-0.25, 0.25); both factors are log-uniform in [e^-0.25, e^0.25]."""
    part = between(draws, -0.25, 0.25)
    return Change(color=jnp.concatenate([part[:, :1], jnp.exp(part[:, 1:])], axis=1))


def crop(draws: jax.Array, images: jax.Array) -> Change:
    """Show a window of log-uniform size in [0.8, 1.25] of the image's, moved by up to half the difference in size."""
    zoom = jnp.exp(between(draws[:, :1], math.log(0.8), math.log(1.25)))  # (B, 1)
    room = jnp.abs(zoom - 1) * size(images) / 2
    return Change(displacement(images, diagonal(jnp.tile(zoom, 2)), room * between(draws[:, 1:], -1, 1)))


def rotate(draws: jax.Array, images: jax.Array) -> Change:
    """Turn by U(-15, 15) degrees."""
    return Change(displacement(images, rotation(between(draws[:, 0], -math.pi / 12, math.pi / 12))))


def translate(draws: jax.Array, images: jax.Array) -> Change:
    """Move by U(-12.5 %, 12.5 %) of each side, in fractions of pixels."""
    return Change(displacement(images, offset=size(images) * between(draws[:, :2], -0.125, 0.125)))


def cutout(draws: jax.Array, images: jax.Array) -> Change:
    """Cut a quarter of each side, wholly inside the image (the reference's edge rule is unknown)."""
    sides = size(images) // 4  # (1, 2)
    return Change(hole=hole_at(whole(draws[:, :2], 0, size(images) - sides + 1), sides))


OPERATIONS = {"flip": flip, "color": color, "crop": crop, "rotate": rotate, "translate": translate, "cutout": cutout}
