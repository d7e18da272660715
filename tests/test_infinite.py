"""Infinite-width kernels against the arc-cosine formulas, wide finite networks, and finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import arc_cosine, empirical, infinite
from rcig import sharding
from rcig.types import Batch

W2, B2 = 2.0, 0.01


def inputs(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_one_hidden_layer_by_hand():
    x1, x2 = inputs(3, 5), inputs(4, 5, seed=1)
    nngp, ntk = infinite.fully_connected(1)(x1, x2)
    for i in range(3):
        for j in range(4):
            k, v, w = (W2 * float(a @ b) / 5 + B2 for a, b in ((x1[i], x2[j]), (x1[i], x1[i]), (x2[j], x2[j])))
            angle = np.arccos(k / np.sqrt(v * w))
            hidden = np.sqrt(v * w) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
            expected = W2 * hidden + B2
            np.testing.assert_allclose(nngp[i, j], expected, rtol=1e-10)
            np.testing.assert_allclose(ntk[i, j], W2 * k * (np.pi - angle) / (2 * np.pi) + expected, rtol=1e-10)


@pytest.mark.parametrize(
    "kernel, shape",
    [
        (infinite.fully_connected(3), (7,)),
        (infinite.convnet(2, first=False), (4, 4, 2)),
        (infinite.convnet(1), (4, 4, 2)),
        (infinite.myrtle(5), (8, 8, 1)),
    ],
)
def test_kernels_are_symmetric_positive_and_differentiable_everywhere(kernel, shape):
    kernel, x = jax.jit(kernel), inputs(5, *shape)
    nngp, ntk = kernel(x, x)
    for k in (nngp, ntk):
        np.testing.assert_allclose(k, k.T, rtol=1e-10)
        assert np.linalg.eigvalsh(k).min() > 0
    assert np.all(np.asarray(ntk) > np.asarray(nngp) - 1e-12)
    weights = inputs(5, 5, seed=2)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(kernel(z, x)[1] * weights)))
    assert np.all(np.isfinite(gradient(x)))  # cos = 1 on the diagonal
    away, along = x + 0.3 * inputs(5, *shape, seed=3), inputs(5, *shape, seed=4)
    value = lambda h: float(jnp.sum(kernel(away + h * along, x)[1] * weights))
    np.testing.assert_allclose(jnp.vdot(gradient(away), along), (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_wide_network_comes_near():
    """The NTK and NNGP of finite networks in NTK parameterisation approach the kernel as 1 / sqrt(width)."""
    x = inputs(4, 4, 4, 2)
    ntk = infinite.ntk("convnet3", 1, x, x)

    def network(params, x):
        k, b, w, c = params
        y = jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        y = jax.nn.relu(2**0.5 * y / (9 * 2) ** 0.5 + 0.1 * b[None, None, None])
        y = y.reshape(len(x), 2, 2, 2, 2, -1).mean((2, 4)).reshape(len(x), -1)
        return 2**0.5 * y @ w / y.shape[1] ** 0.5 + 0.1 * c[None]

    kernel = jax.jit(partial(empirical.ntk, network))

    def error(width):
        total = np.zeros((4, 4))
        for seed in range(12):
            keys = jax.random.split(jax.random.key(seed), 4)
            shapes = ((3, 3, 2, width), (width,), (4 * width, 1), (1,))
            params = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
            total += np.asarray(kernel(params, x, x))
        return np.abs(total / 12 - ntk).max() / float(jnp.max(ntk))

    assert error(1024) < 0.03 and error(1024) < error(16)


def test_blocks_change_nothing():
    x1, x2 = inputs(5, 4, 4, 1), inputs(3, 4, 4, 1, seed=1)
    kernel = lambda rows: jax.jit(lambda z: infinite.ntk("convnet", 1, x1, z, rows))
    np.testing.assert_allclose(kernel(2)(x2), kernel(0)(x2), rtol=1e-12)
    gradient = lambda rows: jax.jit(jax.grad(lambda z: jnp.sum(kernel(rows)(z) ** 2)))(x2)
    np.testing.assert_allclose(gradient(2), gradient(0), rtol=1e-10)


def test_columns_in_blocks_change_nothing(monkeypatch):
    x1, x2 = inputs(5, 4, 4, 1), inputs(3, 4, 4, 1, seed=1)
    kernel = lambda: jax.jit(lambda a, b: infinite.ntk("convnet", 1, a, b, 2))(x1, x2)
    whole = kernel()
    monkeypatch.setattr(infinite, "BLOCK", 2 * 16**2)  # one column, two rows
    np.testing.assert_allclose(kernel(), whole, rtol=1e-12)


def test_a_batch_that_is_split_over_devices_stays_split():
    x1, x2 = inputs(16, 4, 4, 1), inputs(3, 4, 4, 1, seed=1)
    layout = sharding.layout("jit", 8)
    batch = layout.replicate(Batch(x1, jnp.zeros(16)))
    for rows in (0, 8):
        kernel = lambda batch, rows=rows: infinite.ntk("convnet3", 1, layout.split(batch).inputs, x2, rows)
        split = jax.jit(kernel).lower(batch).compile()
        alone = jax.jit(lambda x, rows=rows: infinite.ntk("convnet3", 1, x, x2, rows))(x1)
        np.testing.assert_allclose(split(batch), alone, rtol=1e-12)
        assert "f64[2,3," in split.as_text() or "f64[1,3," in split.as_text()  # rows of one device
        assert "f64[16,3,4" not in split.as_text() and "f64[8,3,4" not in split.as_text()


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 5e-7), (jnp.float64, 1e-14)])
def test_our_arc_cosine(dtype, tolerance):
    x = np.concatenate([np.linspace(-1, 1, 4001), 1 - np.logspace(-15, -1, 99)]).astype(dtype)
    np.testing.assert_allclose(arc_cosine.arccos(jnp.asarray(x)), np.arccos(x.astype(np.float64)), atol=tolerance)


def test_the_arc_cosine_kernels_against_samples_and_at_the_ends():
    rng = np.random.default_rng(0)
    f, noise = rng.standard_normal((2, 400_000))
    for cos in (-0.6, 0.3):
        g = cos * f + np.sqrt(1 - cos**2) * noise
        value, slope = arc_cosine.arc_cosine(jnp.float64(cos))
        assert abs(value - np.mean(np.maximum(f, 0) * np.maximum(g, 0))) < 5e-3
        assert abs(slope - np.mean((f > 0) & (g > 0))) < 5e-3
    ends, derivative = jax.jvp(arc_cosine.arc_cosine, (jnp.array([-1.0, 1.0]),), (jnp.ones(2),))
    np.testing.assert_allclose(ends, [[0, 0.5], [0, 0.5]], atol=1e-15)
    np.testing.assert_allclose(derivative, [[0, 0.5], [0, 0]], atol=1e-15)
