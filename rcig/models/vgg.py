"""VGG: 3x3 convolutions in five stages, each ended by 2x2 max pooling, and one dense layer.

Simonyan and Zisserman 2015 as DC has it for 32 pixels (Zhao et al. 2021, the published networks.py): a norm after every
convolution (instance norm, in VGG11BN batch norm), ReLU, no hidden dense layers. Kernels and biases are
U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default. At 32x32x3 and 10 classes: 9,231,114 parameters (VGG11), 512
features; the reference stops at 32 pixels, 64 have 2048 features.
"""

from collections.abc import Callable

from flax import linen as nn

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, check_images, first_padding, max_pool, norm_layer, outputs
from rcig.types import Model

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # of each stage
_WIDTHS = (1, 2, 4, 8, 8)


class VGG(nn.Module):
    num_classes: int
    width: int
    convolutions: tuple[int, ...]
    norm: Callable
    padding: object

    @nn.compact
    def __call__(self, x, train):
        inits, padding = layer_initializers("default"), self.padding
        for convolutions, times in zip(self.convolutions, _WIDTHS, strict=True):
            for _ in range(convolutions):
                x = Conv(times * self.width, padding=padding, **inits(9 * x.shape[-1]))(x)
                x, padding = nn.relu(self.norm(train)(x)), "SAME"
            x = max_pool(x, 2, 2)
        return outputs(x, self.num_classes, **inits(x[0].size))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int = 11,  # layers with weights, in the count of the paper: 11, 13, 16, 19
    width: int = 64,  # channels of the first stage
    norm: str = "instance",
    norm_momentum: float = 0.9,  # PyTorch's 0.1
) -> Model:
    """Make the network."""
    if depth not in _CONVOLUTIONS:
        raise UserError(f"model.depth of vgg must be one of {', '.join(map(str, _CONVOLUTIONS))}, not {depth}")
    check_images("vgg", example_shape, 32)
    norm_of = norm_layer(norm, norm_momentum)
    module = VGG(num_classes, width, _CONVOLUTIONS[depth], norm_of, first_padding(example_shape))
    return as_model(module, example_shape)
