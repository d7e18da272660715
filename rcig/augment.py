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


Operation = Callable[[jax.Array, jax.Array], Change]  # (draws (B, 3) uniform in [0, 1), images) -> its own part


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
        key_draws, key_noise = jax.random.split(key)
        draws = jax.random.uniform(key_draws, (len(images), 4), images.dtype)
        choice = _whole(draws[:, 0], 0, len(operations)).astype(jnp.int32)  # (B,)
        drawn = [operation(draws[:, 1:], images) for operation in operations]
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


def _between(draws, low, high):
    """Map draws in [0, 1) to [low, high)."""
    return low + (high - low) * draws


def _whole(draws, low, count):
    """Map draws in [0, 1) to one of the ``count`` whole numbers from ``low`` on."""
    return low + jnp.floor(count * draws)


def _size(images):
    return jnp.array([images.shape[1:3]], images.dtype)  # (1, 2)


def _warp(images, matrix=None, offset=None, fill=None):
    """A warp that is still where nothing is said."""
    if matrix is None:
        matrix = jnp.broadcast_to(jnp.eye(2, dtype=images.dtype), (len(images), 2, 2))
    if offset is None:
        offset = jnp.zeros((len(images), 2), images.dtype)
    return Warp(matrix, offset, fill)


def _diagonal(scales):
    """(B, 2) -> (B, 2, 2)."""
    return scales[:, :, None] * jnp.eye(2, dtype=scales.dtype)[None]


def rotation(angle: jax.Array) -> jax.Array:
    """Return the matrices that turn images by ``angle`` (B,) radians, counter-clockwise as displayed. (B, 2, 2)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


# RCIG and FRePo: edges repeat.


def rcig_nothing(images: jax.Array) -> Change:
    """Return the identity of RCIG's family."""
    color = jnp.broadcast_to(jnp.array([[0, 1, 1]], images.dtype), (len(images), 3))
    return Change(_warp(images), color, hole=jnp.zeros((len(images), 3), images.dtype))


def _flip(draws, images):
    """Mirror left and right, with probability 1/2."""
    sign = jnp.where(draws[:, :1] < 0.5, -1, 1).astype(images.dtype)
    return Change(_warp(images, _diagonal(jnp.concatenate([jnp.ones_like(sign), sign], axis=1))))


def _color(draws, images):
    """Add U(-0.25, 0.25); both factors are log-uniform in [e^-0.25, e^0.25]."""
    part = _between(draws, -0.25, 0.25)
    return Change(color=jnp.concatenate([part[:, :1], jnp.exp(part[:, 1:])], axis=1))


def _crop(draws, images):
    """Show a window of log-uniform size in [0.8, 1.25] of the image's, moved by up to half the difference in size."""
    zoom = jnp.exp(_between(draws[:, :1], math.log(0.8), math.log(1.25)))  # (B, 1)
    room = jnp.abs(zoom - 1) * _size(images) / 2
    return Change(_warp(images, _diagonal(jnp.tile(zoom, 2)), room * _between(draws[:, 1:], -1, 1)))


def _rotate(draws, images):
    """Turn by U(-15, 15) degrees."""
    return Change(_warp(images, rotation(_between(draws[:, 0], -math.pi / 12, math.pi / 12))))


def _translate(draws, images):
    """Move by U(-12.5 %, 12.5 %) of each side, in fractions of pixels."""
    return Change(_warp(images, offset=_size(images) * _between(draws[:, :2], -0.125, 0.125)))


def _cutout(draws, images):
    """Cut a square, a quarter of the height in side, wholly inside the image (the reference's edge rule is unknown)."""
    side = images.shape[1] // 4
    corner = _whole(draws[:, :2], 0, _size(images) - side + 1)
    return Change(hole=jnp.pad(corner, ((0, 0), (0, 1)), constant_values=side))


# DC (Zhao et al. 2021): outside is the batch's mean colour, or 0. Scale and rotate are bilinear here, where the
# reference resizes by nearest neighbours and turns with cubic splines on the host.


def dc_nothing(images: jax.Array) -> Change:
    """Return the identity of DC's family."""
    return Change(_warp(images, fill=_mean(images)), noise=jnp.zeros(len(images), images.dtype))


def _mean(images):
    return jnp.broadcast_to(jnp.mean(images, axis=(0, 1, 2))[None], (len(images), images.shape[3]))


def _dc_crop(draws, images):
    """Pad by 4 pixels of the mean and crop at offsets of 0 to 7: moves by -4 to 3 whole pixels."""
    return Change(_warp(images, offset=_whole(draws[:, :2], -4, 8), fill=_mean(images)))


def _dc_scale(draws, images):
    """Enlarge height and width by independent factors U(0.8, 1.2) about the centre, 0 outside."""
    matrix = _diagonal(1 / _between(draws[:, :2], 0.8, 1.2))
    return Change(_warp(images, matrix, fill=jnp.zeros_like(_mean(images))))


def _dc_rotate(draws, images):
    """Turn by whole degrees from -45 to 44, the mean outside."""
    degrees = _whole(draws[:, 0], -45, 90)
    return Change(_warp(images, rotation(degrees * (math.pi / 180)), fill=_mean(images)))


def _dc_noise(draws, images):
    """Add 0.001 N(0, 1)."""
    return Change(noise=jnp.full(len(draws), 0.001, images.dtype))


_RCIG = {"flip": _flip, "color": _color, "crop": _crop, "rotate": _rotate, "translate": _translate, "cutout": _cutout}
_DC = {"crop": _dc_crop, "scale": _dc_scale, "rotate": _dc_rotate, "noise": _dc_noise}
_FAMILIES: dict[str, tuple[dict[str, Operation], Callable[[jax.Array], Change]]] = {
    "": (_RCIG, rcig_nothing),
    "dc": (_DC, dc_nothing),
}
