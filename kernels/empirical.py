"""Kernels of a finite network at given parameters: the neural tangent kernel and the conjugate kernel (NNGP).

``fn(params, x) -> (N, K)``. Nothing here materialises a Jacobian; memory is one gradient and one block of outputs.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kernels.ridge import gram

PyTree = Any
Apply = Callable[[PyTree, jax.Array], jax.Array]


def ntk_full(fn: Apply, params: PyTree, x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the neural tangent kernel ``J(x1) J(x2)^T`` with its outputs apart, (N1, N2, K, K).

    One vector-Jacobian product per row and output of x2, pushed through the Jacobian of x1: N2 K forward and
    backward passes over x1. Blocks over rows of x2.
    """

    def column(x):  # one row of x2 -> (K, N1, K)
        outputs, vjp = jax.vjp(lambda p: fn(p, x[None])[0], params)

        def product(basis):
            return jax.jvp(lambda p: fn(p, x1), (params,), vjp(basis))[1]

        return jax.lax.map(product, jnp.eye(len(outputs), dtype=outputs.dtype))

    return jax.lax.map(column, x2).transpose(2, 0, 3, 1)  # (N2, K2, N1, K1) -> (N1, N2, K1, K2)


def ntk(fn: Apply, params: PyTree, x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the neural tangent kernel averaged over outputs, ``tr_K J(x1) J(x2)^T / K``, (N1, N2)."""
    full = ntk_full(fn, params, x1, x2)
    return jnp.trace(full, axis1=2, axis2=3) / full.shape[-1]


def nngp(features: Apply, params: PyTree, x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the conjugate kernel ``Phi(x1) Phi(x2)^T`` of penultimate features, (N1, N2), without scaling."""
    return gram(features(params, x1), features(params, x2))
