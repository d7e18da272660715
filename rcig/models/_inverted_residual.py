"""The inverted residual (Sandler et al. 2018), of which MobileNetV2 and EfficientNet are made, as torchvision has it.

A 1x1 convolution to ``expand`` times the channels, a convolution of each channel by itself, a 1x1 one back, without
activation; the input is added where shapes agree. A norm behind every convolution, none of which has a bias.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import unknown
from rcig.models._conv2d import conv2d
from rcig.models._initializers import kernel_initializer
from rcig.models._layers import Conv, check_images
from rcig.models._strided import strided_conv2d

INIT = kernel_initializer("kaiming_out", 0.0)


class Depthwise(nn.Module):
    """A convolution of each channel by itself, a product a tap: every derivative stays fast inside a loop."""

    size: int  # odd
    stride: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", INIT, (self.size, self.size, 1, x.shape[-1]), jnp.float32)
        height, width = (-(-side // self.stride) for side in x.shape[1:3])
        pad = (self.size // 2, self.size // 2)
        x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
        rows = lambda i, length: slice(i, i + (length - 1) * self.stride + 1, self.stride)
        taps = ((i, j) for i in range(self.size) for j in range(self.size))
        return sum(x[:, rows(i, height), rows(j, width)] * kernel[i, j].reshape(1, 1, 1, -1) for i, j in taps)


def inverted_residual(
    x: jax.Array,
    channels: int,
    norm: Callable[[], Callable],
    activation: Callable[[jax.Array], jax.Array],
    *,
    expand: int,
    size: int,
    stride: int,
    squeeze: Callable[[jax.Array], jax.Array] = lambda y: y,  # between the last two convolutions
    drop: Callable[[jax.Array], jax.Array] = lambda y: y,  # of what is added to the input
) -> jax.Array:
    """Apply one block (call inside a compact module). x (B,H,W,C) -> (B, ceil(H / stride), ..., channels)."""
    y = x if expand == 1 else activation(norm()(convolution(x, expand * x.shape[-1])))
    y = activation(norm()(Depthwise(size, stride)(y)))
    y = norm()(convolution(squeeze(y), channels))
    return x + drop(y) if x.shape == y.shape else y


def blocks(stages: Sequence[tuple[int, ...]], stem: str, depth: float = 1.0) -> list[tuple[int, dict[str, int]]]:
    """Return (channels, what `inverted_residual` is told) of every block of stages (expand, size, channels, n, stride).

    A stage has ceil(depth n) blocks, the first of them strided; with ``stem`` small the second stage is not.
    """
    made = []
    for number, (expand, size, channels, count, stride) in enumerate(stages):
        strides = [1 if stem == "small" and number == 1 else stride] + [1] * (ceil(depth * count) - 1)
        made += [(channels, {"expand": expand, "size": size, "stride": stride}) for stride in strides]
    return made


def check_stem(name: str, example_shape: tuple[int, ...], stem: str) -> None:
    """Raise UserError unless ``stem`` is known and images are large enough for it."""
    if stem not in ("small", "large"):
        raise unknown("stem", stem, ("small", "large"))
    check_images(name, example_shape, 32 if stem == "large" else 8)


def convolution(x: jax.Array, features: int, size: int = 1, stride: int = 1) -> jax.Array:
    """Convolve without bias (call inside a compact module)."""
    pad, convolve = (size // 2, size // 2), conv2d if stride == 1 else partial(strided_conv2d, stride=stride)
    options = {"convolve": convolve, "use_bias": False, "kernel_init": INIT}
    return Conv(features, (size, size), (pad, pad), **options)(x)


def channels_near(wanted: float) -> int:
    """Return the multiple of 8 nearest to what is wanted, at least 8, and not a tenth below."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
