"""The layers against loops by hand, finite differences and known moments, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from rcig import lookup
from rcig.models._initializers import layer_initializers
from rcig.models._layers import activation_fn, average_pool, max_pool
from rcig.models._text import SentenceConv
from rcig.models.alexcifarnet import local_response_norm

KEY = jax.random.key(0, impl="rbg")  # compiles 3 times faster than the default


def double(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float64), tree)


def test_softplus_is_a_smooth_relu():
    x = jnp.linspace(-2, 2, 41)
    soft = activation_fn("softplus", 60.0)
    np.testing.assert_allclose(soft(x), jnp.logaddexp(60 * x, 0) / 60, atol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.grad(soft))(x), jax.nn.sigmoid(60 * x), atol=1e-12)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(jax.grad(soft)))(x), 60 * jax.nn.sigmoid(60 * x) * jax.nn.sigmoid(-60 * x), atol=1e-9
    )


def test_average_pool_drops_an_odd_edge():
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(average_pool(x)[0, ..., 0], [[3.0, 5.0]])


@pytest.mark.parametrize("window, stride, pad", [(2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 3, 0)])
def test_max_pool(window, stride, pad):
    x = jax.random.normal(KEY, (2, 9, 8, 3))
    want = nn.max_pool(x, (window, window), (stride, stride), ((pad, pad), (pad, pad)))
    np.testing.assert_array_equal(max_pool(x, window, stride, pad), want)
    check_grads(jax.jit(lambda x: jnp.sum(jnp.sin(max_pool(x, window, stride, pad)))), (x,), order=2, modes=["rev"])


def test_local_response_norm():
    x = 3 * jax.random.normal(KEY, (2, 3, 2, 7))
    want = np.zeros_like(x)
    for c in range(7):
        window = [x[..., i] ** 2 for i in range(c - 2, c + 2) if 0 <= i < 7]
        want[..., c] = x[..., c] / (1 + 0.1 * sum(window) / 4) ** 0.75
    np.testing.assert_allclose(local_response_norm(x, 4, 0.1), want, rtol=1e-12)
    check_grads(lambda x: local_response_norm(x, 4, 0.1), (x,), order=2, modes=["rev"])
    assert local_response_norm(x.astype(jnp.float32)).dtype == jnp.float32


def test_sentence_convolution():
    layer = SentenceConv(2, 3, nn.initializers.normal(), nn.initializers.normal())
    x = jax.random.normal(KEY, (4, 6, 5))
    params = double(layer.init(KEY, x)["params"])
    windows = jnp.stack([x[:, i : i + 3] for i in range(4)], 1)  # (B, 4, 3, 5)
    want = jnp.einsum("blwe,wef->blf", windows, params["kernel"]) + params["bias"][None, None]
    np.testing.assert_allclose(layer.apply({"params": params}, x), want, atol=1e-14)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_hand(name, params, x, positions):
    """Run one layer in one direction over one sentence, word by word. x (L,E) -> (L,H) and the last vector."""
    h, c, hidden = np.zeros(3), np.zeros(3), {}
    for position in positions:
        z = x[position] @ params["input"]["kernel"] + params["input"]["bias"] + h @ params["kernel"] + params["bias"]
        if name == "text_rnn":
            h = np.tanh(z)
        else:
            i, f, g, o = z[:3], z[3:6], z[6:9], z[9:]
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        hidden[position] = h
    return np.stack([hidden[position] for position in range(len(x))]), h


@pytest.mark.parametrize("name", ["text_rnn", "text_lstm"])
def test_recurrent_networks_read_both_ways(name):
    model = lookup.find("rcig.models", name).make((5, 4), 2, width=3, init="default")  # biases are not zero
    variables = double(jax.jit(model.init)(KEY))
    params = jax.tree.map(np.asarray, variables["params"])
    x = jax.random.normal(KEY, (2, 5, 4))
    for sentence, features in zip(x, model.apply(variables, x, True, None)[0].features, strict=True):
        for layer in range(2):
            forward = by_hand(name, params[f"Recurrence_{2 * layer}"], np.asarray(sentence), range(5))
            backward = by_hand(name, params[f"Recurrence_{2 * layer + 1}"], np.asarray(sentence), range(4, -1, -1))
            sentence = np.concatenate([forward[0], backward[0]], -1)
        np.testing.assert_allclose(features, np.concatenate([forward[1], backward[1]]), atol=1e-12)


@pytest.mark.parametrize("name, shape", [("text_rnn", (4, 3)), ("text_conv_lstm", (3, 12))])
def test_second_derivatives_of_recurrences(name, shape):
    model = lookup.find("rcig.models", name).make(shape, 2, width=2, init_param=2.0)
    variables = double(jax.jit(model.init)(KEY))
    x = jax.random.normal(KEY, (2, *shape))
    f = jax.jit(lambda params, x: jnp.sum(model.apply({"params": params}, x, True, None)[0].logits ** 2))
    check_grads(f, (variables["params"], x), order=2, modes=["rev"])


FAN_IN, FAN_OUT = 25 * 16, 25 * 64


@pytest.mark.parametrize(
    "name, param, std, peak",  # the peak in standard deviations: of a normal beyond 3, of a uniform sqrt(3)
    [
        ("xavier", 1.0, (2 / (FAN_IN + FAN_OUT)) ** 0.5, None),
        ("xavier", 2.0, 2 * (2 / (FAN_IN + FAN_OUT)) ** 0.5, None),
        ("xavier_uniform", 2.0, 2 * (2 / (FAN_IN + FAN_OUT)) ** 0.5, 3**0.5),
        ("kaiming", 1.0, FAN_IN**-0.5, None),
        ("kaiming", 0.0, (2 / FAN_IN) ** 0.5, None),
        ("kaiming_out", 1.0, FAN_OUT**-0.5, None),
        ("normal", 0.02, 0.02, None),
        ("orthogonal", 1.5, 1.5 * FAN_IN**-0.5, None),
        ("default", 1.0, (3 * FAN_IN) ** -0.5, 3**0.5),
    ],
)
def test_initialisers_have_the_named_moments(name, param, std, peak):
    inits = layer_initializers(name, param)(FAN_IN)
    kernel = inits["kernel_init"](KEY, (5, 5, 16, 64), jnp.float32)
    bias = inits["bias_init"](KEY, (64,), jnp.float32)
    assert abs(float(jnp.std(kernel)) / std - 1) < 0.02 and abs(float(jnp.mean(kernel))) < 0.03 * std
    highest = float(jnp.max(jnp.abs(kernel))) / std
    assert (highest > 3) if peak is None else (0.98 * peak < highest <= peak + 1e-5)
    assert jnp.any(bias) == (name == "default") and jnp.max(jnp.abs(bias)) <= FAN_IN**-0.5
    if name == "orthogonal":
        matrix = kernel.reshape(-1, 64)
        np.testing.assert_allclose(matrix.T @ matrix, param**2 * np.eye(64), atol=1e-5)


def drawn(name, shape, **options):
    model = lookup.find("rcig.models", name).make(shape, 2, **options)
    return jax.jit(model.init)(KEY)["params"]


def test_networks_are_drawn_by_the_stated_fans():
    std = lambda leaf: float(jnp.std(leaf))
    lenet, lstm = drawn("lenet", (28, 28, 1)), drawn("text_lstm", (3, 60))
    assert abs(std(lenet["Conv_1"]["kernel"]) / (2 / (25 * 22)) ** 0.5 - 1) < 0.05
    assert abs(std(lenet["Dense_0"]["kernel"]) / (2 / 520) ** 0.5 - 1) < 0.02
    assert abs(std(lstm["Recurrence_0"]["input"]["kernel"]) / (2 / 460) ** 0.5 - 1) < 0.02  # four gates, one matrix
    assert abs(std(lstm["Recurrence_0"]["kernel"]) / (2 / 500) ** 0.5 - 1) < 0.02
    attention = drawn("text_transformer", (3, 40), depth=1)["MultiHeadDotProductAttention_0"]
    assert abs(std(attention["query"]["kernel"]) / (2 / 80) ** 0.5 - 1) < 0.06  # (E, heads, E/heads)
    for network in (lenet, lstm):
        assert not any(np.any(leaf) for path, leaf in jax.tree.leaves_with_path(network) if "bias" in str(path))
