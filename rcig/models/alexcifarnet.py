"""AlexCifarNet: two 5x5 convolutions with local response normalisation, then three dense layers.

The CIFAR network of Krizhevsky et al. 2012, as Wang et al. 2018 (dataset distillation) train it: Xavier-normal kernels,
zero biases. At 32x32x3 and 10 classes: 1,756,426 parameters, 192 features.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, max_pool, outputs
from rcig.types import Model


def local_response_norm(x: jax.Array, size: int = 4, alpha: float = 0.001 / 9) -> jax.Array:
    """Divide by the local energy of the channels. x (B,H,W,C) -> (B,H,W,C).

    y[c] = x[c] / (1 + alpha * m[c])^(3/4),   m[c] = (sum of x^2 over channels c - size//2 ... c + (size-1)//2) / size

    with zeros outside, as PyTorch does (Krizhevsky et al. have the sum, not the mean).
    """
    window, strides = (1, 1, 1, size), (1, 1, 1, 1)
    padding = ((0, 0), (0, 0), (0, 0), (size // 2, (size - 1) // 2))
    energy = lax.reduce_window(x * x, np.zeros((), x.dtype), lax.add, window, strides, padding) / size
    root = lax.rsqrt(1 + alpha * energy)
    return x * root * jnp.sqrt(root)  # on a CPU 3-5 times faster than the power


class AlexCifarNet(nn.Module):
    num_classes: int
    inits: Callable

    @nn.compact
    def __call__(self, x, train):
        x = Conv(64, (5, 5), **self.inits(25 * x.shape[-1]))(x)
        x = local_response_norm(nn.relu(max_pool(x, 3, 2, 1)))
        x = Conv(64, (5, 5), **self.inits(25 * x.shape[-1]))(x)
        x = max_pool(local_response_norm(nn.relu(x)), 3, 2, 1)
        x = x.reshape(len(x), -1)  # (B, 4096) of 32 pixels
        for width in (384, 192):
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
    if len(example_shape) != 3:
        raise UserError(
            f"alexcifarnet wants images (H, W, C), not examples {tuple(example_shape)}; choose another model"
        )
    return as_model(AlexCifarNet(num_classes, layer_initializers(init, init_param)), example_shape)
