"""The convolutions against lax's own, in float64, at every order of differentiation."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from rcig.models import _banded, _winograd
from rcig.models._conv2d import DIMENSIONS, conv2d
from rcig.models._strided import strided_conv2d

PADDINGS = ["SAME", "VALID", ((3, 3), (3, 3)), ((0, 2), (1, 0))]


def reference(x, k, padding):
    return lax.conv_general_dilated(x, k, (1, 1), padding, dimension_numbers=DIMENSIONS)


def operands(batch=3, shape=(7, 6), kernel=(3, 5), channels=(2, 4)):
    keys = jax.random.split(jax.random.key(0), 4)
    x, dx = (jax.random.normal(key, (batch, *shape, channels[0])) for key in keys[:2])
    k, dk = (jax.random.normal(key, (*kernel, *channels)) for key in keys[2:])
    return (x, k), (dx, dk)


def orders(conv, padding, channels=(2, 4)):
    """The value and four derivatives, as functions of (x, k)."""
    value = lambda x, k: jnp.sum(jnp.tanh(conv(x, k, padding)) ** 2)
    gradient = jax.grad(value, (0, 1))
    tangent = lambda x, k: jax.jvp(gradient, (x, k), operands(channels=channels)[1])[1]  # Hessian-vector product
    square = lambda x, k: sum(jnp.sum(g**2) for g in gradient(x, k))
    second = jax.grad(square, (0, 1))
    third = lambda x, k: jax.jvp(second, (x, k), operands(channels=channels)[1])[1]
    return {"value": value, "gradient": gradient, "hvp": tangent, "second": second, "third": third}


BETWEEN = [pytest.param(order, marks=pytest.mark.slow) for order in ("hvp", "second")]  # the third goes through them


@pytest.mark.parametrize("order", ["value", "gradient", *BETWEEN, "third"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("channels", [(2, 4), (10, 12)])  # banded, and XLA's own
def test_equals_lax_at_every_order(channels, padding, order):
    args, _ = operands(channels=channels)
    assert _banded.suits(args[1].shape) == (channels == (2, 4))
    got = jax.jit(orders(conv2d, padding, channels)[order])(*args)
    want = jax.jit(orders(reference, padding, channels)[order])(*args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert jnp.max(jnp.abs(a - b)) <= 1e-10 * jnp.max(jnp.abs(b))


@pytest.mark.parametrize("padding", [*PADDINGS, ((5, 5), (4, 6))])
@pytest.mark.parametrize("channels, kernel", [((1, 6), (5, 5)), ((6, 16), (5, 7)), ((16, 2), (7, 5))])
def test_thin_convolutions_equal_lax(channels, kernel, padding):
    (x, k), _ = operands(17, (9, 11), kernel, channels)
    assert _banded.suits(k.shape)
    for order in ("value", "second"):
        got, want = (jax.jit(orders(conv, padding)[order])(x, k) for conv in (conv2d, reference))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert jnp.max(jnp.abs(a - b)) <= 1e-10 * jnp.max(jnp.abs(b))


WIDE = {  # batch, shape, padding: one block and several, whole tiles and not, a remainder
    "whole": (4, (8, 8), "SAME"),
    "blocks": (5, (32, 16), "SAME"),
    "cut": (4, (7, 14), "SAME"),
    "valid": (4, (10, 9), "VALID"),
    "padded": (2, (10, 13), ((3, 3), (0, 2))),
}


@pytest.mark.parametrize("case", WIDE)
def test_wide_convolutions_and_their_kernel_gradients_equal_lax(case):
    batch, shape, padding = WIDE[case]
    (x, k), _ = operands(batch, shape, (3, 3), (32, 40))
    assert _winograd.suits(k.shape, reference(x, k, padding).shape)
    for order in ("value", "gradient", "second"):
        got, want = (jax.jit(orders(conv, padding)[order])(x, k) for conv in (conv2d, reference))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert jnp.max(jnp.abs(a - b)) <= 1e-11 * jnp.max(jnp.abs(b))


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((0, 2), (1, 0))])
@pytest.mark.parametrize("channels", [(32, 48), pytest.param((256, 512), marks=pytest.mark.slow)])
def test_large_kernels_keep_the_order_of_their_channels(channels, padding, monkeypatch):
    if channels == (32, 48):
        monkeypatch.setattr(_winograd, "_LARGE", 32 * 48)
    (x, k), _ = operands(4, (10, 9), (3, 3), channels)
    assert k[0, 0].size >= _winograd._LARGE and _winograd.suits(k.shape, reference(x, k, padding).shape)
    gradient = lambda conv: jax.grad(lambda x, k: jnp.sum(jnp.sin(conv(x, k, padding))), (0, 1))
    for a, b in zip(*(jax.jit(gradient(conv))(x, k) for conv in (conv2d, reference)), strict=True):
        assert jnp.max(jnp.abs(a - b)) <= 1e-11 * jnp.max(jnp.abs(b))


def test_wide_convolutions_are_rounded_as_documented_or_not_at_all():
    (x, k), _ = operands(4, (16, 16), (3, 3), (64, 64))
    single = (x.astype(jnp.float32), k.astype(jnp.float32))
    y, exact = conv2d(*single), reference(x, k, "SAME")
    assert 5e-7 < jnp.std(y - exact) / jnp.std(exact) < 5e-6
    with jax.default_matmul_precision("float32"):
        plain = conv2d(*single)
    assert jnp.std(plain - exact) / jnp.std(exact) < 5e-7


@pytest.mark.parametrize(
    "kernel, outputs",
    [
        ((3, 3, 16, 64), (64, 8, 8, 64)),
        ((5, 5, 64, 64), (64, 8, 8, 64)),
        ((3, 3, 64, 64), (3, 8, 8, 64)),
        ((3, 3, 64, 64), (64, 2, 2, 64)),
    ],
)
def test_narrow_few_or_small_convolutions_are_plain(kernel, outputs):
    assert not _winograd.suits(kernel, outputs)


@pytest.mark.parametrize("stride, sides, kernel, pad", [(4, (17, 18, 20, 24), (11, 10), 2), (2, (7, 8), (3, 3), 1)])
def test_strided_equals_lax(stride, sides, kernel, pad):
    padding = ((pad, pad), (pad, pad))
    strided = lambda x, k: strided_conv2d(x, k, padding, stride)
    lax_conv = lambda x, k: lax.conv_general_dilated(x, k, (stride, stride), padding, dimension_numbers=DIMENSIONS)
    loss = lambda conv: lambda x, k: jnp.sum(jnp.sin(conv(x, k)))
    for side in sides:
        (x, k), _ = operands(2, (side, 21), kernel)
        assert jax.eval_shape(strided, x, k).shape == jax.eval_shape(lax_conv, x, k).shape
        for a, b in zip(*(jax.jit(jax.grad(loss(conv), (0, 1)))(x, k) for conv in (strided, lax_conv)), strict=True):
            assert jnp.max(jnp.abs(a - b)) < 1e-11


@pytest.mark.parametrize("shape", [(2, 2), (1, 4)])
def test_a_window_larger_than_the_image(shape):
    """Padded before the convolution, also within a vmap and a loop."""
    (x, k), (dx, dk) = operands(9, shape, (3, 3), (10, 12))

    def hvp(conv):
        gradient = jax.grad(lambda x, k: jnp.sum(jnp.tanh(conv(x, k, "SAME")) ** 2), (0, 1))
        product = lambda x, k: jax.jvp(gradient, (x, k), (dx, dk))
        mapped = jax.vmap(product, (None, 0))(x, jnp.stack([k, dk]))
        return jax.lax.scan(lambda c, _: (jax.tree.map(jnp.add, c, mapped), None), mapped, None, length=2)[0]

    for a, b in zip(
        *map(jax.tree.leaves, (jax.jit(hvp, static_argnums=0)(f) for f in (conv2d, reference))), strict=True
    ):
        assert jnp.max(jnp.abs(a - b)) <= 1e-10 * jnp.max(jnp.abs(b))


@pytest.mark.parametrize("channels", [(2, 4), (10, 12)])  # banded, and XLA's own
@pytest.mark.parametrize("batch", [8, 16, 21, 37])  # one chunk, whole chunks, a remainder: of 8 and of 16
def test_chunked_kernel_gradient(batch, channels):
    (x, k), _ = operands(batch, channels=channels)
    loss = lambda conv: lambda k: jnp.sum(jnp.sin(conv(x, k, "SAME")))
    got, want = jax.grad(loss(conv2d))(k), jax.grad(loss(reference))(k)
    assert jnp.max(jnp.abs(got - want)) < 1e-11


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 3)])
def test_vmap_of_the_gradient(axes):
    (x, k), (dx, dk) = operands()
    pairs = zip((x, k), (dx, dk), axes, strict=True)
    stacked = [a if axis is None else jnp.stack([a, b], axis) for a, b, axis in pairs]
    loss = lambda conv: lambda x, k: jnp.sum(jnp.sin(conv(x, k, "SAME")))
    got, want = (jax.vmap(jax.grad(loss(conv), (0, 1)), axes)(*stacked) for conv in (conv2d, reference))
    for a, b in zip(got, want, strict=True):
        assert jnp.max(jnp.abs(a - b)) < 1e-11


def test_linearize_and_its_transpose_are_adjoint():
    (x, k), (dx, dk) = operands()
    _, forward = jax.linearize(lambda k: conv2d(x, k), k)
    y = forward(dk)
    (back,) = jax.linear_transpose(forward, k)(y)
    assert jnp.allclose(jnp.vdot(y, y), jnp.vdot(back, dk), rtol=1e-12)


def test_mixed_dtypes_are_promoted():
    (x, k), _ = operands()
    assert conv2d(x.astype(jnp.float32), k).dtype == jnp.float64
    assert conv2d(x.astype(jnp.float32), k.astype(jnp.float32)).dtype == jnp.float32
