"""AlexNet: five convolutions with max pooling, then three dense layers, for 224-pixel images.

Krizhevsky 2014 ("one weird trick"), the form that is commonly pre-trained; Wang et al. 2018 (dataset distillation)
adapt it without dropout. At 224x224x3 and 1000 classes: 61,100,840 parameters, 4096 features.
"""

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, dropout, max_pool, outputs
from rcig.models._strided import strided_conv2d
from rcig.types import Model


class AlexNet(nn.Module):
    num_classes: int
    dropout: float
    inits: Callable

    @nn.compact
    def __call__(self, x, train):
        drop = dropout(self, self.dropout, train)
        inits = self.inits(121 * x.shape[-1])
        x = Conv(64, (11, 11), ((2, 2), (2, 2)), convolve=partial(strided_conv2d, stride=4), **inits)(x)
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
