"""RCIG's ConvNet: blocks of 3x3 convolution, norm, activation, 2x2 average pooling; the width doubles by block.

Loo et al. 2023 (and FRePo, Zhou et al. 2022). Standard parameterisation, LeCun-normal kernels, zero biases.
At 32x32x3 and 10 classes with the defaults: 1,560,842 parameters, 8192 features.
"""

from collections.abc import Callable

from flax import linen as nn

from rcig.models._layers import (
    Conv,
    activation_fn,
    as_model,
    average_pool,
    depth_for,
    first_padding,
    norm_layer,
    outputs,
)
from rcig.types import Model


class ConvNet(nn.Module):
    num_classes: int
    width: int
    depth: int
    activation: Callable
    norm: Callable
    padding: object

    @nn.compact
    def __call__(self, x, train):
        for block in range(self.depth):
            x = Conv(self.width * 2**block, padding=self.padding if block == 0 else "SAME")(x)
            x = average_pool(self.activation(self.norm(train)(x)))
        return outputs(x, self.num_classes)


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 128,
    depth: int = 0,  # blocks; 0 chooses by resolution
    activation: str = "relu",  # the paper distils 32-pixel sets with softplus, and always evaluates with relu
    beta: float = 60.0,  # sharpness of softplus
    norm: str = "none",
    norm_momentum: float = 0.1,  # the reference's, in Flax's sense
) -> Model:
    """Make the network: ``width * 2**block`` channels in block 0, 1, ..."""
    module = ConvNet(
        num_classes,
        width,
        depth_for(example_shape, depth),
        activation_fn(activation, beta),
        norm_layer(norm, norm_momentum),
        first_padding(example_shape),
    )
    return as_model(module, example_shape)
