"""What batch norm sees: means and variances of the inputs of every such layer, of any network, unchanged.

    outputs, moments = statistics(model.apply, variables, images, num_groups=10)    # ten equal groups of rows
    moments["Block_0/BatchNorm_1"].mean                                             # (10, F)
    layers(model.apply, variables, images)[0]                                       # the stem's

The network runs with its running statistics; what is returned are the batch's own, which it does not use.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig.errors import UserError
from rcig.types import Outputs, Variables


class Moments(NamedTuple):
    """Mean and biased variance of each channel, in each of G groups."""

    mean: jax.Array  # (G, F)
    var: jax.Array  # (G, F)


def statistics(
    apply: Callable, variables: Variables, inputs: jax.Array, num_groups: int
) -> tuple[Outputs, dict[str, Moments]]:
    """Run a network on groups of rows and measure what every batch norm is given.

    mean_g = mean over the group's rows and all pixels,   var_g = mean of (x - mean_g)^2: two passes, so that a large
    mean costs no digits. Differentiable, in the inputs too.

    Args: apply, of a `Model`; inputs (G b, ...), group-major.
    Returns: the outputs (G b, ...), and moments (G, F) by the layer's path, in the order in which an image meets them
    (a jit around this call would sort them).
    """
    moments: dict[str, Moments] = {}

    def measure(next_function, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            moments["/".join(context.module.path)] = _moments(args[0], num_groups)
        return next_function(*args, **kwargs)

    with nn.intercept_methods(measure):
        outputs, _ = apply(variables, inputs, False, None)
    return outputs, moments


def layers(apply: Callable, variables: Variables, inputs: jax.Array) -> tuple[str, ...]:
    """Return the paths of a network's batch norms in the order in which an image meets them, the stem's first.

    ``inputs`` may be a shape. Raises UserError for a network that has none. Nothing is computed.
    """
    paths: list[str] = []

    def run(variables, inputs):
        paths.extend(statistics(apply, variables, inputs, 1)[1])

    jax.eval_shape(run, variables, inputs)
    if not paths:
        raise UserError("the teacher has no batch norm, whose statistics are to be matched; set model.norm to batch")
    return tuple(paths)


def _moments(x: jax.Array, num_groups: int) -> Moments:
    x = x.reshape(num_groups, -1, x.shape[-1])  # (G, rows and pixels, F)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = jnp.mean(x, 1)
    return Moments(mean, jnp.mean(jnp.square(x - mean[:, None]), 1))
