"""LeNet: two 5x5 convolutions with 2x2 max pooling, then three dense layers.

LeCun et al. 1998 with ReLU, as Wang et al. 2018 (dataset distillation) train it: 28- or 32-pixel images (28-pixel ones
are padded to 32), Xavier-normal kernels, zero biases. DC's LeNet is the same with init="default". Images of 64 pixels
only widen the first dense layer. At 28x28x1 and 10 classes: 61,706 parameters, 84 features.
"""

from collections.abc import Callable

from flax import linen as nn

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, max_pool, outputs
from rcig.types import Model


class LeNet(nn.Module):
    num_classes: int
    inits: Callable

    @nn.compact
    def __call__(self, x, train):
        pad = max(0, (32 - x.shape[1]) // 2)
        for width, padding in ((6, ((pad, pad), (pad, pad))), (16, "VALID")):
            x = Conv(width, (5, 5), padding, **self.inits(25 * x.shape[-1]))(x)
            x = nn.relu(max_pool(x, 2, 2))  # the maximum first: the same value for a quarter of the work
        x = x.reshape(len(x), -1)  # (B, 400), of 64 pixels (B, 2704)
        for width in (120, 84):
            x = nn.relu(nn.Dense(width, **self.inits(x.shape[-1]))(x))
        return outputs(x, self.num_classes, **self.inits(x.shape[-1]))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    init: str = "xavier",  # see rcig/models/_initializers.py
    init_param: float = 1.0,
) -> Model:
    """Make the network."""
    if len(example_shape) != 3 or tuple(example_shape[:2]) not in ((28, 28), (32, 32), (64, 64)):
        raise UserError(
            f"lenet wants images of 28, 32 or 64 pixels, not examples {tuple(example_shape)}; choose a convnet"
        )
    return as_model(LeNet(num_classes, layer_initializers(init, init_param)), example_shape)
