"""Random crops brought back to a fixed size, with the box in the open: drawn by one function, applied by another.

    boxes = draw_boxes(key, num=len(images), side=32, min_scale=0.08)      # (B, 4) integers
    x = crop(images, boxes, side=32)                                        # (B, 32, 32, C), differentiable

Boxes are whole pixels, so that they can be stored exactly and applied again: `rcig.soft_labels` keeps them with the
teacher's logits, and whoever trains on these logits sees the very picture that the teacher saw.
"""

import jax
import jax.numpy as jnp
from jax import lax

from rcig.types import Key

_TRIES = 10


def draw_boxes(key: Key, num: int, side: int, min_scale: jax.Array | float, max_ratio: float = 4 / 3) -> jax.Array:
    """Draw boxes as the usual random resized crop does, independently for each of ``num`` square images.

    Up to ten tries: area = side^2 U(min_scale, 1); log(width / height) uniform in +- log(max_ratio); width and
    height rounded to whole pixels; the first pair that fits is placed uniformly. Else the whole image.

    Args: side of the images in pixels; min_scale, a share of their area in (0, 1], may be traced; max_ratio 1: squares.
    Returns: (num, 4) int32: top, left, height, width.
    """
    key_area, key_ratio, key_place = jax.random.split(key, 3)
    shares = jax.random.uniform(key_area, (num, _TRIES), jnp.float32)
    area = side**2 * (min_scale + (1.0 - min_scale) * shares)
    ratio = max_ratio ** jax.random.uniform(key_ratio, (num, _TRIES), jnp.float32, -1.0, 1.0)
    sizes = jnp.round(jnp.sqrt(jnp.stack([area / ratio, area * ratio], -1))).astype(jnp.int32)  # (num, tries, 2)
    fits = jnp.all((sizes > 0) & (sizes <= side), axis=-1)
    first = jnp.take_along_axis(sizes, jnp.argmax(fits, axis=1)[:, None, None], axis=1)[:, 0]
    size = jnp.where(jnp.any(fits, axis=1, keepdims=True), first, side)
    places = jax.random.uniform(key_place, (num, 2), jnp.float32)
    corner = jnp.minimum((places * (side - size + 1)).astype(jnp.int32), side - size)
    return jnp.concatenate([corner, size], axis=1)


def crop(images: jax.Array, boxes: jax.Array, side: int) -> jax.Array:
    """Cut a box out of each image and bring it to ``side`` pixels: crop, then resize, bilinear with half-pixel centres.

    x'[p, q] = sum_hw R[p, h] C[q, w] x[h, w], with two interpolation matrices an image whose weights stay inside the
    box. Where a box is larger than ``side`` they are as much wider, so that what is too fine to be shown is averaged.

    Args: images (B, H, W, C); boxes (B, 4) or, one for all, (4,): top, left, height, width.
    Returns: (B, side, side, C), linear in the images. Cost: 2 B side H (W + side) C multiply-adds for H = W, about.
    """
    boxes = jnp.broadcast_to(boxes, (len(images), 4))
    top, left, height, width = jnp.moveaxis(boxes, 1, 0)
    rows = _weights(top, height, side, images.shape[1]).astype(images.dtype)  # (B, side, H)
    columns = _weights(left, width, side, images.shape[2]).astype(images.dtype)  # (B, side, W)
    exact = lax.Precision.HIGHEST  # these are pixels: half a dozen bits of them would be lost to fast multiplication
    images = jnp.einsum("bph,bhwc->bpwc", rows, images, precision=exact)
    return jnp.einsum("bqw,bpwc->bpqc", columns, images, precision=exact)


def _weights(start: jax.Array, length: jax.Array, side: int, size: int) -> jax.Array:
    """Return (B, side, size): row p is a triangle at start + (p + 1/2) length / side - 1/2, cut by the box."""
    start, length = (a.astype(jnp.float32)[:, None, None] for a in (start, length))
    pixel = jnp.arange(size, dtype=jnp.float32)[None, None]
    row = jnp.arange(side, dtype=jnp.float32)[None, :, None]
    place = start + (row + 0.5) * length / side - 0.5  # (B, side, 1)
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(place - pixel) / jnp.maximum(1.0, length / side))
    weights *= (start <= pixel) & (pixel < start + length)
    return weights / jnp.sum(weights, -1, keepdims=True)
