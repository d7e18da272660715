"""Text ConvNet: convolutions of 3, 4 and 5 words, the maximum over the sentence, dropout, one dense layer.

Kim 2014, as Sucholutsky and Schonlau 2019 (soft labels) train it on embedded sentences: Xavier-normal kernels, zero
biases, dropout also while distilling. At embedding 100: 120,300 parameters and 301 for each class; 300 features.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._layers import as_model, dropout, outputs
from rcig.models._text import SentenceConv, sentence_shape
from rcig.types import Model

_WINDOWS = (3, 4, 5)


class TextConvNet(nn.Module):
    num_classes: int
    width: int
    dropout: float
    inits: Callable

    @nn.compact
    def __call__(self, x, train):
        pooled = []
        for window in _WINDOWS:
            y = SentenceConv(self.width, window, **self.inits(window * x.shape[-1]))(x)
            pooled.append(nn.relu(jnp.max(y, 1)))  # (B, width)
        x = dropout(self, self.dropout, train)(jnp.concatenate(pooled, -1))
        return outputs(x, self.num_classes, **self.inits(x.shape[-1]))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 100,  # filters of each size
    dropout: float = 0.5,
    init: str = "xavier",  # see rcig/models/_initializers.py
    init_param: float = 1.0,
) -> Model:
    """Make the network for sentences (L, E) of at least 5 positions."""
    length, _ = sentence_shape("text_convnet", example_shape)
    if length < max(_WINDOWS):
        raise UserError(f"text_convnet wants sentences of at least {max(_WINDOWS)} words, not {length}; lengthen them")
    return as_model(TextConvNet(num_classes, width, dropout, layer_initializers(init, init_param)), example_shape)
