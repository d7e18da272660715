"""The range and the steps of what a screen or a PNG file can show, in model-input space."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig.errors import UserError
from rcig.types import Array, Dataset


class Pixels(NamedTuple):
    """x = (pixel - mean) / std, channel by channel, pixel in [0, 1]."""

    mean: Array  # (C,)
    std: Array  # (C,)

    def clip(self, inputs: jax.Array) -> jax.Array:
        """Return inputs (..., C) kept within black and white."""
        mean, std = self._like(inputs)
        return jnp.clip(inputs, -mean / std, (1 - mean) / std)

    def rounded(self, inputs: jax.Array) -> jax.Array:
        """Return inputs (..., C) at the nearest of the 256 levels: 8 bits a channel keep them exactly."""
        mean, std = self._like(inputs)
        levels = jnp.round(jnp.clip(inputs * std + mean, 0, 1) * 255)
        return (levels / 255 - mean) / std

    def _like(self, inputs: jax.Array) -> list[jax.Array]:
        shape = (1,) * (inputs.ndim - 1) + (-1,)
        return [jnp.asarray(constant, inputs.dtype).reshape(shape) for constant in self]


def of(dataset: Dataset) -> Pixels:
    """Return a data set's pixels. Raises UserError for what is no square image, or is whitened."""
    told, shape = dataset.preprocessing, dataset.example_shape
    if not told.get("image", True):
        raise UserError(
            f"this method wants images, uint8 or in [0, 1]; {dataset.name} has other numbers: divide by 255"
        )
    if "zca" in told or not {"mean", "std"} <= set(told):
        raise UserError(
            f"this method wants images whose pixels have a range, {dataset.name} is in pixel space {told['kind']!r}; "
            "set --config.preprocessing=standard"
        )
    if len(shape) != 3 or shape[0] != shape[1]:
        raise UserError(f"this method wants square images (H, H, C), not examples {shape} of {dataset.name}")
    return Pixels(*(np.broadcast_to(np.asarray(told[name], np.float32), shape[-1:]) for name in ("mean", "std")))
