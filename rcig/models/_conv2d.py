"""A 2-D convolution whose every derivative is again a plain forward convolution.

On the CPU backend the rules of ``lax.conv_general_dilated`` write the two transposes of a convolution with permuted
dimension numbers and dilations. Outside a loop XLA rewrites them to its fast form; inside ``lax.scan``, ``fori_loop``
and ``lax.map`` it does not, and they run 30-100 times slower (jax issue 12868). Here <y, conv(x, k)> is one trilinear
form of which three primitives are the derivatives,

    conv(x, k) -> y        transposed(y, k) -> x        correlate(x, y) -> k,

so that both transposes of each are the other two. All lower to forward NHWC convolutions: a loop costs what the
straight line costs, at every order and for jvp, vjp, hvp and vmap. ``correlate`` sums over chunks of 8 images, which
keeps its operands in cache (3-5 times faster for 64 and more images). A window larger than the image, as where a
28-pixel image is padded to 32 or a deep network has come down to 2 pixels, meets an image that is padded before (10-100
times faster). Wide 3x3 convolutions are Winograd's (1.4-3 times faster, see `_winograd`), unless ``precision`` is
float32; thin ones are matrix products (2-15 times, see `_banded`).

On GPU and TPU ``conv2d`` is ``lax``'s own convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rcig.chunks import sum_rows
from rcig.models import _banded, _winograd

Padding = tuple[tuple[int, int], tuple[int, int]]

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_CHUNK = 8  # images a partial sum of ``correlate``


def conv2d(x: jax.Array, k: jax.Array, padding: str | Padding = "SAME") -> jax.Array:
    """Convolve images with a kernel at stride 1.

    y[b,i,j,o] = sum_{h,w,c} x[b, i+h-top, j+w-left, c] k[h,w,c,o]   (zero outside the image)

    Args: x (B,H,W,C); k (h,w,C,O); padding "SAME", "VALID" or ((top, bottom), (left, right)), at least 0 each.
    Returns: (B,H',W',O) in the common dtype of x and k.
    """
    dtype = jnp.result_type(x, k)
    x, k = x.astype(dtype), k.astype(dtype)
    padding = explicit_padding(padding, k)
    if jax.default_backend() != "cpu":
        return _plain(x, k, padding=padding)
    return _conv_p.bind(x, k, padding=padding)


def explicit_padding(padding: str | Padding, k: jax.Array) -> Padding:
    """Return ((top, bottom), (left, right)) for "SAME", "VALID" or the numbers themselves."""
    if padding == "SAME":
        return tuple(((n - 1) // 2, n // 2) for n in k.shape[:2])
    return ((0, 0), (0, 0)) if padding == "VALID" else padding


def _plain(x, k, *, padding):
    return lax.conv_general_dilated(x, k, (1, 1), padding, dimension_numbers=DIMENSIONS)


def _fast(x, k, *, padding):
    """The same for a CPU: Winograd's, banded, or where XLA calls its fast kernel, while the window fits the image."""
    if _banded.suits(k.shape):
        return _banded.conv(x, k, padding=padding)
    if _winograd.suits(k.shape, _conv_shape(x, k, padding=padding).shape):
        return _winograd.conv(x, k, padding=padding)
    if any(window > side for window, side in zip(k.shape[:2], x.shape[1:3], strict=True)):
        x = lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))  # or XLA takes the padding back
        padding = ((0, 0), (0, 0))
    return _plain(x, k, padding=padding)


def _fast_transposed(y, k, *, padding):
    """x[b,i,j,c] = sum_{h,w,o} y[b, i-h+top, j-w+left, o] k[h,w,c,o]: a convolution with the turned kernel."""
    if _banded.suits(k.shape):
        return _banded.transposed(y, k, padding=padding)
    if _winograd.suits(k.shape, _transposed_shape(y, k, padding=padding).shape):
        return _winograd.transposed(y, k, padding=padding)
    return _fast(y, _banded.turned(k), padding=_banded.turned_padding(k.shape, padding))


def _fast_correlate(x, y, *, padding):
    """k[h,w,c,o] = sum_{b,i,j} x[b, i+h-top, j+w-left, c] y[b,i,j,o]: one of theirs, or images become channels."""
    kernel = _correlate_shape(x, y, padding=padding).shape
    if _banded.suits(kernel):
        return _banded.correlate(x, y, padding=padding)
    if _winograd.suits(kernel, y.shape):
        return _winograd.correlate(x, y, padding=padding)

    def chunk(xy):
        return _fast(xy[0].transpose(3, 1, 2, 0), xy[1].transpose(1, 2, 0, 3), padding=padding)  # (C, h, w, O)

    return sum_rows(chunk, (x, y), _CHUNK).transpose(1, 2, 0, 3)


def _conv_shape(x, k, *, padding):
    return jax.core.ShapedArray((x.shape[0], *_fitting(x.shape[1:3], k.shape[:2], padding), k.shape[3]), x.dtype)


def _transposed_shape(y, k, *, padding):
    sides = _fitting(y.shape[1:3], k.shape[:2], _banded.turned_padding(k.shape, padding))
    return jax.core.ShapedArray((y.shape[0], *sides, k.shape[2]), y.dtype)


def _correlate_shape(x, y, *, padding):
    return jax.core.ShapedArray((*_fitting(x.shape[1:3], y.shape[1:3], padding), x.shape[3], y.shape[3]), x.dtype)


def _fitting(sides, window, padding):
    """Return at how many places along both axes a window fits."""
    return tuple(side + sum(pads) - size + 1 for side, size, pads in zip(sides, window, padding, strict=True))


def _primitive(name, plain, shape, folds):
    """Return a bilinear primitive; ``folds`` says which axis of each argument is free, and where the result has it."""
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(plain, static_argnames="padding"))
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))

    def batch(args, dims, *, padding):
        """An axis that one argument has is folded into a free one; grouped convolutions are slower than a stack."""
        fn = partial(primitive.bind, padding=padding)
        if None not in dims:
            pairs = zip(*(jnp.moveaxis(arg, dim, 0) for arg, dim in zip(args, dims, strict=True)), strict=True)
            return jnp.stack([fn(*pair) for pair in pairs]), 0
        which = dims.index(None) ^ 1
        axis, place = folds[which]
        mapped = jnp.moveaxis(args[which], dims[which], axis)
        count, free = mapped.shape[axis : axis + 2]
        folded = mapped.reshape(*mapped.shape[:axis], count * free, *mapped.shape[axis + 2 :])
        out = fn(*(folded if i == which else arg for i, arg in enumerate(args)))
        return out.reshape(*out.shape[:place], count, free, *out.shape[place + 1 :]), place

    batching.primitive_batchers[primitive] = batch
    return primitive


_conv_p = _primitive("conv2d", _fast, _conv_shape, ((0, 0), (3, 3)))
_transposed_p = _primitive("conv2d_transposed", _fast_transposed, _transposed_shape, ((0, 0), (2, 3)))
_correlate_p = _primitive("conv2d_correlate", _fast_correlate, _correlate_shape, ((3, 2), (3, 3)))

# the derivatives of <y, conv(x, k)> = <x, transposed(y, k)> = <k, correlate(x, y)>; of each, those by its arguments
_by_x, _by_k, _by_y = (
    lambda x, k, y, **padding: _transposed_p.bind(y, k, **padding),
    lambda x, k, y, **padding: _correlate_p.bind(x, y, **padding),
    lambda x, k, y, **padding: _conv_p.bind(x, k, **padding),
)
ad.defbilinear(_conv_p, lambda y, x, k, **p: _by_x(x, k, y, **p), lambda y, x, k, **p: _by_k(x, k, y, **p))
ad.defbilinear(_transposed_p, lambda x, y, k, **p: _by_y(x, k, y, **p), lambda x, y, k, **p: _by_k(x, k, y, **p))
ad.defbilinear(_correlate_p, lambda k, x, y, **p: _by_x(x, k, y, **p), lambda k, x, y, **p: _by_y(x, k, y, **p))
