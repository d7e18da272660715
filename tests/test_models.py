"""Every network in ``rcig/models/`` keeps the contract of `rcig.types.Model`; parameter counts are the references'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import lookup
from rcig.errors import UserError

NAMES = lookup.names("rcig.models")


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    "name, shape, num_classes, features, expected",
    [
        ("convnet", (32, 32, 3), 10, 8192, 1_560_842),
        ("convnet", (32, 32, 3), 100, 8192, 2_298_212),
        ("convnet", (28, 28, 1), 10, 8192, 1_558_538),
        ("convnet", (64, 64, 3), 200, 16384, 9_475_528),
        ("dc_convnet", (32, 32, 3), 10, 2048, 320_010),
        ("dc_convnet", (32, 32, 3), 100, 2048, 504_420),
        ("dc_convnet", (28, 28, 1), 10, 2048, 317_706),
        ("dc_convnet", (64, 64, 3), 200, 2048, 857_160),
    ],
)
def test_parameter_counts(name, shape, num_classes, features, expected):
    model = lookup.find("rcig.models", name).make(shape, num_classes)
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    assert count(params) == expected
    assert params["head"]["kernel"].shape == (features, num_classes)


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "layer", "group"])
@pytest.mark.parametrize("name", NAMES)
def test_contract(name, norm):
    model = lookup.find("rcig.models", name).make((8, 8, 3), 5, width=4, depth=2, norm=norm)
    variables = model.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))

    @jax.jit
    def apply(variables, x):
        evaluated, same = model.apply(variables, x, False, None)
        _, trained = model.apply(variables, x, True, jax.random.key(2))
        return evaluated, same, trained

    outputs, same, trained = apply(variables, x)
    head = variables["params"]["head"]
    assert outputs.logits.shape == (6, 5) and outputs.features.shape == (6, len(head["kernel"]))
    np.testing.assert_allclose(outputs.logits, outputs.features @ head["kernel"] + head["bias"][None], atol=1e-5)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [
        k
        for k in variables
        if not all(jnp.array_equal(*p) for p in zip(*map(jax.tree.leaves, (variables[k], trained[k])), strict=True))
    ]
    assert moved == (["batch_stats"] if norm == "batch" else [])


def test_initialisers_have_the_references_scale():
    convnet = lookup.find("rcig.models", "convnet").make((32, 32, 3), 10).init(jax.random.key(0))["params"]
    kernel = convnet["Conv_1"]["kernel"]  # LeCun normal
    assert abs(float(jnp.std(kernel)) * (9 * 128) ** 0.5 - 1) < 0.02 and not np.any(convnet["Conv_1"]["bias"])
    dc = lookup.find("rcig.models", "dc_convnet").make((32, 32, 3), 10).init(jax.random.key(0))["params"]
    bound = (9 * 128) ** -0.5  # uniform, biases too
    for leaf in (dc["Conv_1"]["kernel"], dc["Conv_1"]["bias"]):
        assert 0.9 * bound < float(jnp.max(jnp.abs(leaf))) <= bound
    assert 0.9 * 2048**-0.5 < float(jnp.max(jnp.abs(dc["head"]["kernel"]))) <= 2048**-0.5


def test_softplus_is_a_smooth_relu():
    from rcig.models._layers import activation_fn

    x = jnp.linspace(-2, 2, 41)
    soft = activation_fn("softplus", 60.0)
    np.testing.assert_allclose(soft(x), jnp.logaddexp(60 * x, 0) / 60, atol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.grad(soft))(x), jax.nn.sigmoid(60 * x), atol=1e-12)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(jax.grad(soft)))(x), 60 * jax.nn.sigmoid(60 * x) * jax.nn.sigmoid(-60 * x), atol=1e-9
    )


def test_average_pool_drops_an_odd_edge():
    from rcig.models._layers import average_pool

    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(average_pool(x)[0, ..., 0], [[3.0, 5.0]])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"norm": "btach"}, "did you mean 'batch'"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
        ({"depth": 4}, "choose at most 3"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        lookup.find("rcig.models", "convnet").make((8, 8, 1), 10, **options)


def test_networks_of_images_refuse_rows():
    with pytest.raises(UserError, match="wants images"):
        lookup.find("rcig.models", "convnet").make((784,), 10)
