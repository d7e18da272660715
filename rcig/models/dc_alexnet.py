"""DC's AlexNet: five convolutions and one dense layer, for images of 28, 32 or 64 pixels.

Zhao et al. 2021, the published networks.py: 5x5, 5x5 and three times 3x3, each followed by a norm (none, in AlexNetBN
batch norm) and ReLU, 2x2 max pooling after the first, second and last. Kernels and biases are
U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default. At 32x32x3 and 10 classes: 1,872,202 parameters (1,874,122 with a
norm), 3072 features. The reference stops at 32 pixels; 64 only widen the head.
"""

from collections.abc import Callable

from flax import linen as nn

from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, check_images, first_padding, max_pool, norm_layer, outputs
from rcig.types import Model

_LAYERS = ((5, 4, True), (5, 6, True), (3, 8, False), (3, 6, False), (3, 6, True))  # kernel, width / 4, pooled


class AlexNet(nn.Module):
    num_classes: int
    width: int
    norm: Callable
    padding: object

    @nn.compact
    def __call__(self, x, train):
        inits = layer_initializers("default")
        for layer, (kernel, quarters, pooled) in enumerate(_LAYERS):
            padding = self.padding if layer == 0 else "SAME"
            width = quarters * self.width // 4
            x = Conv(width, (kernel, kernel), padding, **inits(kernel**2 * x.shape[-1]))(x)
            x = nn.relu(self.norm(train)(x))
            x = max_pool(x, 2, 2) if pooled else x
        return outputs(x, self.num_classes, **inits(x[0].size))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 128,  # channels of the first layer; the others keep their ratios
    norm: str = "none",
    norm_momentum: float = 0.9,  # PyTorch's 0.1
) -> Model:
    """Make the network."""
    check_images("dc_alexnet", example_shape, 8)
    module = AlexNet(num_classes, width, norm_layer(norm, norm_momentum), first_padding(example_shape, 5))
    return as_model(module, example_shape)
