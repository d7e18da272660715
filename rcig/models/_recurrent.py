"""Recurrent layers, and the bidirectional network of ``text_rnn`` and ``text_lstm``.

A cell turns the state (h, ...) and the gates' inputs ``z = W x + b + U h + c`` into the next state. The gates of a cell
are one stacked matrix, so that Xavier's fan_out is that of all gates. ``b`` and ``c`` are two biases where one would
do, as in PyTorch: a gradient step moves their sum twice as far.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from rcig.models._initializers import layer_initializers
from rcig.models._layers import as_model, dropout, outputs
from rcig.models._text import sentence_shape
from rcig.types import Model

State = tuple[jax.Array, ...]  # each (B, H), the hidden vector first


class Cell(NamedTuple):
    states: int
    gates: int
    step: Callable[[State, jax.Array], State]


def _tanh(state: State, z: jax.Array) -> State:
    return (jnp.tanh(z),)


def _lstm(state: State, z: jax.Array) -> State:
    """Hochreiter and Schmidhuber 1997, with a forget gate: c = f c + i g, h = o tanh(c)."""
    i, f, g, o = jnp.split(z, 4, -1)
    c = nn.sigmoid(f) * state[1] + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


TANH = Cell(1, 1, _tanh)
LSTM = Cell(2, 4, _lstm)


class Recurrence(nn.Module):
    """One layer in one direction, from a zero state. x (B,L,E) -> hidden vectors (B,L,H), the last one (B,H)."""

    cell: Cell
    width: int
    inits: Callable
    reverse: bool = False

    @nn.compact
    def __call__(self, x):
        size, inits = self.cell.gates * self.width, self.inits(self.width)
        kernel = self.param("kernel", inits["kernel_init"], (self.width, size), jnp.float32)
        bias = self.param("bias", inits["bias_init"], (size,), jnp.float32)
        z = nn.Dense(size, name="input", **inits)(x) + bias.reshape(1, 1, -1)  # (B, L, gates*H), one product

        def step(state, z):
            state = self.cell.step(state, z + state[0] @ kernel)
            return state, state[0]

        start = (jnp.zeros((len(x), self.width), z.dtype),) * self.cell.states
        state, hidden = lax.scan(step, start, z.swapaxes(0, 1), reverse=self.reverse)
        return hidden.swapaxes(0, 1), state[0]


class Bidirectional(nn.Module):
    """Layers that read the sentence both ways; the features are the last layer's two last hidden vectors."""

    num_classes: int
    cell: Cell
    width: int
    depth: int
    dropout: float
    inits: Callable

    @nn.compact
    def __call__(self, x, train):
        drop = dropout(self, self.dropout, train)
        for _ in range(self.depth):
            x = drop(x)
            both = [Recurrence(self.cell, self.width, self.inits, reverse)(x) for reverse in (False, True)]
            x, features = (jnp.concatenate(parts, -1) for parts in zip(*both, strict=True))
        return outputs(drop(features), self.num_classes, **self.inits(2 * self.width))


def bidirectional(
    name: str,
    cell: Cell,
    example_shape: tuple[int, ...],
    num_classes: int,
    width: int,
    depth: int,
    dropout: float,
    init: str,
    init_param: float,
) -> Model:
    """Make the network of plug-in ``name``."""
    sentence_shape(name, example_shape, width=width, depth=depth)
    inits = layer_initializers(init, init_param)
    return as_model(Bidirectional(num_classes, cell, width, depth, dropout, inits), example_shape)
