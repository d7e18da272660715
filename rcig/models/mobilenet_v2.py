"""MobileNetV2 (Sandler et al. 2018) as torchvision has it: a student of the soft-label papers.

Inverted residuals with 3x3 kernels, ReLU6, batch norm, 1280 features by global pooling, dropout 0.2 before the head. At
224x224x3, 1000 classes: 3,504,872 parameters.

With ``stem`` small the first convolution and the stage after the first have stride 1, for images of 32 or 64 pixels.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._inverted_residual import blocks, channels_near, check_stem, convolution, inverted_residual
from rcig.models._layers import as_model, dropout, norm_layer, outputs
from rcig.types import Model

_STAGES = (  # expand, kernel size, channels, blocks, stride
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 3, 32, 3, 2),
    (6, 3, 64, 4, 2),
    (6, 3, 96, 3, 1),
    (6, 3, 160, 3, 2),
    (6, 3, 320, 1, 1),
)
_LAST = 1280  # channels, not fewer in narrow networks


class MobileNetV2(nn.Module):
    num_classes: int
    width: float
    stem: str
    norm: Callable
    dropout: float

    @nn.compact
    def __call__(self, x, train):
        norm = partial(self.norm, train)
        stride = 2 if self.stem == "large" else 1
        x = _relu6(norm()(convolution(x, channels_near(32 * self.width), 3, stride)))
        for channels, shape in blocks(_STAGES, self.stem):
            x = inverted_residual(x, channels_near(channels * self.width), norm, _relu6, **shape)
        x = _relu6(norm()(convolution(x, channels_near(_LAST * max(1.0, self.width)))))
        x = dropout(self, self.dropout, train)(x.mean((1, 2)))
        return outputs(x, self.num_classes, **layer_initializers("normal", 0.01)(x.shape[-1]))


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0, 6)


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
    check_stem("mobilenet_v2", example_shape, stem)
    if not width > 0:
        raise UserError(f"model.width of mobilenet_v2 must be positive, not {width}; 1 is the published one")
    return as_model(MobileNetV2(num_classes, width, stem, norm_layer(norm, norm_momentum), dropout), example_shape)
