"""Random views of images that can be written down: one record is a batch, and all that was done to it, in integers.

    spec = Labelling(epochs=300, batch_size=128)
    view = draw_view(key, inputs, rows, spec)           # what is to be done to the images ``rows`` (B,)
    x = apply_view(inputs, view, spec.mix)              # (B, H, W, C): what the teacher sees, and later the student

Shen and Xing 2022 (FKD) and Yin et al. 2023 (SRe2L) store views beside a teacher's logits; Xiao and He 2024 (LPLD)
prune them. Stored are parameters, not a seed: random bits change between versions of a library, parameters do not.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rcig.augment.crops import crop, draw_boxes
from rcig.errors import UserError, unknown
from rcig.types import Key

MIXES = ("none", "cutmix", "mixup", "cutout")
_MIXUP_ALPHA = 0.8


@dataclass(frozen=True)
class Labelling:
    """How a set is labelled: ``epochs`` passes in whole batches, every batch a record; a share is never made."""

    epochs: int = 300
    batch_size: int = 128
    mix: str = "cutmix"  # none, cutmix, mixup, cutout
    min_scale: float = 0.08  # the smallest crop, as a share of the image
    flip: bool = True
    pruning_ratio: float = 0.0  # the share of records that are left out from the start: random pruning is making fewer
    seed: int = 0

    def __post_init__(self):
        if self.mix not in MIXES:
            raise unknown("mix", self.mix, MIXES)
        if self.epochs < 1 or self.batch_size < 1:
            raise UserError(f"epochs {self.epochs} and batch_size {self.batch_size} of labels must be at least 1")
        if not 0 < self.min_scale <= 1:
            raise UserError(f"min_scale of crops must lie in (0, 1], not {self.min_scale}; take 0.08")
        kept(1, self.pruning_ratio)

    def batches(self, num_images: int) -> int:
        """Return the batches of a pass; images left over wait for another one. Raises UserError where there is none."""
        if num_images < self.batch_size:
            raise UserError(
                f"batch_size {self.batch_size} of labels must be at most the {num_images} images; choose a smaller one"
            )
        return num_images // self.batch_size

    def records(self, num_images: int) -> int:
        """Return how many records are made of so many images. Raises UserError where there is none."""
        total = self.epochs * self.batches(num_images)
        wanted = kept(total, self.pruning_ratio)
        if not wanted:
            raise UserError(f"pruning_ratio {self.pruning_ratio} leaves none of {total} records of labels; lower it")
        return wanted


class View(NamedTuple):
    """What one record does to its images; None where its mix wants none. With leading axes, many records."""

    image: jax.Array  # (B,) rows of the image set
    box: jax.Array  # (B, 4) top, left, height, width of each crop
    flip: jax.Array  # (B,) bool
    partner: jax.Array | None = None  # cutmix, mixup: (B,) the place in the batch of the image that is mixed in
    mix_box: jax.Array | None = None  # cutmix: (4,) what is pasted; cutout: (B, 4) what is painted over
    strength: jax.Array | None = None  # mixup: () float32, the first image's share
    fill: jax.Array | None = None  # cutout: (B, C) float32, the colour


def kept(total: int, ratio: float) -> int:
    """Return how many of ``total`` remain when a share is pruned: total - ceil(ratio * total), in exact arithmetic.

    The ratio is read as the decimal that it is written as. LPLD's floor((1 - ratio) * total) in floating point is one
    short at ratio 0.9 (2339 of 23,400, not 2340) and the same at its other ratios. Raises UserError outside [0, 1).
    """
    if not 0 <= ratio < 1:
        raise UserError(f"pruning ratio must lie in [0, 1), not {ratio}; 0 keeps everything, 0.975 one label in forty")
    return total - math.ceil(Fraction(str(ratio)) * total)


def draw_view(key: Key, inputs: jax.Array, image: jax.Array, spec: Labelling) -> View:
    """Draw a view of the images ``image`` (B,) of the set ``inputs`` (N, S, S, C): crop and flip each, mix the batch.

    cutmix: one box for the batch, sides S sqrt(1 - U(0, 1)) around a uniform centre, clipped, and one permutation.
    mixup: a share of Beta(0.8, 0.8) and one permutation. cutout: for each image a box of side S/2 around a uniform
    centre, clipped, in a colour uniform over the set's range of each channel.
    """
    key_box, key_flip, key_partner, key_mix, key_fill = jax.random.split(key, 5)
    count, side = len(image), inputs.shape[1]
    flip = jax.random.bernoulli(key_flip, 0.5, (count,)) & spec.flip
    view = View(image, draw_boxes(key_box, count, side, spec.min_scale), flip)
    if spec.mix in ("cutmix", "mixup"):
        view = view._replace(partner=jax.random.permutation(key_partner, count))
    if spec.mix == "cutmix":
        key_size, key_place = jax.random.split(key_mix)
        size = side * jnp.sqrt(1 - jax.random.uniform(key_size, (), jnp.float32))
        return view._replace(mix_box=_clipped(key_place, size.astype(jnp.int32) // 2, side, ()))
    if spec.mix == "mixup":
        return view._replace(strength=jax.random.beta(key_mix, _MIXUP_ALPHA, _MIXUP_ALPHA, (), jnp.float32))
    if spec.mix == "cutout":
        low, high = (bound(inputs, axis=(0, 1, 2)) for bound in (jnp.min, jnp.max))  # (C,)
        shares = jax.random.uniform(key_fill, (count, len(low)), jnp.float32)
        fill = low[None] + shares * (high - low)[None]
        return view._replace(mix_box=_clipped(key_mix, jnp.int32(side // 4), side, (count,)), fill=fill)
    return view


def apply_view(inputs: jax.Array, view: View, mix: str) -> jax.Array:
    """Return what a record shows: crop, flip, then mix. (N, S, S, C) and one record -> (B, S, S, C).

    The one function that labels and training share, so that a student sees what the teacher saw.
    """
    side = inputs.shape[1]
    x = crop(inputs[view.image], view.box, side)
    x = jnp.where(view.flip[:, None, None, None], x[:, :, ::-1], x)
    if mix == "cutmix":
        return jnp.where(_inside(view.mix_box[None], side), x[view.partner], x)
    if mix == "mixup":
        return view.strength * x + (1 - view.strength) * x[view.partner]
    if mix == "cutout":
        return jnp.where(_inside(view.mix_box, side), view.fill[:, None, None, :], x)
    return x


def _clipped(key: Key, half: jax.Array, side: int, shape: tuple[int, ...]) -> jax.Array:
    """Return boxes (*shape, 4) of ``half`` pixels to all sides of a uniform centre, as far as they lie inside."""
    centre = jax.random.randint(key, (*shape, 2), 0, side)
    start, stop = (jnp.clip(centre + sign * half, 0, side) for sign in (-1, 1))
    return jnp.concatenate([start, stop - start], axis=-1)


def _inside(boxes: jax.Array, side: int) -> jax.Array:
    """Return which pixels (B, side, side, 1) lie in each box (B, 4)."""
    boxes = boxes.astype(jnp.int32)[:, :, None]
    places = jnp.arange(side)[None]
    rows, columns = ((boxes[:, i] <= places) & (places < boxes[:, i] + boxes[:, i + 2]) for i in (0, 1))
    return (rows[:, :, None] & columns[:, None, :])[..., None]
