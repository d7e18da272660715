"""Plain minimisation inside a compiled step: the inner loop of bilevel methods that have no closed form."""

from collections.abc import Callable

import jax
import optax

from rcig.types import PyTree


def descend(
    value_and_grad: Callable[[PyTree], tuple[jax.Array, PyTree]],
    start: PyTree,
    optimizer: optax.GradientTransformation,
    num_steps: int,
) -> tuple[PyTree, jax.Array]:
    """Take ``num_steps`` optimiser steps from ``start``. Returns the end point and the value before each step."""

    def step(carry, _):
        x, state = carry
        value, grads = value_and_grad(x)
        updates, state = optimizer.update(grads, state, x)
        return (optax.apply_updates(x, updates), state), value

    (x, _), values = jax.lax.scan(step, (start, optimizer.init(start)), length=num_steps)
    return x, values
