"""MLP: the input as one vector, two dense layers with ReLU, the head.

The smallest network of DC's cross-architecture tables (Zhao et al. 2021, the published networks.py; theirs takes 784 or
3072 numbers only). Kernels and biases are U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default. At 32x32x3 and 10
classes: 411,146 parameters, 128 features.
"""

from flax import linen as nn

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._layers import as_model, outputs
from rcig.types import Model


class MLP(nn.Module):
    num_classes: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x, train):
        inits = layer_initializers("default")
        x = x.reshape(len(x), -1)
        for _ in range(self.depth):
            x = nn.relu(nn.Dense(self.width, **inits(x.shape[-1]))(x))
        return outputs(x, self.num_classes, **inits(x.shape[-1]))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 128,
    depth: int = 2,  # hidden layers; 0: a linear classifier
) -> Model:
    """Make the network for examples of any shape."""
    if width < 1:
        raise UserError(f"model.width must be at least 1, not {width}")
    return as_model(MLP(num_classes, width, depth), example_shape)
