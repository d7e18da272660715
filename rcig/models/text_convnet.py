"""Text ConvNet: convolutions of 3, 4 and 5 words, the maximum over the sentence, dropout, one dense layer.

Kim 2014, as Sucholutsky and Schonlau 2019 (soft labels) train it on embedded sentences: Xavier-normal kernels, zero
biases, dropout also while distilling. At embedding 100: 120,300 parameters and 301 for each class; 300 features.

Its convolutions are 2-D there, over an image (L, E) of one channel: a kernel's fan-out is ``window * E * width``, not
``window * width``, and Xavier's standard deviation for 100 filters of 300 numbers 0.008, not 0.06. With the larger one
the features of all texts are much alike, and five steps on distilled sentences do not tell reviews apart: 50 %, not 84.
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
            inits = self.inits(window * x.shape[-1])
            y = SentenceConv(self.width, window, _planar(inits["kernel_init"]), inits["bias_init"])(x)
            pooled.append(nn.relu(jnp.max(y, 1)))  # (B, width)
        x = dropout(self, self.dropout, train)(jnp.concatenate(pooled, -1))
        return outputs(x, self.num_classes, **self.inits(x.shape[-1]))


def _planar(init: Callable) -> Callable:
    """Return the initialiser of a kernel (window, E, width) that has the fans of one of (window, E, 1, width)."""
    return lambda key, shape, dtype: init(key, (*shape[:2], 1, shape[2]), dtype).reshape(shape)


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
    length, _ = sentence_shape("text_convnet", example_shape, width=width)
    if length < max(_WINDOWS):
        raise UserError(f"text_convnet wants sentences of at least {max(_WINDOWS)} words, not {length}; lengthen them")
    return as_model(TextConvNet(num_classes, width, dropout, layer_initializers(init, init_param)), example_shape)
