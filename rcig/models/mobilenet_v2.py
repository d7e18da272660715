"""MobileNetV2 (Sandler et al. 2018) as torchvision has it: a student of the soft-label papers.

Inverted residuals: a 1x1 convolution to ``expand`` times the channels, a 3x3 one of each channel by itself, a 1x1 one
back, without activation; the input is added where shapes agree. Batch norm behind every convolution, ReLU6, 1280
features by global pooling, dropout 0.2 before the head. At 224x224x3, 1000 classes: 3,504,872 parameters.

With ``stem`` small the first convolution and the stage after the first have stride 1, for images of 32 or 64 pixels.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import UserError, unknown
from rcig.models._conv2d import conv2d
from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, check_images, dropout, norm_layer, outputs
from rcig.models._strided import strided_conv2d
from rcig.types import Model

_STAGES = (  # expand, channels, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_LAST = 1280  # channels, not fewer in narrow networks


class Depthwise(nn.Module):
    """A 3x3 convolution of each channel by itself, as nine products: every derivative stays fast inside a loop."""

    stride: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", _init()["kernel_init"], (3, 3, 1, x.shape[-1]), jnp.float32)
        height, width = (-(-side // self.stride) for side in x.shape[1:3])
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        rows = lambda i, size: slice(i, i + (size - 1) * self.stride + 1, self.stride)
        taps = ((i, j) for i in range(3) for j in range(3))
        return sum(x[:, rows(i, height), rows(j, width)] * kernel[i, j].reshape(1, 1, 1, -1) for i, j in taps)


class MobileNetV2(nn.Module):
    num_classes: int
    width: float
    stem: str
    norm: Callable
    dropout: float

    @nn.compact
    def __call__(self, x, train):
        norm = partial(self.norm, train)
        first, second = (2, 2) if self.stem == "large" else (1, 1)
        x = _relu6(norm()(_conv(x, _channels(32 * self.width), 3, first)))
        for number, (expand, channels, blocks, stride) in enumerate(_STAGES):
            stride = second if number == 1 else stride
            for block in range(blocks):
                x = _residual(norm, x, expand, _channels(channels * self.width), stride if block == 0 else 1)
        x = _relu6(norm()(_conv(x, _channels(_LAST * max(1.0, self.width)))))
        x = dropout(self, self.dropout, train)(x.mean((1, 2)))
        return outputs(x, self.num_classes, **layer_initializers("normal", 0.01)(x.shape[-1]))


def _residual(norm, x, expand, channels, stride):
    y = x if expand == 1 else _relu6(norm()(_conv(x, expand * x.shape[-1])))
    y = _relu6(norm()(Depthwise(stride)(y)))
    y = norm()(_conv(y, channels))
    return x + y if x.shape == y.shape else y


def _conv(x, features, size=1, stride=1):
    """Convolve without bias (call inside a compact module)."""
    pad, convolve = (size // 2, size // 2), conv2d if stride == 1 else partial(strided_conv2d, stride=stride)
    return Conv(features, (size, size), (pad, pad), convolve=convolve, use_bias=False, **_init())(x)


def _init() -> dict[str, Callable]:
    return layer_initializers("kaiming_out", 0.0)(0)


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0, 6)


def _channels(wanted: float) -> int:
    """Return the multiple of 8 nearest to what is wanted, at least 8, and not a tenth below."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: float = 1.0,  # times the channels
    stem: str = "small",  # or large, for 224 pixels
    norm: str = "batch",
    norm_momentum: float = 0.9,  # PyTorch's 0.1
    dropout: float = 0.2,
) -> Model:
    """Make the network."""
    if stem not in ("small", "large"):
        raise unknown("stem", stem, ("small", "large"))
    if not width > 0:
        raise UserError(f"model.width of mobilenet_v2 must be positive, not {width}; 1 is the published one")
    check_images("mobilenet_v2", example_shape, 32 if stem == "large" else 8)
    return as_model(MobileNetV2(num_classes, width, stem, norm_layer(norm, norm_momentum), dropout), example_shape)
