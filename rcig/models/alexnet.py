"""AlexNet: five convolutions with max pooling, then three dense layers, for 224-pixel images.

Krizhevsky 2014 ("one weird trick"), the form that is commonly pre-trained; Wang et al. 2018 (dataset distillation)
adapt it without dropout. At 224x224x3 and 1000 classes: 61,100,840 parameters, 4096 features.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from rcig.errors import UserError
from rcig.models._conv2d import Padding, conv2d
from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, dropout, max_pool, outputs
from rcig.types import Model

_STRIDE = 4


def strided_conv2d(x: jax.Array, k: jax.Array, padding: Padding) -> jax.Array:
    """Convolve at stride 4: blocks of 4x4 pixels become channels of a convolution at stride 1.

    x (B,H,W,C), k (h,w,C,O) -> (B,H',W',O), H' = (H + top + bottom - h) // 4 + 1.
    """
    blocks = [-(-size // _STRIDE) for size in k.shape[:2]]  # of the kernel

    def pad(size, pads, kernel, blocks):  # to the whole blocks of pixels that are seen
        out = (size + sum(pads) - kernel) // _STRIDE + 1
        return pads[0], (out + blocks - 1) * _STRIDE - size - pads[0], 0

    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *map(pad, x.shape[1:3], padding, k.shape, blocks), (0, 0, 0)])
    k = jnp.pad(k, [*((0, n * _STRIDE - size) for n, size in zip(blocks, k.shape, strict=False)), (0, 0), (0, 0)])
    return conv2d(_blocks(x, 1), _blocks(k, 0), "VALID")


def _blocks(x: jax.Array, axis: int) -> jax.Array:
    """Turn blocks of 4x4 into channels. (..., H, W, C, ...) -> (..., H/4, W/4, 16*C, ...), H being ``axis``."""
    *first, height, width, channels = x.shape[: axis + 3]
    x = x.reshape(*first, height // _STRIDE, _STRIDE, width // _STRIDE, _STRIDE, channels, *x.shape[axis + 3 :])
    x = jnp.swapaxes(x, axis + 1, axis + 2)  # (..., H/4, W/4, 4, 4, C, ...)
    return x.reshape(*first, height // _STRIDE, width // _STRIDE, _STRIDE**2 * channels, *x.shape[axis + 5 :])


class AlexNet(nn.Module):
    num_classes: int
    dropout: float
    inits: Callable

    @nn.compact
    def __call__(self, x, train):
        drop = dropout(self, self.dropout, train)
        inits = self.inits(121 * x.shape[-1])
        x = Conv(64, (11, 11), ((2, 2), (2, 2)), convolve=strided_conv2d, **inits)(x)
        x = nn.relu(max_pool(x, 3, 2))  # (B, 27, 27, 64)
        x = Conv(192, (5, 5), **self.inits(25 * 64))(x)
        x = nn.relu(max_pool(x, 3, 2))  # (B, 13, 13, 192)
        for width in (384, 256):
            x = nn.relu(Conv(width, **self.inits(9 * x.shape[-1]))(x))
        x = Conv(256, **self.inits(9 * 256))(x)
        x = nn.relu(max_pool(x, 3, 2)).reshape(len(x), -1)  # (B, 9216)
        for _ in range(2):
            x = nn.relu(nn.Dense(4096, **self.inits(x.shape[-1]))(drop(x)))
        return outputs(x, self.num_classes, **self.inits(4096))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    dropout: float = 0.0,  # before the first two dense layers; 0.5 when trained from nothing
    init: str = "xavier",  # see rcig/models/_initializers.py
    init_param: float = 1.0,
) -> Model:
    """Make the network."""
    if len(example_shape) != 3 or tuple(example_shape[:2]) != (224, 224):
        raise UserError(f"alexnet wants images of 224 pixels, not examples {tuple(example_shape)}; choose alexcifarnet")
    return as_model(AlexNet(num_classes, dropout, layer_initializers(init, init_param)), example_shape)
