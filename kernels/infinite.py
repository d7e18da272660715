"""Kernels of infinitely wide ReLU networks in closed form: the NNGP and the neural tangent kernel.

    kernel = serial(conv(), relu(), average_pool(), flatten(), dense())
    nngp, ntk = kernel(x1, x2)                      # (N1, N2) each; x (N, H, W, C) or (N, D)
    nngp, ntk = fully_connected(depth=1)(x1, x2)

NTK parameterisation (Jacot et al. 2018; Lee et al. 2019): weights W_std N(0, 1) / sqrt(fan_in), biases b_std N(0, 1).
With K, T the covariance of pre-activations and its tangent, at every pair of examples and of pixels:

    dense, conv   K <- W_std^2 mean_patch(K) + b_std^2,    T <- W_std^2 mean_patch(T) + K (the new one)
    relu          K <- sqrt(v v') (sin a + (pi - a) cos a) / 2 pi,  T <- T (pi - a) / 2 pi,  cos a = K / sqrt(v v')
                  (arc-cosine kernels: Cho & Saul 2009), v the variance at either pixel

Differentiable in the inputs, also where cos a = 1. A pair of H x W images costs (H W)^2 numbers while there are pixels:
8x8 images 16 kB a pair in float32, 32x32 images 4 MB. `blocked` computes a large kernel a few rows at a time.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

Kernel = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]  # (x1, x2) -> NNGP, NTK


class Covariance(NamedTuple):
    """What a layer maps. Axes: examples of x1, of x2, then rows h, H and columns w, W of either image."""

    nngp: jax.Array  # (N1, N2, h, H, w, W)
    ntk: jax.Array
    self_1: jax.Array  # (N1, 1, h, H, w, W), of each example with itself
    self_2: jax.Array  # (N2, 1, h, H, w, W)


Layer = Callable[[Covariance], Covariance]


def serial(*layers: Layer) -> Kernel:
    """Return the kernels of a network whose last layer leaves no pixels (flatten or global_pool, then dense)."""

    def kernel(x1, x2):
        state = _start(x1, x2)
        for layer in layers:
            state = layer(state)
        return state.nngp[:, :, 0, 0, 0, 0], state.ntk[:, :, 0, 0, 0, 0]

    return kernel


def fully_connected(depth: int = 1, w_std: float = 2**0.5, b_std: float = 0.1) -> Kernel:
    """Return the kernels of ``depth`` hidden ReLU layers; images are flattened."""
    hidden = [layer for _ in range(depth) for layer in (dense(w_std, b_std), relu())]
    flat = lambda x: x.reshape(len(x), -1)
    kernel = serial(*hidden, dense(w_std, b_std))
    return lambda x1, x2: kernel(flat(x1), flat(x2))


def convnet(depth: int = 3, first: bool = True, w_std: float = 2**0.5, b_std: float = 0.1) -> Kernel:
    """Return KIP's ConvNet: conv and ReLU (not ``first``: ConvNet3), then blocks of conv, ReLU, 2x2 average pool."""
    step = [conv(w_std, b_std), relu()]
    blocks = [layer for _ in range(depth) for layer in (*step, average_pool())]
    return serial(*(step if first else []), *blocks, flatten(), dense(w_std, b_std))


def myrtle(depth: int = 5, w_std: float = 2**0.5, b_std: float = 0.1) -> Kernel:
    """Return Myrtle-5, -7 or -10 (Shankar et al. 2020): blocks of convolutions, three pools, the last to one pixel."""
    blocks = {5: (1, 1, 2), 7: (2, 2, 2), 10: (3, 3, 3)}[depth]
    step = [conv(w_std, b_std), relu()]
    layers = [layer for n in blocks for layer in (*(n * step), average_pool())]
    return serial(*layers, global_pool(), dense(w_std, b_std))


KERNELS: dict[str, Callable[[int], Kernel]] = {  # by name, of a depth
    "fully_connected": fully_connected,
    "convnet": convnet,
    "convnet3": partial(convnet, first=False),
    "myrtle": myrtle,
}


def ntk(kernel: str, depth: int, x1: jax.Array, x2: jax.Array, rows: int = 0) -> jax.Array:
    """Return the tangent kernel (N1, N2) of KERNELS[kernel](depth), ``rows`` rows of x1 at a time (0: all).

    In float64 where jax's 64-bit mode is on, as the references compute: with a ridge of 1e-6 of the mean diagonal
    float32 loses the small eigenvalues.
    """
    x1, x2 = (jnp.asarray(x, jnp.result_type(float)) for x in (x1, x2))
    fn = lambda a, b: KERNELS[kernel](depth)(a, b)[1]
    return blocked(fn, x1, x2, rows) if rows else fn(x1, x2)


def dense(w_std: float = 2**0.5, b_std: float = 0.1) -> Layer:
    """A dense layer over channels, the same at every pixel."""
    return lambda state: _affine(state, lambda k: k, w_std, b_std)


def conv(w_std: float = 2**0.5, b_std: float = 0.1, size: int = 3) -> Layer:
    """A convolution with zero padding, stride 1."""

    def patches(k):
        pad = size // 2
        k = jnp.pad(k, ((0, 0), (0, 0), *4 * [(pad, pad)]))
        (h, tall), (w, wide) = k.shape[2:4], k.shape[4:6]
        cut = lambda i, j: k[
            :, :, i : h - 2 * pad + i, i : tall - 2 * pad + i, j : w - 2 * pad + j, j : wide - 2 * pad + j
        ]
        return sum(cut(i, j) for i in range(size) for j in range(size)) / size**2

    return lambda state: _affine(state, patches, w_std, b_std)


def relu() -> Layer:
    """ReLU. At cos a = 1 value and gradient are the limits."""

    def layer(state):
        v_1, v_2 = _variances(state.self_1), _variances(state.self_2)  # (N, h, w)
        nngp, slope = _arc_cosine(state.nngp, _rows(v_1)[:, None], _columns(v_2)[None])
        self_1, _ = _arc_cosine(state.self_1, _rows(v_1)[:, None], _columns(v_1)[:, None])
        self_2, _ = _arc_cosine(state.self_2, _rows(v_2)[:, None], _columns(v_2)[:, None])
        return Covariance(nngp, state.ntk * slope, self_1, self_2)

    return layer


def average_pool() -> Layer:
    """2x2 average at stride 2; an odd last row or column is dropped."""

    def pool(k):
        h, tall, w, wide = (side // 2 for side in k.shape[2:])
        k = k[:, :, : 2 * h, : 2 * tall, : 2 * w, : 2 * wide]
        return k.reshape(*k.shape[:2], h, 2, tall, 2, w, 2, wide, 2).mean((3, 5, 7, 9))

    return lambda state: Covariance(*map(pool, state))


def global_pool() -> Layer:
    """The mean over all pixels."""
    return lambda state: Covariance(*(k.mean((2, 3, 4, 5), keepdims=True) for k in state))


def flatten() -> Layer:
    """All pixels as channels: the mean over equal pixels."""

    def trace(k):
        return jnp.einsum("abhhww->ab", k)[:, :, None, None, None, None] / (k.shape[2] * k.shape[4])

    return lambda state: Covariance(*map(trace, state))


def blocked(kernel: Callable[[jax.Array, jax.Array], jax.Array], x1: jax.Array, x2: jax.Array, rows: int) -> jax.Array:
    """Return ``kernel(x1, x2)`` (N1, N2), ``rows`` rows of x1 at a time; the backward pass holds one block."""
    fn = jax.checkpoint(lambda x: kernel(x[None], x2)[0])
    return jax.lax.map(fn, x1, batch_size=min(rows, len(x1)))


def _start(x1: jax.Array, x2: jax.Array) -> Covariance:
    if x1.ndim == 2:
        x1, x2 = x1[:, None, None], x2[:, None, None]
    product = lambda a, b: jnp.einsum("ahwc,bHWc->abhHwW", a, b, precision="highest") / a.shape[-1]
    own = lambda x: (jnp.einsum("ahwc,aHWc->ahHwW", x, x, precision="highest") / x.shape[-1])[:, None]
    nngp = product(x1, x2)
    return Covariance(nngp, jnp.zeros_like(nngp), own(x1), own(x2))


def _affine(state: Covariance, mean: Callable[[jax.Array], jax.Array], w_std: float, b_std: float) -> Covariance:
    nngp, self_1, self_2 = (w_std**2 * mean(k) + b_std**2 for k in (state.nngp, state.self_1, state.self_2))
    return Covariance(nngp, w_std**2 * mean(state.ntk) + nngp, self_1, self_2)


def _variances(own: jax.Array) -> jax.Array:
    return jnp.einsum("aohhww->ahw", own)


def _rows(v: jax.Array) -> jax.Array:
    return v[:, :, None, :, None]  # (N, h, 1, w, 1)


def _columns(v: jax.Array) -> jax.Array:
    return v[:, None, :, None, :]  # (N, 1, H, 1, W)


def _arc_cosine(k: jax.Array, v: jax.Array, v_other: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return E[relu(f) relu(g)] and E[relu'(f) relu'(g)] for Gaussians of covariance k and variances v, v_other."""
    scale = jnp.sqrt(v * v_other)
    cos = jnp.clip(k / jnp.where(scale > 0, scale, 1), -1, 1)
    parallel = jnp.abs(cos) > 1 - 1e-7
    inner = jnp.where(parallel, 0.0, cos)  # where a derivative would be infinite, another branch is taken
    sin = jnp.where(parallel, 0.0, jnp.sqrt(1 - inner**2))
    angle = jnp.where(parallel, jnp.where(cos > 0, 0.0, jnp.pi), jnp.arccos(inner))
    slope = (jnp.pi - angle) / (2 * jnp.pi)
    return scale * (sin / (2 * jnp.pi) + slope * cos), slope
