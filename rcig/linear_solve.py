"""Solve ``A x = b`` for a symmetric positive definite A that is known by its products only.

Every solver minimises ``x^T A x / 2 - b^T x`` and says how far it came: the relative residual is data, not an error.

>>> import jax.numpy as jnp
>>> cg(lambda v: 2 * v, jnp.ones(3)).value.tolist()
[0.5, 0.5, 0.5]
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig.inner import descend
from rcig.types import PyTree

MatVec = Callable[[PyTree], PyTree]


class Solution(NamedTuple):
    """An approximate solution and its quality."""

    value: PyTree  # like b
    residual: jax.Array  # (), |b - A x| / |b|
    steps: jax.Array  # (), int32, products with A spent on it
    energies: jax.Array | None = None  # (num_steps,), x^T A x / 2 - b^T x before each step of a solver with a rate


def _axpy(scale, x: PyTree, y: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: scale * a + b, x, y)


def _relative(residual: PyTree, b: PyTree) -> jax.Array:
    norm = optax.tree.norm(b)
    return optax.tree.norm(residual) / jnp.where(norm > 0, norm, 1)


def cg(matvec: MatVec, b: PyTree, *, tolerance: float = 1e-3, max_steps: int = 20) -> Solution:
    """Conjugate gradients from x = 0, stopped at ``|b - A x| <= tolerance |b|`` or after ``max_steps``.

    The error falls by (sqrt(c) - 1) / (sqrt(c) + 1) a step, c the condition number of A. One product a step.
    """
    square = optax.tree.vdot(b, b)
    threshold = tolerance**2 * square

    def unfinished(carry):
        *_, square, steps = carry
        return (square > threshold) & (steps < max_steps)

    def step(carry):
        x, residual, direction, square, steps = carry
        product = matvec(direction)
        size = square / optax.tree.vdot(direction, product)
        x, residual = _axpy(size, direction, x), _axpy(-size, product, residual)
        new_square = optax.tree.vdot(residual, residual)
        return x, residual, _axpy(new_square / square, direction, residual), new_square, steps + 1

    start = (optax.tree.zeros_like(b), b, b, square, jnp.int32(0))
    x, residual, _, _, steps = jax.lax.while_loop(unfinished, step, start)
    return Solution(x, _relative(residual, b), steps)


def neumann(matvec: MatVec, b: PyTree, *, step_size: float, num_steps: int) -> Solution:
    """The truncated Neumann series ``x = step_size * sum_{i < num_steps} (1 - step_size A)^i b``.

    Converges for step_size < 2 / (largest eigenvalue of A). num_steps products, the last for the residual.
    """

    def step(_, carry):
        x, residual = carry
        x = _axpy(step_size, residual, x)
        return x, _axpy(-1, matvec(x), b)

    x, residual = jax.lax.fori_loop(0, num_steps, step, (optax.tree.zeros_like(b), b))
    return Solution(x, _relative(residual, b), jnp.int32(num_steps))


def adam(matvec: MatVec, b: PyTree, *, learning_rate: float | jax.Array, num_steps: int = 20) -> Solution:
    """Adam (0.9, 0.999) on the quadratic from x = 0, at a constant rate: the solver of Loo et al. 2023.

    num_steps + 1 products, the last for the residual. ``energies`` says whether the rate suits A.
    """

    def value_and_grad(x):
        product = matvec(x)
        return optax.tree.vdot(x, product) / 2 - optax.tree.vdot(b, x), _axpy(-1, b, product)

    x, energies = descend(value_and_grad, optax.tree.zeros_like(b), optax.adam(learning_rate), num_steps)
    return Solution(x, _relative(_axpy(-1, matvec(x), b), b), jnp.int32(num_steps + 1), energies)
