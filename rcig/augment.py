"""Random changes of images, as pure functions ``(key, images (B,H,W,C)) -> images``.

    augment = find("flip_color_crop_rotate_translate_cutout")   # RCIG's and FRePo's family
    augment = find("dc:crop_scale_rotate")                      # DC's family
    augment = find("")                                          # nothing

An operation only fills in parts of a `Change`; one affine warp and a few masks then do the work for all operations,
so that drawing one of six for each image costs what one costs. To add a family: its operations, its ``nothing`` (the
identity) and a line in ``_FAMILIES``.

Images are in model-input space (whitened, where the data are), as in the references.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rcig.errors import unknown
from rcig.types import Key

Augmentation = Callable[[Key, jax.Array], jax.Array]


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
    hole: jax.Array | None = None  # (B, 3): see `cut`


Operation = Callable[[Key, jax.Array], Change]


def find(name: str) -> Augmentation:
    """Return the augmentation called ``name``: ``[family:]operation_operation...``, or "" or "none" for nothing.

    Each call draws one of the operations for each image, uniformly, and parameters for each image.
    Raises: UserError that lists the known families or operations.
    """
    if name in ("", "none"):
        return lambda key, images: images
    family, _, listed = name.rpartition(":")
    if family not in _FAMILIES:
        raise unknown("family of augmentations", family, _FAMILIES)
    operations, nothing = _FAMILIES[family]
    for operation in listed.split("_"):
        if operation not in operations:
            raise unknown("augmentation", operation, operations)
    return one_of([operations[operation] for operation in listed.split("_")], nothing)


def one_of(operations: Sequence[Operation], nothing: Callable[[jax.Array], Change]) -> Augmentation:
    """Return an augmentation that applies to each image one of the operations, drawn afresh.

    ``nothing(images)`` is the identity, with a value for every part that an operation may leave None.
    """

    def augment(key, images):
        key_choice, key_noise, *keys = jax.random.split(key, 2 + len(operations))
        choice = jax.random.randint(key_choice, (len(images),), 0, len(operations))  # (B,)
        drawn = [operation(k, images) for operation, k in zip(operations, keys, strict=True)]
        return apply(key_noise, images, _choose(choice, nothing(images), drawn))

    return augment


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


def _choose(choice, nothing, drawn):
    """Take from change ``choice[b]`` for image b; a part that no operation changes stays None."""

    def part(idle, *each):
        if all(one is None for one in each):
            return None
        each = [idle if one is None else one for one in each]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[choice, jnp.arange(len(choice))], *each)

    return Change(*(part(*parts) for parts in zip(nothing, *drawn, strict=True)))


# What can be done, given the parameters.


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
    """Set a square to 0. images (B,H,W,C); hole (B,3): first row, first column and side in pixels (side 0: none)."""
    top, left, side = hole[:, :1], hole[:, 1:2], hole[:, 2:]  # (B, 1) each
    rows, columns = jnp.arange(images.shape[1])[None], jnp.arange(images.shape[2])[None]
    in_rows = (rows >= top) & (rows < top + side)  # (B, H)
    in_columns = (columns >= left) & (columns < left + side)  # (B, W)
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


def _uniform(key, images, low, high, size=()):
    return jax.random.uniform(key, (len(images), *size), images.dtype, low, high)


def _size(images):
    return jnp.array([images.shape[1:3]], images.dtype)  # (1, 2)


def _warp(images, matrix=None, offset=None, fill=None):
    """A warp that is still where nothing is said."""
    if matrix is None:
        matrix = jnp.broadcast_to(jnp.eye(2, dtype=images.dtype), (len(images), 2, 2))
    if offset is None:
        offset = jnp.zeros((len(images), 2), images.dtype)
    return Warp(matrix, offset, fill)


def rotation(angle: jax.Array) -> jax.Array:
    """Return the matrices that turn images by ``angle`` (B,) radians, counter-clockwise as displayed. (B, 2, 2)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


# RCIG and FRePo: edges repeat.


def rcig_nothing(images: jax.Array) -> Change:
    """Return the identity of RCIG's family."""
    color = jnp.broadcast_to(jnp.array([[0, 1, 1]], images.dtype), (len(images), 3))
    return Change(_warp(images), color, hole=jnp.zeros((len(images), 3), images.dtype))


def _flip(key, images):
    """Mirror left and right, with probability 1/2."""
    sign = jnp.where(jax.random.bernoulli(key, 0.5, (len(images),)), -1, 1).astype(images.dtype)
    return Change(_warp(images, jax.vmap(jnp.diag)(jnp.stack([jnp.ones_like(sign), sign], 1))))


def _color(key, images):
    """Add U(-0.25, 0.25); both factors are log-uniform in [e^-0.25, e^0.25]."""
    shift, *scales = _uniform(key, images, -0.25, 0.25, (3,)).T
    return Change(color=jnp.stack([shift, *jnp.exp(jnp.stack(scales))], axis=1))


def _crop(key, images):
    """Show a window of log-uniform size in [0.8, 1.25] of the image's, moved by up to half the difference in size."""
    key_zoom, key_move = jax.random.split(key)
    zoom = jnp.exp(_uniform(key_zoom, images, math.log(0.8), math.log(1.25), (1,)))  # (B, 1)
    room = jnp.abs(zoom - 1) * _size(images) / 2
    offset = room * _uniform(key_move, images, -1, 1, (2,))
    return Change(_warp(images, zoom[..., None] * jnp.eye(2, dtype=images.dtype)[None], offset))


def _rotate(key, images):
    """Turn by U(-15, 15) degrees."""
    return Change(_warp(images, rotation(_uniform(key, images, -math.pi / 12, math.pi / 12))))


def _translate(key, images):
    """Move by U(-12.5 %, 12.5 %) of each side, in fractions of pixels."""
    return Change(_warp(images, offset=_size(images) * _uniform(key, images, -0.125, 0.125, (2,))))


def _cutout(key, images):
    """Cut a square, a quarter of the height in side, wholly inside the image (the reference's edge rule is unknown)."""
    side = images.shape[1] // 4
    room = jnp.array([images.shape[1:3]]) - side + 1  # (1, 2)
    corner = jax.random.randint(key, (len(images), 2), 0, room)
    return Change(hole=jnp.pad(corner, ((0, 0), (0, 1)), constant_values=side).astype(images.dtype))


# DC (Zhao et al. 2021): outside is the batch's mean colour, or 0. Scale and rotate are bilinear here, where the
# reference resizes by nearest neighbours and turns with cubic splines on the host.


def dc_nothing(images: jax.Array) -> Change:
    """Return the identity of DC's family."""
    return Change(_warp(images, fill=_mean(images)), noise=jnp.zeros(len(images), images.dtype))


def _mean(images):
    return jnp.broadcast_to(jnp.mean(images, axis=(0, 1, 2))[None], (len(images), images.shape[3]))


def _dc_crop(key, images):
    """Pad by 4 pixels of the mean and crop at offsets of 0 to 7: moves by -4 to 3 whole pixels."""
    offset = jax.random.randint(key, (len(images), 2), -4, 4).astype(images.dtype)
    return Change(_warp(images, offset=offset, fill=_mean(images)))


def _dc_scale(key, images):
    """Enlarge height and width by independent factors U(0.8, 1.2) about the centre, 0 outside."""
    matrix = jax.vmap(jnp.diag)(1 / _uniform(key, images, 0.8, 1.2, (2,)))
    return Change(_warp(images, matrix, fill=jnp.zeros_like(_mean(images))))


def _dc_rotate(key, images):
    """Turn by whole degrees from -45 to 44, the mean outside."""
    degrees = jax.random.randint(key, (len(images),), -45, 45).astype(images.dtype)
    return Change(_warp(images, rotation(degrees * (math.pi / 180)), fill=_mean(images)))


def _dc_noise(key, images):
    """Add 0.001 N(0, 1)."""
    return Change(noise=jnp.full(len(images), 0.001, images.dtype))


_RCIG = {"flip": _flip, "color": _color, "crop": _crop, "rotate": _rotate, "translate": _translate, "cutout": _cutout}
_DC = {"crop": _dc_crop, "scale": _dc_scale, "rotate": _dc_rotate, "noise": _dc_noise}
_FAMILIES: dict[str, tuple[dict[str, Operation], Callable[[jax.Array], Change]]] = {
    "": (_RCIG, rcig_nothing),
    "dc": (_DC, dc_nothing),
}
