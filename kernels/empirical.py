"""Kernels of a finite network at given parameters: the neural tangent kernel and the conjugate kernel (NNGP).

    Theta(x1, x2) = J(x1) J(x2)^T,     J the Jacobian of ``fn(params, x) -> (N, K)`` by the parameters

Three routes to the same numbers (Novak, Sohl-Dickstein & Schoenholz, ICML 2022):

    products      Theta v = J(x1) (J(x2)^T v) by `ntk_product`; all of Theta in N2 K of them by `ntk_full`. Memory: one
                  gradient and one block of outputs
    contraction   `jacobian` of both, multiplied by `contract`: quicker by about the smaller N. Memory: N K gradients
    the head      a last layer ``features @ W + b`` adds the features' inner products: `head_ntk`, never a Jacobian
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kernels.blocks import map_rows
from kernels.ridge import HIGHEST, gram

PyTree = Any
Apply = Callable[[PyTree, jax.Array], jax.Array]


def ntk_product(fn: Apply, params: PyTree, x1: jax.Array, x2: jax.Array, v: jax.Array) -> jax.Array:
    """Return ``Theta(x1, x2) v``, (N1, K), for v (N2, K). Costs a gradient at x2 and a tangent at x1."""
    _, vjp = jax.vjp(lambda p: fn(p, x2), params)
    return jax.jvp(lambda p: fn(p, x1), (params,), vjp(v))[1]


def ntk_full(fn: Apply, params: PyTree, x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the neural tangent kernel with its outputs apart, (N1, N2, K, K), by products.

    One product for every row and output of x2: N2 K forward and backward passes over x1.
    """

    def column(x):  # one row of x2 -> (K, N1, K)
        outputs, vjp = jax.vjp(lambda p: fn(p, x[None])[0], params)

        def product(basis):
            return jax.jvp(lambda p: fn(p, x1), (params,), vjp(basis))[1]

        return jax.lax.map(product, jnp.eye(len(outputs), dtype=outputs.dtype))

    return jax.lax.map(column, x2).transpose(2, 0, 3, 1)  # (N2, K2, N1, K1) -> (N1, N2, K1, K2)


def ntk(fn: Apply, params: PyTree, x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the neural tangent kernel averaged over outputs, ``tr_K J(x1) J(x2)^T / K``, (N1, N2), by products."""
    full = ntk_full(fn, params, x1, x2)
    return jnp.trace(full, axis1=2, axis2=3) / full.shape[-1]


def ntk_contracted(fn: Apply, params: PyTree, x1: jax.Array, x2: jax.Array, rows: int = 0) -> jax.Array:
    """Return what `ntk` returns, by contraction: J(x1) whole, J(x2) ``rows`` rows at a time (0: all).

    N1 + N2 Jacobians, of K backward passes each, and a product of 2 N1 N2 K P operations for P parameters.
    """
    of_x1 = jacobian(fn, params, x1)
    return map_rows(lambda x: contract_mean(jacobian(fn, params, x), of_x1), x2, rows or len(x2)).T


def jacobian(fn: Apply, params: PyTree, x: jax.Array) -> PyTree:
    """Return the Jacobian by the parameters, a tree like ``params`` of (N, K, ...).

    Row by row: mapped over rows at once, every row's convolutions would become a group of their own.
    """

    def of_row(x):
        outputs, vjp = jax.vjp(lambda p: fn(p, x[None])[0], params)
        return jax.vmap(lambda basis: vjp(basis)[0])(jnp.eye(len(outputs), dtype=outputs.dtype))

    return jax.lax.map(of_row, x)


def contract(jacobian_1: PyTree, jacobian_2: PyTree) -> jax.Array:
    """Return ``J1 J2^T``, (N1, N2, K, K)."""
    flat = lambda j: j.reshape(*j.shape[:2], -1)
    product = lambda a, b: jnp.einsum("akp,blp->abkl", flat(a), flat(b), precision=HIGHEST)
    return sum(jax.tree.leaves(jax.tree.map(product, jacobian_1, jacobian_2)))


def contract_mean(jacobian_1: PyTree, jacobian_2: PyTree) -> jax.Array:
    """Return ``tr_K J1 J2^T / K``, (N1, N2)."""
    flat = lambda j: j.reshape(len(j), -1)
    products = jax.tree.map(lambda a, b: gram(flat(a), flat(b)) / a.shape[1], jacobian_1, jacobian_2)
    return sum(jax.tree.leaves(products))


def head_ntk(features_1: jax.Array, features_2: jax.Array) -> jax.Array:
    """Return the part of a last layer with bias, ``phi1 . phi2 + 1``, (N1, N2): of equal outputs alone.

    Theta of the network is this plus Theta of ``body -> features(body, x) @ W``.
    """
    return gram(features_1, features_2) + 1


def nngp(features: Apply, params: PyTree, x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the conjugate kernel ``Phi(x1) Phi(x2)^T`` of penultimate features, (N1, N2), without scaling."""
    return gram(features(params, x1), features(params, x2))
