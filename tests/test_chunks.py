"""Gradients summed over chunks of rows equal those of all rows at once, at every order of differentiation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from rcig import losses
from rcig.chunks import grad_rows, map_rows, training_gradient
from rcig.lookup import find
from rcig.types import Model, Outputs

RNG = np.random.default_rng(0)
PARAMS, INPUTS, WEIGHTS = RNG.standard_normal((5, 3)), RNG.standard_normal((35, 5)), RNG.random(35)

assert_close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13))


def mean(params, inputs, weights):
    return jnp.mean(weights * jnp.sum(jnp.tanh(inputs @ params) ** 3, axis=1))


def gradients(size):
    if size:
        return lambda params, inputs: grad_rows(mean, params, inputs, WEIGHTS, size)
    return lambda params, inputs: jax.grad(mean, (0, 1))(params, inputs, WEIGHTS)


@pytest.mark.parametrize("size", [7, 16, 35])  # whole chunks, a rest, all at once
def test_gradients_in_chunks_and_their_derivatives(size):
    def derivatives(fn):
        forward = jax.jvp(lambda params: fn(params, INPUTS), (PARAMS,), (PARAMS,))
        squares = lambda *args: sum(jnp.sum(g**2) for g in fn(*args))
        backward = jax.grad(squares, (0, 1))(PARAMS, INPUTS)
        return forward, backward, jax.jvp(lambda p: jax.grad(squares)(p, INPUTS), (PARAMS,), (PARAMS,))

    in_chunks, at_once = (jax.jit(partial(derivatives, gradients(rows)))() for rows in (size, 0))
    assert_close(in_chunks, at_once)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_training_step_sees_every_row_once_and_normalises_over_all(norm):
    model = find("rcig.models", "convnet").make((8, 8, 1), toy.NUM_CLASSES, width=4, depth=2, norm=norm)
    rows = jax.random.normal(jax.random.key(1), (35, 8, 8, 1)), jax.nn.one_hot(jnp.arange(35) % 3, toy.NUM_CLASSES)

    def whole(variables):
        def loss(params):
            outputs, after = model.apply({**variables, "params": params}, rows[0], True, None)
            return losses.soft_cross_entropy(outputs.logits, rows[1]), after

        (value, after), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return value, grads, after

    step = partial(training_gradient, model, losses.soft_cross_entropy)
    networks = jax.tree.map(jnp.float64, jax.vmap(model.init)(jax.random.split(jax.random.key(0), 2)))
    for over in (jax.vmap, lambda fn: partial(jax.lax.map, fn)):
        assert_close(jax.jit(over(lambda v: step(v, *rows)))(networks), jax.jit(over(whole))(networks))


def test_dropout_of_one_chunk_is_not_that_of_another():
    drop = lambda x, key: x * jax.random.bernoulli(key, 0.5, x.shape)
    model = Model(lambda key: {}, lambda variables, x, train, key: (Outputs(drop(x, key), x), variables))
    seen = lambda logits, targets: jnp.sum(logits * targets) / len(logits)  # of 32 rows: which numbers are kept
    value = lambda row: training_gradient(
        model, seen, {"params": jnp.zeros(())}, jnp.ones((32, 4)), row[:, None], jax.random.key(0)
    )[0]
    kept = np.asarray(jax.jit(jax.vmap(value))(jnp.eye(32)))
    assert np.any(kept[0::2] != kept[1::2])  # chunks take every other row


@pytest.mark.parametrize("size, again", [(0, False), (7, True), (35, False), (64, False)])
def test_chunks_of_an_explicit_size_are_computed_again_and_all_rows_at_once_are_not(size, again):
    squares = lambda x: jnp.sum(map_rows(lambda x: jnp.tanh(x) ** 2, x, size))
    assert ("remat" in str(jax.make_jaxpr(jax.grad(squares))(INPUTS))) == again
