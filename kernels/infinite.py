"""Kernels of infinitely wide ReLU networks in closed form: the NNGP and the neural tangent kernel.

    network = serial(conv(), relu(), average_pool(), flatten(), dense())
    nngp, ntk = network(x1, x2)                      # (N1, N2) each; x (N, H, W, C) or (N, D)
    nngp, ntk = fully_connected(depth=1)(x1, x2)

NTK parameterisation (Jacot et al. 2018; Lee et al. 2019): weights W_std N(0, 1) / sqrt(fan_in), biases b_std N(0, 1).
With K, T the covariance of pre-activations and its tangent, at every pair of examples and of pixels:

    dense, conv   K <- W_std^2 mean_patch(K) + b_std^2,    T <- W_std^2 mean_patch(T) + K (the new one)
    relu          K <- sqrt(v v') (sin a + (pi - a) cos a) / 2 pi,  T <- T (pi - a) / 2 pi,  cos a = K / sqrt(v v')
                  (arc-cosine kernels: kernels/arc_cosine.py), v the variance at either pixel

Differentiable in the inputs, also where cos a = 1. A pair of H x W images costs (H W)^2 numbers while there are pixels:
8x8 images 16 kB a pair in float32, 32x32 images 4 MB. `ntk` takes a large kernel block by block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels import neural_tangents_bridge as bridge
from kernels.arc_cosine import arc_cosine
from kernels.blocks import BLOCK, map_rows

_ROWS = 16  # of a block, where rows are short enough; several devices share a block's rows


class Covariance(NamedTuple):
    """What a layer maps. Axes: examples of x1, of x2, then rows h, H and columns w, W of either image."""

    nngp: jax.Array  # (N1, N2, h, H, w, W)
    ntk: jax.Array


class Examples(NamedTuple):
    """Images, and their standard deviations with themselves before each layer, at every pixel."""

    images: jax.Array  # (N, H, W, C)
    deviations: tuple[jax.Array, ...]  # (N, h, w) each


Layer = Callable[[Covariance, jax.Array, jax.Array], Covariance]  # deviations (N1, 1, h, 1, w, 1), (1, N2, 1, H, 1, W)
Kernel = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]  # (x1, x2) -> NNGP, NTK, (N1, N2) each


def _as_images(x: jax.Array) -> jax.Array:
    if x.ndim not in (2, 4):
        raise ValueError(f"examples must be images or vectors, not {x.shape[1:]}")
    return x if x.ndim == 4 else x[:, None, None]


def _as_vectors(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), 1, 1, -1)


@dataclass(frozen=True)
class Network:
    """A network whose last layer leaves no pixels, as its two kernels. ``view`` makes images of its inputs."""

    layers: tuple[Layer, ...]
    view: Callable[[jax.Array], jax.Array] = _as_images

    def __call__(self, x1: jax.Array, x2: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the NNGP and the NTK, (N1, N2) each."""
        return self.pairs(self.examples(x1), self.examples(x2))

    def examples(self, x: jax.Array) -> Examples:
        """Return what the kernels need of every example by itself; computed once, not once a pair."""
        images = self.view(x)
        size = max(1, BLOCK // _pixels(images) ** 2)
        return Examples(images, map_rows(jax.checkpoint(self._deviations), images, size))

    def pairs(self, one: Examples, other: Examples) -> tuple[jax.Array, jax.Array]:
        """Return the NNGP and the NTK of all pairs."""
        nngp = jnp.einsum("ahwc,bHWc->abhHwW", one.images, other.images, precision="highest") / one.images.shape[-1]
        state = Covariance(nngp, jnp.zeros_like(nngp))
        for layer, rows, columns in zip(self.layers, one.deviations, other.deviations, strict=True):
            state = layer(state, rows[:, None, :, None, :, None], columns[None, :, None, :, None, :])
        return state.nngp[:, :, 0, 0, 0, 0], state.ntk[:, :, 0, 0, 0, 0]

    def ntk(self, x1: jax.Array, x2: jax.Array, rows: int = 0) -> jax.Array:
        """Return the NTK (N1, N2), a block of ``rows`` rows (0 chooses) and some columns at a time."""
        one, other = self.examples(x1), self.examples(x2)
        numbers = _pixels(one.images) * _pixels(other.images)
        rows = min(len(x1), rows or max(_ROWS, BLOCK // (len(x2) * numbers)))
        columns = min(len(x2), max(1, BLOCK // (rows * numbers)))
        pairs = lambda b, a: self.pairs(a, b)[1].T
        pairs = pairs if (rows, columns) == (len(x1), len(x2)) else jax.checkpoint(pairs)
        return map_rows(lambda a: map_rows(lambda b: pairs(b, a), other, columns).T, one, rows)

    def _deviations(self, images: jax.Array) -> tuple[jax.Array, ...]:
        nngp = jnp.einsum("ahwc,aHWc->ahHwW", images, images, precision="highest") / images.shape[-1]
        state, found = Covariance(nngp[:, None], jnp.zeros_like(nngp[:, None])), []
        for layer in self.layers:
            variance = jnp.einsum("aohhww->ahw", state.nngp)
            found.append(jnp.sqrt(jnp.where(variance > 0, variance, 1)) * (variance > 0))  # derivative 0 at 0
            state = layer(state, found[-1][:, None, :, None, :, None], found[-1][:, None, None, :, None, :])
        return tuple(found)


def serial(*layers: Layer) -> Network:
    """Return a network of layers, the last of which leave no pixels (flatten or global_pool, then dense)."""
    return Network(layers)


def fully_connected(depth: int = 1, w_std: float = 2**0.5, b_std: float = 0.1) -> Network:
    """Return ``depth`` hidden ReLU layers; images are flattened."""
    hidden = (dense(w_std, b_std), relu())
    return Network((*depth * hidden, dense(w_std, b_std)), _as_vectors)


def convnet(depth: int = 3, first: bool = True, w_std: float = 2**0.5, b_std: float = 0.1) -> Network:
    """Return KIP's ConvNet: conv and ReLU (not ``first``: ConvNet3), then blocks of conv, ReLU, 2x2 average pool."""
    step = (conv(w_std, b_std), relu())
    return serial(*(step if first else ()), *depth * (*step, average_pool()), flatten(), dense(w_std, b_std))


def myrtle(depth: int = 5, w_std: float = 2**0.5, b_std: float = 0.1) -> Network:
    """Return Myrtle-5, -7 or -10 (Shankar et al. 2020): blocks of convolutions, three pools, a pool over all pixels."""
    step = (conv(w_std, b_std), relu())
    blocks = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}[depth]
    layers = [layer for n in blocks for layer in (*n * step, average_pool())]
    return serial(*layers, global_pool(), dense(w_std, b_std))


def _stax(make: Callable[..., bridge.Network], flat: bool = False, **options: Any) -> Callable[[int], bridge.Blocks]:
    return lambda depth: bridge.Blocks(make(depth, **options), flat)


KERNELS: dict[str, Callable[[int], Any]] = {  # by name, of a depth
    "fully_connected": fully_connected,
    "convnet": convnet,
    "convnet3": partial(convnet, first=False),
    "myrtle": myrtle,
    "stax_fully_connected": _stax(bridge.fully_connected, flat=True),  # the same, by neural-tangents
    "stax_convnet": _stax(bridge.convnet),
    "stax_convnet3": _stax(bridge.convnet, first=False),
    "stax_myrtle": _stax(bridge.myrtle),
}


def ntk(kernel: str, depth: int, x1: jax.Array, x2: jax.Array, rows: int = 0) -> jax.Array:
    """Return the tangent kernel (N1, N2) of KERNELS[kernel](depth), ``rows`` rows of x1 at a time (0 chooses).

    In float64 where jax's 64-bit mode is on, as the references compute: with a ridge of 1e-6 of the mean diagonal
    float32 loses the small eigenvalues. Rows of x1 that are split over devices stay split (choose ``rows`` as a
    multiple of the devices); a backward pass holds one block.
    """
    x1, x2 = (jnp.asarray(x, jnp.result_type(float)) for x in (x1, x2))
    return KERNELS[kernel](depth).ntk(x1, x2, rows)


def dense(w_std: float = 2**0.5, b_std: float = 0.1) -> Layer:
    """A dense layer over channels, the same at every pixel."""
    return lambda state, *_: _affine(state, lambda k: k, w_std, b_std)


def conv(w_std: float = 2**0.5, b_std: float = 0.1, size: int = 3) -> Layer:
    """A convolution with zero padding, stride 1."""

    def mean(k):
        return _diagonal_sums(_diagonal_sums(k, 2, size), 4, size) / size**2

    return lambda state, *_: _affine(state, mean, w_std, b_std)


def relu() -> Layer:
    """ReLU. At cos a = 1 value and gradient are the limits."""

    def layer(state, rows, columns):
        inverse = lambda d: jnp.where(d > 0, 1 / jnp.where(d > 0, d, 1), 0)
        value, slope = arc_cosine(state.nngp * inverse(rows) * inverse(columns))
        return Covariance(rows * columns * value, state.ntk * slope)

    return layer


def average_pool() -> Layer:
    """2x2 average at stride 2; an odd last row or column is dropped."""

    def pool(k):
        if min(k.shape[2:]) < 2:
            raise ValueError(f"no pixels are left of {k.shape[2]} x {k.shape[4]} after another 2x2 pooling")
        h, tall, w, wide = (side // 2 for side in k.shape[2:])
        k = k[:, :, : 2 * h, : 2 * tall, : 2 * w, : 2 * wide]
        return k.reshape(*k.shape[:2], h, 2, tall, 2, w, 2, wide, 2).mean((3, 5, 7, 9))

    return lambda state, *_: Covariance(*map(pool, state))


def global_pool() -> Layer:
    """The mean over all pixels."""
    return lambda state, *_: Covariance(*(k.mean((2, 3, 4, 5), keepdims=True) for k in state))


def flatten() -> Layer:
    """All pixels as channels: the mean over equal pixels."""

    def trace(k):
        return jnp.einsum("abhhww->ab", k)[:, :, None, None, None, None] / (k.shape[2] * k.shape[4])

    return lambda state, *_: Covariance(*map(trace, state))


def _affine(state: Covariance, mean: Callable[[jax.Array], jax.Array], w_std: float, b_std: float) -> Covariance:
    nngp = w_std**2 * mean(state.nngp) + b_std**2
    return Covariance(nngp, w_std**2 * mean(state.ntk) + nngp)


def _diagonal_sums(k: jax.Array, axis: int, size: int) -> jax.Array:
    """Return the sums over ``size`` neighbours along both of two axes at once, zeros beyond the border."""
    widths = [(size // 2, size // 2) if a in (axis, axis + 1) else (0, 0) for a in range(k.ndim)]
    padded, ends = jnp.pad(k, widths), k.shape[axis : axis + 2]
    cut = lambda a, i, which: jax.lax.slice_in_dim(a, i, i + ends[which], axis=axis + which)
    return sum(cut(cut(padded, i, 0), i, 1) for i in range(size))


def _pixels(images: jax.Array) -> int:
    return images.shape[1] * images.shape[2]
