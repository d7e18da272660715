"""A function near a base point: its tangent there, computed once, and the finite difference it approximates.

Args named ``fn`` map parameters to ``(outputs, aux)``; aux (say features) is evaluated at the base point.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

PyTree = Any


class Linearized(NamedTuple):
    """A Jacobian J at a base point, as its two products."""

    aux: PyTree
    jvp: Callable[[PyTree], jax.Array]  # tau -> J tau
    vjp: Callable[[jax.Array], PyTree]  # y -> J^T y


def linearize(fn: Callable, base: PyTree) -> Linearized:
    """Linearise ``fn`` at ``base``. Runs ``fn`` once and keeps what it computes; products run it no more."""
    _, jvp, aux = jax.linearize(fn, base, has_aux=True)
    transpose = jax.linear_transpose(jvp, base)
    return Linearized(aux, jvp, lambda y: transpose(y)[0])


def rematerialized(fn: Callable, base: PyTree) -> Linearized:
    """The same, but nothing is kept: each product runs ``fn`` again, three forward passes where there were two."""
    jvp = lambda tau: jax.jvp(fn, (base,), (tau,), has_aux=True)[1]
    vjp = lambda y: jax.vjp(fn, base, has_aux=True)[1](y)[0]
    return Linearized(fn(base)[1], jvp, vjp)


def tangent(fn: Callable, base: PyTree, tau: PyTree) -> tuple[jax.Array, PyTree]:
    """Return ``(J tau, aux)``: the output of the network that is linear in tau and zero at tau = 0."""
    _, outputs, aux = jax.jvp(fn, (base,), (tau,), has_aux=True)
    return outputs, aux


def difference(fn: Callable, base: PyTree, tau: PyTree) -> tuple[jax.Array, PyTree]:
    """Return ``(f(base + tau) - f(base), aux)``: what `tangent` approximates, to O(tau^2)."""
    outputs, aux = fn(base)
    moved, _ = fn(jax.tree.map(lambda b, t: b + t, base, tau))
    return moved - outputs, aux
