"""Every network in ``rcig/models/`` keeps the contract of `rcig.types.Model`; parameter counts are the references'."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import export, lax

from rcig import lookup
from rcig.errors import UserError
from rcig.models._inverted_residual import Depthwise
from rcig.models._layers import dropout
from rcig.models._names import network
from rcig.models.efficientnet import Gate

SMALL = {  # a small input of each network, and options that make it small
    "alexcifarnet": ((8, 8, 3), {}),
    "convnet": ((8, 8, 3), {"width": 4, "depth": 2}),
    "dc_alexnet": ((8, 8, 3), {"width": 8}),
    "dc_convnet": ((8, 8, 3), {"width": 4, "depth": 2}),
    "efficientnet": ((8, 8, 3), {"width": 0.1, "depth": 0.1}),
    "lenet": ((28, 28, 1), {}),
    "mlp": ((7,), {"width": 4}),
    "mobilenet_v2": ((8, 8, 3), {"width": 0.1}),
    "resnet": ((28, 28, 1), {"width": 4, "depth": 10}),
    "text_conv_lstm": ((5, 13), {"width": 3}),
    "text_convnet": ((7, 6), {"width": 3}),
    "text_lstm": ((5, 4), {"width": 3, "depth": 1}),
    "text_rnn": ((5, 4), {"width": 3, "depth": 1}),
    "text_transformer": ((5, 8), {"depth": 1}),
    "vgg": ((32, 32, 3), {"width": 4}),
}
KEY = jax.random.key(0, impl="rbg")  # compiles 3 times faster than the default
LARGE = ["alexnet"]  # too large to run here: their shapes only
SMALL |= {name: ((8, 8, 3), {}) for name in lookup.names("rcig.models") if name not in {*SMALL, *LARGE}}  # yours
NORMS = ["none", "batch", "instance", "layer", "group"]
INVERTED = ["efficientnet", "mobilenet_v2"]  # half a minute to compile what the others show
QUICK = [pytest.param(name, marks=[pytest.mark.slow] * (name in INVERTED)) for name in SMALL]
DEEP = ["dc_alexnet", "efficientnet", "mobilenet_v2", "resnet", "vgg"]  # slow to compile: with two norms only


def options_of(name):
    return inspect.signature(lookup.find("rcig.models", name).make).parameters


CASES = [
    pytest.param(name, {"norm": norm} if norm else {}, marks=[pytest.mark.slow] * (name in INVERTED))
    for name in SMALL
    for norm in (["batch", "instance"] if name in DEEP else NORMS if "norm" in options_of(name) else [None])
]
WITH_DROPOUT = [name for name in QUICK if "dropout" in options_of(name.values[0])]


@functools.cache
def small(name, **options):
    """Return (model, its variables, a batch of 6)."""
    shape, size = SMALL[name]
    model = lookup.find("rcig.models", name).make(shape, 5, **size | options)
    return model, jax.jit(model.init)(KEY), jax.random.normal(KEY, (6, *shape))


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
        ("lenet", (28, 28, 1), 10, 84, 61_706),
        ("lenet", (32, 32, 1), 10, 84, 61_706),
        ("lenet", (32, 32, 3), 10, 84, 62_006),
        ("alexcifarnet", (32, 32, 3), 10, 192, 1_756_426),
        ("alexnet", (224, 224, 3), 1000, 4096, 61_100_840),
        ("lenet", (64, 64, 3), 10, 84, 338_486),
        ("mlp", (32, 32, 3), 10, 128, 411_146),
        ("mlp", (28, 28, 1), 10, 128, 118_282),
        ("dc_alexnet", (28, 28, 1), 10, 3072, 1_865_802),
        ("dc_alexnet", (64, 64, 3), 10, 12_288, 1_964_362),
        ("vgg", (28, 28, 1), 10, 512, 9_229_962),
        ("vgg", (64, 64, 3), 10, 2048, 9_246_474),
        ("resnet", (28, 28, 1), 10, 512, 11_172_810),
        ("resnet", (64, 64, 3), 200, 2048, 11_578_632),
        ("efficientnet", (224, 224, 3), 1000, 1280, 5_288_548),
        ("efficientnet", (64, 64, 3), 200, 1280, 4_263_748),
        ("mobilenet_v2", (224, 224, 3), 1000, 1280, 3_504_872),
        ("mobilenet_v2", (64, 64, 3), 200, 1280, 2_480_072),
        ("text_convnet", (400, 100), 1, 300, 120_601),
        ("text_rnn", (30, 100), 5, 200, 101_805),
        ("text_lstm", (30, 100), 6, 200, 404_406),
        ("text_conv_lstm", (20, 100), 50, 10, 3_606),
        ("text_transformer", (30, 100), 6, 100, 407_006),
    ],
)
def test_parameter_counts(name, shape, num_classes, features, expected):
    model = lookup.find("rcig.models", name).make(shape, num_classes)
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    assert count(params) == expected
    assert params["head"]["kernel"].shape == (features, num_classes)


@pytest.mark.parametrize(
    "shape, num_classes, options, expected, features, norms",
    [
        ((224, 224, 3), 1000, {"stem": "large"}, 11_689_512, 512, 20),
        ((64, 64, 3), 200, {}, 11_271_432, 512, 20),
        ((32, 32, 3), 10, {}, 11_173_962, 512, 20),
        ((224, 224, 3), 1000, {"stem": "large", "depth": 50}, 25_557_032, 2048, 53),
        ((224, 224, 3), 1000, {"stem": "large", "depth": 101}, 44_549_160, 2048, 104),
        ((8, 8, 1), 10, {"depth": 10, "stages": 2, "width": 16}, 19_706, 32, 6),
    ],
)
def test_torchvisions_resnets(shape, num_classes, options, expected, features, norms):
    options = {"norm": "batch", "head_pooling": "global", "init": "kaiming_out"} | options
    model = lookup.find("rcig.models", "resnet").make(shape, num_classes, **options)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    assert count(variables["params"]) == expected
    assert variables["params"]["head"]["kernel"].shape == (features, num_classes)
    assert len(jax.tree.leaves(variables["batch_stats"])) == 2 * norms


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side, size", [(7, 3), (8, 3), (7, 5), (8, 5)])
def test_the_depthwise_convolution_is_laxs(side, size, stride):
    images = jax.random.normal(KEY, (2, side, side, 5))
    layer = Depthwise(size, stride)
    variables = layer.init(KEY, images)
    want = lax.conv_general_dilated(
        *(images, variables["params"]["kernel"].astype(images.dtype)),
        *((stride, stride), ((size // 2, size // 2),) * 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=5,
    )
    np.testing.assert_allclose(layer.apply(variables, images), want, atol=1e-6)


@pytest.mark.parametrize("name", INVERTED)
def test_inverted_residuals_halve_the_image_as_often_as_the_stem_says(name):
    make = lookup.find("rcig.models", name).make
    for stem, halvings in (("large", 5), ("small", 3)):
        model = make((32, 32, 3), 5, width=0.1, stem=stem, norm="none")
        variables = jax.eval_shape(model.init, KEY)
        x = jnp.zeros((1, 32, 32, 3))
        jaxpr = jax.make_jaxpr(lambda v, x, m=model: m.apply(v, x, False, None)[0])(variables, x)
        sides = [v.aval.shape[1] for e in jaxpr.eqns for v in e.outvars if len(v.aval.shape) == 4]
        assert sides[-1] == 32 >> halvings


def test_efficientnets_gate_and_stochastic_depth():
    """A gate is a sigmoid of the means; in training a block is left out of whole images, one at a time."""
    x = jax.random.normal(KEY, (64, 4, 4, 8))
    gate = Gate(2)
    variables = gate.init(KEY, x)
    first, second = (variables["params"][f"Dense_{i}"] for i in range(2))
    hidden = nn.silu(x.mean((1, 2)) @ first["kernel"] + first["bias"][None])
    want = x * nn.sigmoid(hidden @ second["kernel"] + second["bias"][None])[:, None, None]
    np.testing.assert_allclose(gate.apply(variables, x), want, atol=1e-6)

    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, x):
            return dropout(self, 0.25, True, whole=True)(x)

    kept = Dropped().apply({}, x, rngs={"dropout": KEY}) / x
    share = kept.reshape(64, -1)
    np.testing.assert_allclose(share, jnp.broadcast_to(share[:, :1], share.shape), rtol=1e-5)  # an image, whole
    assert 8 <= int(jnp.sum(share[:, 0] == 0)) <= 24 and abs(float(jnp.max(share)) - 4 / 3) < 1e-5


def test_a_resnet_with_the_large_stem_and_bottlenecks_pools_all_there_is():
    options = {"stem": "large", "depth": 50, "width": 2, "head_pooling": "global", "init": "kaiming_out"}
    model = lookup.find("rcig.models", "resnet").make((32, 32, 3), 5, stages=2, **options)
    variables = jax.jit(model.init)(KEY)
    images = jax.random.normal(KEY, (2, 32, 32, 3))
    out, _ = jax.jit(lambda variables, x: model.apply(variables, x, False, None))(variables, images)
    assert out.features.shape == (2, 16) and np.all(np.isfinite(out.logits)) and np.all(out.features >= 0)
    stem = variables["params"]["Conv_0"]["kernel"]
    assert abs(float(jnp.std(stem)) * (49 * 2 / 2) ** 0.5 - 1) < 0.2  # N(0, 2 / fan_out), 294 draws


@pytest.mark.parametrize(
    "name, expected",
    [
        *((f"ConvNet{ending}", 320_010) for ending in ("", "D3", "W128", "AR", "AS", "AL", "ASwish", "ASwishBN")),
        *((f"ConvNet{ending}", 320_010) for ending in ("IN", "BN", "GN", "AP", "MP")),
        *(("ConvNetD1", 331_530), ("ConvNetD2", 233_610), ("ConvNetD4", 452_490)),
        *(("ConvNetW32", 24_714), ("ConvNetW64", 86_282), ("ConvNetW256", 1_229_834)),
        *(("ConvNetNN", 319_242), ("ConvNetLN", 663_306), ("ConvNetNP", 1_610_250)),
        *(("MLP", 411_146), ("LeNet", 62_006), ("AlexNet", 1_872_202), ("AlexNetBN", 1_874_122)),
        *(("VGG11", 9_231_114), ("VGG11BN", 9_231_114), ("VGG16BN", 14_728_266)),
        *(("ResNet18", 11_173_962), ("ResNet18BN", 11_173_962)),
        *(("ResNet18_AP", 11_250_762), ("ResNet18BN_AP", 11_250_762)),
    ],
)
def test_the_papers_names_and_their_parameter_counts(name, expected):
    """At 32x32x3 and 10 classes, as the references' networks have them."""
    plugin, options = network(name)
    model = lookup.find("rcig.models", plugin).make((32, 32, 3), 10, **options)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    assert count(variables["params"]) == expected
    assert ("batch_stats" in variables) == ("BN" in name)


def test_names_say_options():
    assert network("ConvNetASwishBN") == ("dc_convnet", {"activation": "swish", "norm": "batch"})
    assert network("ConvNetD2W16NN") == ("dc_convnet", {"depth": 2, "width": 16, "norm": "none"})
    assert network("dc_convnet") == ("dc_convnet", {})  # a file's name, too
    assert network("ResNet18BN_AP") == ("resnet", {"depth": 18, "norm": "batch", "downsampling": "average"})
    for wrong in ("ConvNetW", "AlexNetD3", "VGG11_AP", "ConvNetBNIN", "convnets", ""):
        with pytest.raises(UserError, match=f"unknown network '{wrong}'.*known: AlexNet, AlexNetBN, .*ResNet18BN_AP"):
            network(wrong)
    with pytest.raises(UserError, match="did you mean 'ResNet18BN_AP'"):
        network("ResNet18BN-AP")


@pytest.mark.parametrize("downsampling, features", [("stride", 16), ("average", 16 * 9)])
def test_resnet_by_hand(downsampling, features):
    """Without norms, by lax's own strided convolution, and with a 1x1 convolution before its average."""
    options = {"depth": 10, "width": 2, "norm": "none", "downsampling": downsampling}
    model = lookup.find("rcig.models", "resnet").make((28, 28, 1), 5, **options)
    variables = jax.tree.map(lambda a: a.astype(float), jax.jit(model.init)(KEY))
    params, x = variables["params"], jax.random.normal(KEY, (3, 28, 28, 1))
    logits = jax.jit(lambda x: model.apply(variables, x, False, None)[0].logits)(x)
    mean = lambda x, side=2: nn.avg_pool(x, (side, side), (side, side))

    def conv(x, layer, stride=1):
        pad = len(layer["kernel"]) // 2
        pads = ((pad, pad), (pad, pad))
        return lax.conv_general_dilated(
            x, layer["kernel"], (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def half(x, layer, between=lambda x: x):
        return between(conv(x, layer, 2)) if downsampling == "stride" else mean(between(conv(x, layer)))

    x = nn.relu(conv(x, params["Conv_0"]))
    for stage in range(4):
        block = params[f"Block_{stage}"]
        y = half(x, block["Conv_0"], nn.relu) if stage else nn.relu(conv(x, block["Conv_0"]))
        x = nn.relu(conv(y, block["Conv_1"]) + (half(x, block["Conv_2"]) if stage else x))
    x = (mean(x, 4) if downsampling == "stride" else x).reshape(3, features)
    np.testing.assert_allclose(logits, x @ params["head"]["kernel"] + params["head"]["bias"][None], atol=1e-6)


@pytest.mark.parametrize("pooling, features", [("average", 4 * 4 * 4), ("max", 4 * 4 * 4), ("none", 4 * 8 * 8)])
def test_pooling_of_the_convnet(pooling, features):
    model, variables, x = small("dc_convnet", pooling=pooling, depth=1, norm="none")
    variables = jax.tree.map(lambda a: a.astype(x.dtype), variables)
    got = model.apply(variables, x, False, None)[0].features
    conv = variables["params"]["Conv_0"]
    y = lax.conv_general_dilated(x, conv["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = nn.relu(y + conv["bias"].reshape(1, 1, 1, -1))
    pool = {"average": nn.avg_pool, "max": nn.max_pool, "none": lambda y, *_: y}[pooling]
    np.testing.assert_allclose(got, pool(y, (2, 2), (2, 2)).reshape(6, features), atol=1e-6)


@pytest.mark.parametrize("name", LARGE)
def test_shapes_of_large_networks(name):
    model = lookup.find("rcig.models", name).make((224, 224, 3), 20, dropout=0.5)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    outputs, same = jax.eval_shape(lambda v, x, key: model.apply(v, x, True, key), variables, x, jax.random.key(1))
    assert outputs.logits.shape == (2, 20) and outputs.features.shape == (2, 4096) and same == variables


@pytest.mark.parametrize("name, options", CASES)
def test_contract(name, options):
    model, variables, x = small(name, **options)

    @jax.jit
    def apply(variables, x):
        evaluated, same = model.apply(variables, x, False, None)
        _, trained = model.apply(variables, x, True, jax.random.key(2))
        return evaluated, same, trained

    outputs, same, trained = apply(variables, x)
    head = jax.tree.map(np.asarray, variables["params"]["head"])
    assert outputs.logits.shape == (6, 5) and outputs.features.shape == (6, len(head["kernel"]))
    want = np.asarray(outputs.features) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs.logits, want, atol=1e-5)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [
        k
        for k in variables
        if not all(np.array_equal(*p) for p in zip(*map(jax.tree.leaves, (variables[k], trained[k])), strict=True))
    ]
    assert moved == (["batch_stats"] if options == {"norm": "batch"} else [])


def squared_gradient(name):
    """Return a batch, and its squared gradient of the weights in training: its own gradient differentiates twice."""
    model, variables, x = small(name)

    def loss(params, x):
        logits = model.apply({**variables, "params": params}, x, True, jax.random.key(2))[0].logits
        return jnp.mean(jax.nn.logsumexp(logits, -1) - logits[:, 0])

    return x, lambda x: sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss)(variables["params"], x)))


@pytest.mark.parametrize("name", QUICK)
def test_meta_gradient_reaches_the_inputs(name):
    x, square = squared_gradient(name)
    gradient = jax.jit(jax.grad(square))(x)
    assert gradient.shape == x.shape and jnp.all(jnp.isfinite(gradient)) and jnp.any(gradient != 0)


@pytest.mark.parametrize("name", QUICK)
def test_meta_gradient_has_a_program_for_accelerators(name, monkeypatch):
    x, square = squared_gradient(name)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    program = export.export(jax.jit(jax.grad(square)), platforms=("cuda", "tpu"))(x).mlir_module()
    assert "custom_call" not in program
    assert ("stablehlo.convolution" in program) == (x.ndim == 4)  # XLA's own, for images


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_wants_training_and_a_key(name):
    plain_norm = {"norm": "none"} if "norm" in options_of(name) else {}  # batch norm tells training apart, too
    model, variables, x = small(name, dropout=0.5, **plain_norm)
    modes = [(False, False), (False, True), (True, False), (True, True)]  # train, with a key
    apply = jax.jit(
        lambda key: [model.apply(variables, x, train, key if with_key else None)[0] for train, with_key in modes]
    )
    plain, *plain_too, dropped = apply(jax.random.key(2))
    for same in plain_too:
        np.testing.assert_array_equal(plain.logits, same.logits)
    np.testing.assert_array_equal(dropped.logits, apply(jax.random.key(2))[-1].logits)
    assert jnp.any(dropped.logits != plain.logits)
    assert jnp.any(dropped.logits != apply(jax.random.key(3))[-1].logits)
    head = variables["params"]["head"]
    np.testing.assert_allclose(dropped.logits, dropped.features @ head["kernel"] + head["bias"][None], atol=1e-5)


def test_dropout_keeps_the_mean():
    model, variables, x = small("text_convnet", dropout=0.25)
    features = lambda train, key: model.apply(variables, x, train, key)[0].features
    dropped = jax.jit(jax.vmap(lambda key: features(True, key)))(jax.random.split(jax.random.key(2), 2000))
    features = features(False, None)
    assert abs(float(jnp.mean(dropped[:, features > 0] == 0)) - 0.25) < 0.01
    np.testing.assert_allclose(jnp.mean(dropped, 0), features, atol=0.06 * float(jnp.max(features)))


def test_text_convnets_kernels_have_the_fans_of_a_2d_convolution():
    model = lookup.find("rcig.models", "text_convnet").make((9, 50), 2, width=40)
    params = jax.jit(model.init)(KEY)["params"]
    for window, kernel in zip((3, 4, 5), (params[f"SentenceConv_{i}"]["kernel"] for i in range(3)), strict=True):
        assert kernel.shape == (window, 50, 40)
        fan_in, fan_out = window * 50, window * 50 * 40
        assert abs(float(jnp.std(kernel)) * ((fan_in + fan_out) / 2) ** 0.5 - 1) < 0.05  # 6000 draws and more


def test_the_transformers_token_is_constant_and_order_is_not_seen():
    model, variables, x = small("text_transformer")
    other = jax.jit(model.init)(jax.random.key(7, impl="rbg"))["constants"]
    token = variables["constants"]["target"]
    assert token.shape == (1, 1, 8) and jnp.all((token >= 0) & (token < 1)) and jnp.any(token != other["target"])
    logits = jax.jit(lambda variables, x: model.apply(variables, x, False, None)[0].logits)
    np.testing.assert_allclose(logits(variables, x), logits(variables, x[:, ::-1]), atol=1e-5)
    assert jnp.any(logits(variables, x) != logits({**variables, "constants": other}, x))


def test_initialisers_have_the_references_scale():
    make = lambda name: lookup.find("rcig.models", name).make((32, 32, 3), 10, width=64)
    drawn = lambda name: jax.jit(make(name).init)(KEY)["params"]
    convnet = drawn("convnet")
    kernel = convnet["Conv_1"]["kernel"]  # LeCun normal
    assert abs(float(jnp.std(kernel)) * (9 * 64) ** 0.5 - 1) < 0.02 and not np.any(convnet["Conv_1"]["bias"])
    dc = drawn("dc_convnet")
    bound = (9 * 64) ** -0.5  # uniform, biases too
    for leaf in (dc["Conv_1"]["kernel"], dc["Conv_1"]["bias"]):
        assert 0.9 * bound < float(jnp.max(jnp.abs(leaf))) <= bound
    assert 0.9 * 1024**-0.5 < float(jnp.max(jnp.abs(dc["head"]["kernel"]))) <= 1024**-0.5


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


@pytest.mark.parametrize(
    "name, shape, options, message",
    [
        ("lenet", (16, 16, 1), {}, "28, 32 or 64 pixels"),
        ("vgg", (28, 28, 3), {}, "at least 32 pixels"),
        ("vgg", (32, 32, 3), {"depth": 12}, "one of 11, 13, 16, 19"),
        ("resnet", (8, 8, 1), {}, "at least 28 pixels"),
        ("resnet", (16, 16, 3), {"stem": "large", "head_pooling": "global"}, "at least 32 pixels"),
        ("resnet", (32, 32, 3), {"head_pooling": "gobal"}, "did you mean 'global'"),
        ("resnet", (32, 32, 3), {"stages": 5}, "must lie in 1..4"),
        ("resnet", (32, 32, 3), {"downsampling": "averge"}, "did you mean 'average'"),
        ("resnet", (32, 32, 3), {"depth": 51}, "one of 10, 18, 34"),
        ("dc_alexnet", (784,), {}, "wants images"),
        ("dc_convnet", (8, 8, 1), {"pooling": "maxx"}, "did you mean 'max'"),
        ("mlp", (7,), {"width": 0}, "at least 1"),
        ("lenet", (28, 28, 1), {"init": "xavir"}, "did you mean 'xavier'"),
        ("lenet", (28, 28, 1), {"init_param": 0.0}, "init_param must be positive"),
        ("alexcifarnet", (784,), {}, "wants images"),
        ("alexnet", (32, 32, 3), {}, "224 pixels"),
        ("text_convnet", (28, 28, 1), {}, "embedded sentences"),
        ("text_convnet", (4, 10), {}, "at least 5 words"),
        ("text_conv_lstm", (20, 7), {}, "at least 8"),
        ("text_transformer", (5, 10), {}, "choose a divisor"),
        ("text_rnn", (28, 28, 1), {}, "embedded sentences"),
        ("text_rnn", (5, 4), {"dropout": 1.0}, "below 1"),
    ],
)
def test_unfit_inputs_and_options_are_refused(name, shape, options, message):
    with pytest.raises(UserError, match=message):
        lookup.find("rcig.models", name).make(shape, 2, **options).init(jax.random.key(0))
