"""Native kernels against neural-tangents, and what its bridge leaves behind."""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import empirical, infinite
from kernels import neural_tangents_bridge as bridge
from rcig.errors import UserError
from rcig.evaluation import kernel as protocol

ROOT = Path(__file__).parent.parent
installed = pytest.mark.skipif(
    importlib.util.find_spec("neural_tangents") is None, reason=f"neural-tangents is not installed: {bridge.INSTALL}"
)
ARCHITECTURES = {  # of native and bridge alike: function, options, shape of an example
    "fully_connected": ("fully_connected", {"depth": 3}, (7,)),
    "fully_connected_of_images": ("fully_connected", {"depth": 1, "w_std": 1.2, "b_std": 0.3}, (2, 3, 2)),
    "convnet": ("convnet", {"depth": 1}, (4, 4, 2)),
    "convnet_odd": ("convnet", {"depth": 1}, (5, 3, 1)),
    "convnet3": ("convnet", {"depth": 1, "first": False, "b_std": 0.0}, (4, 4, 1)),
    "myrtle5": ("myrtle", {"depth": 5}, (8, 8, 1)),
    "myrtle7": ("myrtle", {"depth": 7}, (8, 8, 1)),
    "myrtle10": ("myrtle", {"depth": 10}, (8, 8, 1)),
}


def examples(*shape, seed=0, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


@installed
@pytest.mark.parametrize(
    "name, dtype, tolerance",
    [
        pytest.param(name, jnp.float64, 1e-10, marks=[pytest.mark.slow] if name in ("myrtle7", "myrtle10") else [])
        for name in ARCHITECTURES
    ]
    + [(name, jnp.float32, 1e-5) for name in ("fully_connected", "convnet_odd")],
)
def test_native_kernels_are_those_of_neural_tangents(name, dtype, tolerance):
    function, options, shape = ARCHITECTURES[name]
    x1 = examples(2, *shape, dtype=dtype)
    x2 = jnp.concatenate([-x1[:1], x1[1:] + 0.5, examples(1, *shape, seed=1, dtype=dtype)])
    native, theirs = getattr(infinite, function)(**options), getattr(bridge, function)(**options)
    nngp, ntk = jax.jit(native)(x1, x2)
    assert nngp.dtype == ntk.dtype == dtype
    both = jax.jit(lambda a, b: (bridge.nngp(theirs, a, b), bridge.ntk(theirs, a, b)))
    for ours, expected in zip((nngp, ntk), both(x1, x2), strict=True):
        np.testing.assert_allclose(ours, expected, atol=tolerance * float(jnp.max(expected)))


@installed
@pytest.mark.parametrize("name", ["fully_connected", "convnet_odd"])
def test_and_so_are_their_gradients(name):
    function, options, shape = ARCHITECTURES[name]
    x1, x2, weights = examples(2, *shape), examples(3, *shape, seed=1), examples(2, 3, seed=2)
    native, theirs = getattr(infinite, function)(**options), getattr(bridge, function)(**options)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(weights * native(x, x2)[1])))(x1)
    expected = jax.jit(jax.grad(lambda x: jnp.sum(weights * bridge.ntk(theirs, x, x2))))(x1)
    np.testing.assert_allclose(gradient, expected, atol=1e-10 * float(jnp.max(jnp.abs(expected))))


@installed
def test_any_stax_architecture_and_its_name_in_a_config(monkeypatch):
    stax = bridge.load().stax
    erf = stax.serial(stax.Dense(1, 1.5, 0.1), stax.Erf(), stax.Dense(1, 1.5, 0.1))
    x = examples(3, 5)
    k = 1.5**2 * np.asarray(x @ x.T) / 5 + 0.01
    scale = 1 + 2 * np.diag(k)
    hidden = 2 / np.pi * np.arcsin(2 * k / np.sqrt(np.outer(scale, scale)))  # Williams 1997
    np.testing.assert_allclose(bridge.nngp(erf, x, x), 1.5**2 * hidden + 0.01, rtol=1e-9)
    protocol.check("eval", "stax_convnet3", 1)
    images = examples(3, 4, 4, 1)
    monkeypatch.setattr(bridge, "BLOCK", 2 * 3 * 16**2)  # two rows of three columns, 16 pixels each
    kernel = lambda name: jax.jit(lambda x: infinite.ntk(name, 1, x, x + 1))
    np.testing.assert_allclose(kernel("stax_convnet3")(images), kernel("convnet3")(images), rtol=1e-9)
    assert "while" in kernel("stax_convnet3").lower(images).as_text()


@installed
def test_empirical_kernels_are_those_of_neural_tangents():
    stax = bridge.load().stax
    layers = (stax.Conv(3, (3, 3), padding="SAME"), stax.Relu(), stax.Flatten(), stax.Dense(2))
    init, apply, _ = stax.serial(*layers)
    x1, x2 = examples(3, 4, 4, 1), examples(2, 4, 4, 1, seed=1)
    _, params = init(jax.random.key(0), x1.shape)
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    theirs = bridge.load().empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, implementation=1)
    with warnings.catch_warnings(action="ignore"):
        expected = theirs(x1, x2, params)
    np.testing.assert_allclose(empirical.ntk_full(apply, params, x1, x2), expected, atol=1e-12)


@installed
def test_nothing_stays_patched_and_tensorflow_never_loads():
    code = (
        "import sys, jax, jax.core, jax.interpreters.ad; before = {n: set(dir(m)) for n, m in"
        " (('core', jax.core), ('ad', jax.interpreters.ad))}; modules = set(sys.modules);"
        "from kernels import neural_tangents_bridge as bridge;"
        "assert 'neural_tangents' not in sys.modules; bridge.load();"
        "assert before == {'core': set(dir(jax.core)), 'ad': set(dir(jax.interpreters.ad))};"
        "left = {'tensorflow', 'jax.util', 'neural_tangents.experimental'} & set(sys.modules); assert not left, left"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def fails(problem):
    raise problem


@pytest.mark.parametrize(
    "name, substitute, told",
    [
        (
            "metadata.version",
            lambda _: fails(bridge.importlib.metadata.PackageNotFoundError()),
            "is not installed; pip",
        ),
        ("metadata.version", lambda _: "0.7.0", "is of version 0.7.0, this needs 0.6.5; pip"),
        (
            "import_module",
            lambda _: fails(ImportError("no Jaxpr")),
            r"does not import with jax .*\(no Jaxpr\); take a na",
        ),
    ],
)
def test_where_it_cannot_be_had_the_error_says_what_to_do(name, substitute, told, monkeypatch):
    monkeypatch.setattr(bridge.importlib.metadata, "version", lambda _: bridge.VERSION)
    monkeypatch.setattr(f"importlib.{name}", substitute)
    bridge.load.cache_clear()
    try:
        with pytest.raises(UserError, match=told):
            protocol.check("eval", "stax_convnet", 3)
    finally:
        bridge.load.cache_clear()
    assert not hasattr(jax.core, "Jaxpr")
