"""A 2-D convolution whose every derivative is again a plain forward convolution.

On the CPU backend the rules of ``lax.conv_general_dilated`` write the two transposes of a convolution with permuted
dimension numbers and dilations. Outside a loop XLA rewrites them to its fast form; inside ``lax.scan``, ``fori_loop``
and ``lax.map`` it does not, and they run 30-100 times slower (jax issue 12868). Here two bilinear primitives,

    conv(x, k) -> y        and        correlate(x, y) -> k   (the gradient of the kernel),

are closed under transposition: each transpose of either is one of the two. Both lower to forward NHWC convolutions, so
a loop costs what the straight line costs, at every order and for jvp, vjp, hvp and vmap. ``correlate`` sums over
chunks of 8 images, which keeps its operands in cache (3-5 times faster for 64 and more images). A window larger than
the image, as where a 28-pixel image is padded to 32 or a deep network has come down to 2 pixels, meets an image that is
padded before (10-100 times faster). Wide 3x3 convolutions, and their kernel gradients, are Winograd's (1.4-3 times
faster, see `_winograd`), unless ``precision`` is float32; thin ones are matrix products (2-15 times, see `_banded`).

On GPU and TPU ``conv2d`` is ``lax``'s own convolution.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rcig.chunks import sum_rows
from rcig.models import _banded, _winograd

Padding = tuple[tuple[int, int], tuple[int, int]]

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
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
    return lax.conv_general_dilated(x, k, (1, 1), padding, dimension_numbers=_DIMENSIONS)


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
    (top, bottom), (left, right) = padding
    height, width = x.shape[1] + top + bottom - k.shape[0] + 1, x.shape[2] + left + right - k.shape[1] + 1
    return jax.core.ShapedArray((x.shape[0], height, width, k.shape[3]), x.dtype)


def _correlate_shape(x, y, *, padding):
    (top, bottom), (left, right) = padding
    height, width = x.shape[1] + top + bottom - y.shape[1] + 1, x.shape[2] + left + right - y.shape[2] + 1
    return jax.core.ShapedArray((height, width, x.shape[3], y.shape[3]), x.dtype)


def _transposed_conv(y, k, *, padding):
    """The x for which <x, x'> = <y, conv(x', k)>: a convolution with the flipped kernel."""
    return _conv_p.bind(y, _banded.turned(k), padding=_banded.turned_padding(k.shape, padding))


def _correlate(x, y, *, padding):
    return _correlate_p.bind(x, y, padding=padding)


def _conv(x, k, *, padding):
    return _conv_p.bind(x, k, padding=padding)


def _primitive(name, plain, shape, transposes, batch):
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(plain, static_argnames="padding"))
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))
    ad.defbilinear(primitive, *transposes)
    batching.primitive_batchers[primitive] = batch
    return primitive


def _batch_conv(args, dims, *, padding):
    (x, k), (dx, dk) = args, dims
    if dk is None:  # fold the mapped axis into the batch
        x = jnp.moveaxis(x, dx, 0)
        y = _conv(x.reshape(-1, *x.shape[2:]), k, padding=padding)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    if dx is None:  # one wide kernel
        k = jnp.moveaxis(k, dk, 3)
        y = _conv(x, k.reshape(*k.shape[:3], -1), padding=padding)
        return y.reshape(*y.shape[:3], *k.shape[3:]), 3
    pairs = zip(jnp.moveaxis(x, dx, 0), jnp.moveaxis(k, dk, 0), strict=True)
    return jnp.stack([_conv(*pair, padding=padding) for pair in pairs]), 0  # grouped convolutions are slower


def _batch_correlate(args, dims, *, padding):
    (x, y), (dx, dy) = args, dims
    if dy is None:  # more input channels
        x = jnp.moveaxis(x, dx, 3)
        k = _correlate(x.reshape(*x.shape[:3], -1), y, padding=padding)
        return k.reshape(*k.shape[:2], *x.shape[3:], k.shape[3]), 2
    if dx is None:  # more output channels
        y = jnp.moveaxis(y, dy, 3)
        k = _correlate(x, y.reshape(*y.shape[:3], -1), padding=padding)
        return k.reshape(*k.shape[:3], *y.shape[3:]), 3
    pairs = zip(jnp.moveaxis(x, dx, 0), jnp.moveaxis(y, dy, 0), strict=True)
    return jnp.stack([_correlate(*pair, padding=padding) for pair in pairs]), 0


# transposes of conv: d<y, conv(x,k)>/dx and /dk; of correlate: d<k, correlate(x,y)>/dx and /dy
_conv_p = _primitive(
    "conv2d",
    _fast,
    _conv_shape,
    (lambda y, x, k, *, padding: _transposed_conv(y, k, padding=padding), lambda y, x, k, **p: _correlate(x, y, **p)),
    _batch_conv,
)
_correlate_p = _primitive(
    "conv2d_correlate",
    _fast_correlate,
    _correlate_shape,
    (lambda k, x, y, *, padding: _transposed_conv(y, k, padding=padding), lambda k, x, y, **p: _conv(x, k, **p)),
    _batch_correlate,
)
