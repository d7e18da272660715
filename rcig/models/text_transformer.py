"""Text Transformer: decoder layers through which one random token asks the sentence, and one dense layer.

Transformer1 of Sucholutsky and Schonlau 2019 (soft labels): Vaswani et al. 2017, post-norm. Each layer is
self-attention of the one token, attention to the sentence, and two dense layers, each with its residual and layer norm.
There is no position code, so the order of the words is not seen. At embedding 100: 406,400 parameters and 101 for each
class; 100 features.

The target token is uniform in [0, 1), drawn once by ``init`` and kept in ``variables["constants"]``: drawn anew in
every call it would make ``apply`` random also in evaluation. It is not trained, so it is no parameter.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import UserError
from rcig.models._initializers import layer_initializers
from rcig.models._layers import as_model, dropout, outputs
from rcig.models._text import sentence_shape
from rcig.types import Model


class TextTransformer(nn.Module):
    num_classes: int
    depth: int
    num_heads: int
    dropout: float
    inits: Callable

    @nn.compact
    def __call__(self, x, train):
        size, drop = x.shape[-1], dropout(self, self.dropout, train)
        inits, norm = self.inits(size), lambda y: nn.LayerNorm(epsilon=1e-5)(y)
        draw = lambda: jax.random.uniform(self.make_rng("params"), (1, 1, size), jnp.float32)
        y = jnp.broadcast_to(self.variable("constants", "target", draw).value, (len(x), 1, size))
        for _ in range(self.depth):
            for memory in (y, x):
                attention = nn.MultiHeadDotProductAttention(
                    self.num_heads,
                    dropout_rate=self.dropout,
                    broadcast_dropout=False,
                    deterministic=drop.deterministic,
                    **inits,
                )
                y = norm(y + drop(attention(y, memory)))
            hidden = drop(nn.relu(nn.Dense(size, **inits)(y)))
            y = norm(y + drop(nn.Dense(size, **inits)(hidden)))
        return outputs(y, self.num_classes, **inits)


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int = 4,  # layers
    num_heads: int = 4,
    dropout: float = 0.1,
    init: str = "xavier",  # see rcig/models/_initializers.py
    init_param: float = 1.0,
) -> Model:
    """Make the network for sentences (L, E), E divisible by ``num_heads``."""
    _, size = sentence_shape("text_transformer", example_shape, depth=depth, num_heads=num_heads)
    if size % num_heads:
        raise UserError(f"model.num_heads {num_heads} does not divide the embedding {size}; choose a divisor")
    inits = layer_initializers(init, init_param)
    return as_model(TextTransformer(num_classes, depth, num_heads, dropout, inits), example_shape)
