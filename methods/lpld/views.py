"""Random views of images that are being recovered: a crop brought back to full size, a flip, a roll.

A view is drawn afresh every step; in SRe2L, CDA and LPLD one view serves all images of a batch, by oversight or not.
CDA (Yin & Shen, TMLR 2024) starts with large crops: with progress u = t / T and milestone m, for u < m the smallest
crop's share of the area is

    cosine  s + (1 - s) (1 + cos(pi u / m)) / 2,     linear  s + (1 - s) (1 - u / m),     step  1

and s from then on; without a curriculum it is s throughout.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rcig.augment import crops
from rcig.errors import UserError, unknown
from rcig.types import Key

# share of the milestone in [0, 1) -> how much of the way from the smallest scale to 1
CURRICULA: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": jnp.zeros_like,
    "cosine": lambda share: (1 + jnp.cos(jnp.pi * share)) / 2,
    "linear": lambda share: 1 - share,
    "step": jnp.ones_like,
}


@dataclass(frozen=True)
class Views:
    """How views are drawn."""

    min_scale: float = 0.08  # of a crop: its share of the image's area
    curriculum: str = "none"
    milestone: float = 1.0  # the share of the steps that the curriculum lasts
    flip: bool = True  # half of the views are mirrored
    jitter: int = 32  # pixels: a view is rolled by -jitter_back to jitter on either axis, around the edge
    jitter_back: int = 0
    shared: bool = True  # one view for all images of a batch, else one an image

    def __post_init__(self):
        if self.curriculum not in CURRICULA:
            raise unknown("method.curriculum", self.curriculum, CURRICULA)
        for name in ("min_scale", "milestone"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"method.{name} must lie in (0, 1], not {getattr(self, name)}")

    def scale(self, progress: jax.Array) -> jax.Array:
        """Return the smallest crop's share of the area, at a share of all steps in [0, 1]."""
        lasts = progress < self.milestone
        share = jnp.where(lasts, progress / self.milestone, 1.0)
        return self.min_scale + (1 - self.min_scale) * jnp.where(lasts, CURRICULA[self.curriculum](share), 0.0)

    def apply(self, key: Key, images: jax.Array, progress: jax.Array) -> jax.Array:
        """Return views of images (n, H, H, C), in the order crop, flip, roll; differentiable in the images."""
        key_crop, key_flip, key_roll = jax.random.split(key, 3)
        num, side = 1 if self.shared else len(images), images.shape[1]
        boxes = crops.draw_boxes(key_crop, num, side, self.scale(progress))
        views = crops.crop(images, boxes, side)
        if self.flip:
            flipped = jax.random.bernoulli(key_flip, 0.5, (num, 1, 1, 1))
            views = jnp.where(flipped, views[:, :, ::-1], views)
        rolls = jax.random.randint(key_roll, (num, 2), -self.jitter_back, self.jitter + 1)
        rolls = jnp.broadcast_to(rolls, (len(views), 2))
        return jax.vmap(lambda view, roll: jnp.roll(view, roll, (0, 1)))(views, rolls)
