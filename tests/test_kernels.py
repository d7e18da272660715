"""Ridge regression, linearisation and empirical kernels against closed forms and second paths."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest
import toy

from kernels import empirical, linearize, ridge


def features(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("num_rows, width", [(5, 9), (9, 5), (6, 6)])
def test_head_is_the_ridge_minimiser_in_primal_and_dual_form(num_rows, width):
    phi, y, strength = features((num_rows, width)), features((num_rows, 2), 1), 0.3
    head = ridge.head(phi, y, strength)
    primal = jnp.linalg.solve(phi.T @ phi + strength * jnp.eye(width), phi.T @ y)
    dual = phi.T @ jnp.linalg.solve(phi @ phi.T + strength * jnp.eye(num_rows), y)
    assert jnp.max(jnp.abs(head - primal)) < 1e-12
    assert jnp.max(jnp.abs(head - dual)) < 1e-12
    objective = lambda w: jnp.sum((y - phi @ w) ** 2) + strength * jnp.sum(w**2)
    assert jnp.max(jnp.abs(jax.grad(objective)(head))) < 1e-12


def test_predict_equals_the_head_and_interpolates_without_ridge():
    phi_s, phi_t, y = features((4, 7)), features((3, 7), 1), features((4, 2), 2)
    k_ss, k_ts = ridge.gram(phi_s, phi_s), ridge.gram(phi_t, phi_s)
    assert jnp.allclose(ridge.predict(k_ss, k_ts, y, 0.1), phi_t @ ridge.head(phi_s, y, 0.1), atol=1e-12)
    assert jnp.allclose(ridge.predict(k_ss, k_ss, y, 1e-13), y, atol=1e-9)


def test_relative_ridge_follows_the_kernel_scale():
    k = ridge.gram(features((4, 7)), features((4, 7)))
    y = features((4, 2), 2)
    one, scaled = (ridge.predict(c * k, c * k, y, ridge.relative(0.1, c * k)) for c in (1.0, 50.0))
    assert jnp.allclose(one, scaled, atol=1e-12)


def test_factor_works_in_its_own_dtype_and_returns_the_callers():
    k = ridge.gram(features((4, 7)), features((4, 7)))
    y = features((4, 2), 2).astype(jnp.float32)
    assert ridge.solve(ridge.factor(k, 0.1), y).dtype == jnp.float32


def network(x):
    model = toy.model(activation="softplus", beta=5.0)
    params = model.init(jax.random.key(3))["params"]
    fn = lambda p: tuple(model.apply({"params": p}, x, False, None)[0])
    return fn, params


@pytest.mark.parametrize("way", [linearize.linearize, linearize.rematerialized])
def test_linearised_products_equal_jvp_and_vjp(way):
    fn, params = network(toy.synthetic().inputs)
    tau = jax.tree.map(lambda a: jnp.sin(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), params)

    @jax.jit
    def products(tau):
        jacobian = way(fn, params)
        outputs, aux = linearize.tangent(fn, params, tau)
        return (jacobian.jvp(tau), outputs), (jacobian.aux, aux), jacobian.vjp(outputs)

    (jvp, outputs), (features_once, aux), back = products(tau)
    assert jnp.allclose(jvp, outputs, atol=1e-12)
    assert jnp.allclose(features_once, aux, atol=1e-14)
    assert jnp.allclose(optax.tree.vdot(back, tau), jnp.vdot(outputs, outputs))


def test_difference_approaches_the_tangent_quadratically():
    fn, params = network(toy.synthetic().inputs)
    tau = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), params)

    @jax.jit
    def error(epsilon):
        scaled = jax.tree.map(lambda a: epsilon * a, tau)
        pair = linearize.difference(fn, params, scaled)[0], linearize.tangent(fn, params, scaled)[0]
        return jnp.linalg.norm(pair[0] - pair[1])

    error = [error(e) for e in (1e-3, 1e-4)]
    assert 80 < error[0] / error[1] < 125


@functools.cache
def explicit():
    """Return a network's function, parameters, two inputs, and its NTK (4, 3, K, K) from explicit Jacobians."""
    model = toy.model()
    params = model.init(jax.random.key(3))["params"]
    fn = lambda p, x: model.apply({"params": p}, x, False, None)[0]
    x1, x2 = toy.synthetic(2).inputs[:4], toy.synthetic(1, 5).inputs
    logits = lambda p, x: fn(p, x).logits
    jacobian = lambda x: [j.reshape(len(x), 3, -1) for j in jax.tree.leaves(jax.jacrev(logits)(params, x))]
    flat = jax.jit(lambda x: jnp.concatenate(jacobian(x), -1))
    return fn, params, x1, x2, jnp.einsum("akp,blp->abkl", flat(x1), flat(x2))


def test_empirical_ntk_by_products_equals_the_explicit_jacobian():
    fn, params, x1, x2, full = explicit()
    logits = lambda p, x: fn(p, x).logits
    by_products = jax.jit(partial(empirical.ntk_full, logits))(params, x1, x2)
    assert jnp.max(jnp.abs(by_products - full)) < 1e-10
    mean = jax.jit(partial(empirical.ntk, logits))(params, x1, x2)
    assert jnp.max(jnp.abs(mean - jnp.einsum("abkk->ab", full) / 3)) < 1e-10
    v = features((3, 3), 4)
    product = jax.jit(partial(empirical.ntk_product, logits))(params, x1, x2, v)
    assert jnp.max(jnp.abs(product - jnp.einsum("abkl,bl->ak", full, v))) < 1e-10


@pytest.mark.parametrize("rows", [0, 2])
def test_empirical_ntk_by_contraction_and_by_the_head(rows):
    fn, params, x1, x2, full = explicit()
    mean = jnp.einsum("abkk->ab", full) / 3
    logits = lambda p, x: fn(p, x).logits
    contracted = jax.jit(lambda a, b: empirical.ntk_contracted(logits, params, a, b, rows))
    assert jnp.max(jnp.abs(contracted(x1, x2) - mean)) < 1e-10
    body = {name: leaf for name, leaf in params.items() if name != "head"}
    of_body = lambda p, x: fn({**p, "head": params["head"]}, x).logits

    @jax.jit
    def structured(a, b):
        in_body = empirical.contract(*(empirical.jacobian(of_body, body, x) for x in (a, b)))
        head = empirical.head_ntk(fn(params, a).features, fn(params, b).features)
        return in_body + head[:, :, None, None] * jnp.eye(3)[None, None]

    assert jnp.max(jnp.abs(structured(x1, x2) - full)) < 1e-10


def test_empirical_ntk_of_a_linear_model_is_the_inner_product():
    fn = lambda w, x: x @ w
    x = features((4, 6))
    assert jnp.allclose(empirical.ntk(fn, jnp.ones((6, 2)), x, x), x @ x.T, atol=1e-12)
    assert jnp.allclose(empirical.nngp(lambda p, x: x, None, x, x), x @ x.T, atol=1e-12)
