"""Text ConvLSTM: a convolution along the embedding axis, whose outputs an LSTM reads one after the other.

TextLSTM1 of Sucholutsky and Schonlau 2019 (soft labels): positions are channels, L -> 16, windows of 5 embedding
coordinates, ReLU, maxima of 4; the 16 channels, each a vector of E/4 - 1 coordinates, are the LSTM's sequence.
Xavier-normal kernels, zero biases. At 20 words of embedding 100: 3,056 parameters and 11 for each class; 10 features.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._layers import as_model, dropout, outputs
from rcig.models._recurrent import LSTM, Recurrence
from rcig.models._text import SentenceConv, sentence_shape
from rcig.types import Model

_CHANNELS, _WINDOW, _POOL = 16, 5, 4


class TextConvLSTM(nn.Module):
    num_classes: int
    width: int
    dropout: float
    inits: Callable

    @nn.compact
    def __call__(self, x, train):
        x = SentenceConv(_CHANNELS, _WINDOW, **self.inits(_WINDOW * x.shape[1]))(x.swapaxes(1, 2))  # (B, E-4, 16)
        size = x.shape[1] // _POOL
        x = nn.relu(jnp.max(x[:, : _POOL * size].reshape(len(x), size, _POOL, _CHANNELS), 2))
        _, features = Recurrence(LSTM, self.width, self.inits)(x.swapaxes(1, 2))
        features = dropout(self, self.dropout, train)(features)
        return outputs(features, self.num_classes, **self.inits(self.width))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 10,  # of the hidden vector
    dropout: float = 0.0,  # of the features; 0.7 in training on real text
    init: str = "xavier",  # see rcig/models/_initializers.py
    init_param: float = 1.0,
) -> Model:
    """Make the network for sentences (L, E) of at least 8 embedding coordinates."""
    _, size = sentence_shape("text_conv_lstm", example_shape, width=width)
    if size < _WINDOW + _POOL - 1:
        raise UserError(f"text_conv_lstm wants embeddings of at least {_WINDOW + _POOL - 1}, not {size}; widen them")
    return as_model(TextConvLSTM(num_classes, width, dropout, layer_initializers(init, init_param)), example_shape)
