"""DC's ConvNet: blocks of 3x3 convolution, norm, activation, 2x2 pooling at constant width.

Zhao et al. 2021; the standard evaluation network of gradient and distribution matching. Kernels and biases are
U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default. At 32x32x3 and 10 classes: 320,010 parameters, 2048 features.
"""

from collections.abc import Callable

from flax import linen as nn

from rcig.models._initializers import layer_initializers
from rcig.models._layers import (
    Conv,
    activation_fn,
    as_model,
    depth_for,
    first_padding,
    norm_layer,
    outputs,
    pool_layer,
)
from rcig.types import Model


class ConvNet(nn.Module):
    num_classes: int
    width: int
    depth: int
    activation: Callable
    norm: Callable
    pool: Callable
    padding: object

    @nn.compact
    def __call__(self, x, train):
        inits = layer_initializers("default")
        for block in range(self.depth):
            padding = self.padding if block == 0 else "SAME"
            x = Conv(self.width, padding=padding, **inits(9 * x.shape[-1]))(x)
            x = self.pool(self.activation(self.norm(train)(x)))
        return outputs(x, self.num_classes, **inits(x[0].size))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 128,
    depth: int = 0,  # blocks; 0 chooses by resolution
    activation: str = "relu",
    beta: float = 60.0,  # sharpness of softplus
    norm: str = "instance",
    norm_momentum: float = 0.9,  # PyTorch's 0.1
    pooling: str = "average",  # average, max, none
) -> Model:
    """Make the network: ``width`` channels in every block."""
    module = ConvNet(
        num_classes,
        width,
        depth_for(example_shape, depth),
        activation_fn(activation, beta),
        norm_layer(norm, norm_momentum),
        pool_layer(pooling),
        first_padding(example_shape),
    )
    return as_model(module, example_shape)
