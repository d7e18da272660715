"""The arc-cosine kernels of degree 1 and 0 (Cho & Saul 2009): a ReLU's covariance and its derivative's.

    E[relu(f) relu(g)] = sqrt(v v') (sin a + (pi - a) cos a) / 2 pi,   E[relu'(f) relu'(g)] = (pi - a) / 2 pi

for Gaussians f, g of variances v, v' and correlation cos a. An infinitely wide network spends its time here: jax's own
arc cosine is a scalar loop on a CPU, this one a polynomial and a square root, ten times as fast.
"""

import jax
import jax.numpy as jnp
import numpy as np

_DEGREE = {4: 6, 8: 14}  # bytes of the type: degree at which the polynomial is as exact as the type


def _coefficients(degree: int) -> np.ndarray:
    """Return arcsin(sqrt z) / sqrt z on [0, 1/4] as a polynomial, highest power first."""
    fn = lambda z: np.arcsin(np.sqrt(z)) / np.sqrt(z)
    series = np.polynomial.Chebyshev.interpolate(fn, degree, [0, 0.25])
    return series.convert(kind=np.polynomial.Polynomial).coef[::-1]


_ARCSIN = {size: _coefficients(degree) for size, degree in _DEGREE.items()}


def arccos(x: jax.Array) -> jax.Array:
    """Return the arc cosine of x in [-1, 1], float32 or float64; error 4e-7 or 5e-15. No derivative at -1 and 1.

    arcsin by its series below 1/2, above by the half angle: arccos x = 2 arcsin sqrt((1 - x) / 2).
    """
    size = jnp.abs(x)
    z = jnp.minimum(x * x, (1 - size) / 2)  # they meet at 1/2
    root = jnp.sqrt(z)
    arcsin = root * jnp.polyval(jnp.asarray(_ARCSIN[x.dtype.itemsize], x.dtype), z, unroll=16)
    angle = jnp.where(size < 0.5, np.pi / 2 - arcsin, 2 * arcsin)
    return jnp.where(x < 0, np.pi - angle, angle)


@jax.custom_jvp
def arc_cosine(cos: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return E[relu(f) relu(g)] and E[relu'(f) relu'(g)] for unit variances and correlation ``cos``.

    What lies a rounding error beyond or within 1 counts as 1. The derivative of the first is the second; that of the
    second, infinite at -1 and 1, is taken as 0 there: f and g are then the same for all inputs that are.
    """
    one = 1 - 4 * jnp.finfo(cos.dtype).eps
    cos = jnp.where(cos > one, 1, jnp.where(cos < -one, -1, cos))
    slope = (1 - arccos(cos) / np.pi) / 2
    return _sin(cos) / (2 * np.pi) + slope * cos, slope


@arc_cosine.defjvp
def _arc_cosine_jvp(primals, tangents):
    (cos,), (tangent,) = primals, tangents
    value, slope = arc_cosine(cos)
    inside = jnp.abs(cos) <= 1 - 4 * jnp.finfo(cos.dtype).eps
    sin = _sin(jnp.where(inside, cos, 0))
    return (value, slope), (slope * tangent, jnp.where(inside, tangent / (2 * np.pi * sin), 0))


def _sin(cos: jax.Array) -> jax.Array:
    return jnp.sqrt((1 - cos) * (1 + cos))
