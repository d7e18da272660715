"""Infinite-width kernels against the arc-cosine formulas, wide finite networks, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import empirical, infinite

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


def test_a_wide_network_comes_near():
    """The NTK and NNGP of finite networks in NTK parameterisation approach the kernel as 1 / sqrt(width)."""
    x = inputs(4, 4, 4, 2)
    ntk = infinite.ntk("convnet3", 1, x, x)

    @jax.jit
    def network(params, x):
        k, b, w, c = params
        y = jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        y = jax.nn.relu(2**0.5 * y / (9 * 2) ** 0.5 + 0.1 * b[None, None, None])
        y = y.reshape(len(x), 2, 2, 2, 2, -1).mean((2, 4)).reshape(len(x), -1)
        return 2**0.5 * y @ w / y.shape[1] ** 0.5 + 0.1 * c[None]

    def error(width):
        total = np.zeros((4, 4))
        for seed in range(12):
            keys = jax.random.split(jax.random.key(seed), 4)
            shapes = ((3, 3, 2, width), (width,), (4 * width, 1), (1,))
            params = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
            total += np.asarray(empirical.ntk(network, params, x, x))
        return np.abs(total / 12 - ntk).max() / float(jnp.max(ntk))

    assert error(1024) < 0.03 and error(1024) < error(16)


def test_blocks_change_nothing():
    x1, x2 = inputs(5, 4, 4, 1), inputs(3, 4, 4, 1, seed=1)
    kernel = lambda rows: jax.jit(lambda z: infinite.ntk("convnet", 1, x1, z, rows))
    np.testing.assert_allclose(kernel(2)(x2), kernel(0)(x2), rtol=1e-12)
    gradient = lambda rows: jax.grad(lambda z: jnp.sum(kernel(rows)(z) ** 2))(x2)
    np.testing.assert_allclose(gradient(2), gradient(0), rtol=1e-10)
