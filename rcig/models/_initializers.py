"""Initialisers by name: how the kernels and biases of a network are drawn.

Kernels are (..., in, out); the fans include the kernel's area, ``fan_in = area * in`` and ``fan_out = area * out``.
Normals are plain, not truncated (Flax's own ``xavier_normal`` is truncated), as PyTorch's are.
"""

from collections.abc import Callable

import jax
from jax.nn import initializers

from rcig.errors import UserError, unknown


def layer_initializers(name: str, param: float = 1.0) -> Callable[[int], dict[str, Callable]]:
    """Return ``fan_in -> {"kernel_init": ..., "bias_init": ...}``, the options of a layer.

    name            kernel                                               param
    xavier          N(0, param^2 * 2 / (fan_in + fan_out))               gain
    xavier_uniform  uniform of the same variance                         gain
    kaiming         N(0, 2 / (1 + param^2) / fan_in)                     slope of the leaky relu; 1 is LeCun normal
    kaiming_out     the same by fan_out                                  slope of the leaky relu
    orthogonal      param * a random orthogonal (area * in, out) matrix  gain
    normal          N(0, param^2)                                        standard deviation
    default         U(-1/sqrt(fan_in), 1/sqrt(fan_in))                   none (PyTorch's default)

    Biases are zero, but of ``default`` drawn like the kernel. Raises UserError for an unknown name.
    """
    if name == "default":
        return lambda fan_in: {"kernel_init": _uniform(fan_in), "bias_init": _uniform(fan_in)}
    kernel = kernel_initializer(name, param)
    return lambda fan_in: {"kernel_init": kernel, "bias_init": initializers.zeros}


def kernel_initializer(name: str, param: float) -> Callable:
    """Return the named initialiser of kernels, all but ``default`` (which must be told the fan)."""
    if param <= 0 and name not in ("kaiming", "kaiming_out"):
        raise UserError(f"model.init_param must be positive, not {param}; 1 is the plain scale")
    scaled = initializers.variance_scaling
    known = {
        "xavier": lambda: scaled(param**2, "fan_avg", "normal"),
        "xavier_uniform": lambda: scaled(param**2, "fan_avg", "uniform"),
        "kaiming": lambda: scaled(2 / (1 + param**2), "fan_in", "normal"),
        "kaiming_out": lambda: scaled(2 / (1 + param**2), "fan_out", "normal"),
        "orthogonal": lambda: initializers.orthogonal(param),
        "normal": lambda: initializers.normal(param),
    }
    if name not in known:
        raise unknown("init", name, [*known, "default"])
    return known[name]()


def _uniform(fan_in: int) -> Callable:
    def init(key, shape, dtype=float):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init
