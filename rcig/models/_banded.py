"""A convolution of few channels as one matrix product, for the CPU.

With 1-6 input and 6-16 output channels a convolution is too thin for the CPU's kernels. Taking a whole row of the
image as one vector, it is a product with a banded matrix made of copies of the kernel,

    y[b, i, (j, o)] = sum_{h, (w, c)} x[b, i + h, (w, c)] T[(h, w, c), (j, o)],    T[h, w, c, j, o] = k[h, w - j, c, o],

with image_width / kernel_width times the arithmetic, but at the speed of matrix products, at every order of derivative
and under vmap. LeNet's training step and its meta-gradient are 2.5-3 times faster than with `conv2d`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rcig.models._conv2d import Padding, conv2d, explicit_padding


def banded_conv2d(x: jax.Array, k: jax.Array, padding: str | Padding = "SAME") -> jax.Array:
    """Convolve as `conv2d` does, (B,H,W,C) and (h,w,C,O) -> (B,H',W',O); off the CPU it is `conv2d`."""
    if jax.default_backend() != "cpu":
        return conv2d(x, k, padding)
    x = jnp.pad(x, ((0, 0), *explicit_padding(padding, k), (0, 0)))
    rows = x.shape[1] - len(k) + 1
    x = x.reshape(*x.shape[:2], -1)  # (B, H, W*C)
    x = jnp.concatenate([x[:, i : i + rows] for i in range(len(k))], -1)  # (B, H', h*W*C)
    y = x @ _banded(k, x.shape[2] // (len(k) * k.shape[2]))
    return y.reshape(*y.shape[:2], -1, k.shape[3])


def _banded(k: jax.Array, width: int) -> jax.Array:
    """Return T as a (h*W*C, W'*O) matrix for a padded image ``width`` wide."""
    offset = np.arange(width)[:, None] - np.arange(width - k.shape[1] + 1)  # (W, W'): w - j
    band = jnp.asarray(offset[..., None] == np.arange(k.shape[1]), k.dtype)
    t = jnp.einsum("wjd,hdco->hwcjo", band, k)
    return t.reshape(len(k) * width * k.shape[2], -1)
