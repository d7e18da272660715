"""Our convolution against lax's own, where they differ: inside lax.scan.

Three loops of 8 steps on a small ConvNet-3 (the same width in every block, ReLU, cross-entropy), each with either
convolution: training steps, Hessian-vector products, and the gradient of the trained network's loss with respect to
the images. ``ratio`` is lax's time over ours; ``difference`` the largest relative difference of their results.
``float32_ms`` is ours at that precision: no Winograd transforms.

    python benchmarks/conv2d.py [--quick]        about 5 minutes on 2 cores, most of it lax's
"""

import _measure
import jax
import jax.numpy as jnp
from jax import lax

from rcig.models import _conv2d
from rcig.models._layers import average_pool

_STEPS = 8
_PADDING = ((1, 1), (1, 1))
CASES = [
    {"loop": loop, "width": width, "side": side, "channels": channels, "batch": batch}
    for width, side, channels, batch in ((32, 28, 1, 64), (128, 32, 3, 20))
    for loop in ("training", "hvp", "meta_gradient")
]
QUICK = [{"loop": "hvp", "width": 8, "side": 8, "channels": 1, "batch": 8}]


def ours(x, k):
    """The primitive itself, also where the networks use lax's."""
    return _conv2d._conv_p.bind(x, k, padding=_PADDING)


def laxs(x, k):
    return lax.conv_general_dilated(x, k, (1, 1), _PADDING, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def network(key, width: int, side: int, channels: int) -> list[jax.Array]:
    """Return three kernels and the last layer's."""
    keys, ins = jax.random.split(key, 4), (channels, width, width)
    kernels = [jax.random.normal(k, (3, 3, c, width)) * (2 / (9 * c)) ** 0.5 for k, c in zip(keys, ins, strict=False)]
    return [*kernels, 0.05 * jax.random.normal(keys[3], ((side // 8) ** 2 * width, 10))]


def loops(conv, inputs, labels):
    """Return the three loops as jitted functions of the parameters."""

    def loss(params, x):
        *kernels, head = params
        for kernel in kernels:
            x = average_pool(jax.nn.relu(conv(x, kernel)))
        log_probabilities = jax.nn.log_softmax(x.reshape(len(x), -1) @ head)
        return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[:, None], 1))

    def repeat(step, start):
        return lax.scan(lambda carry, _: (step(carry), None), start, None, length=_STEPS)[0]

    def train(params, x):
        return repeat(lambda p: jax.tree.map(lambda a, g: a - 1e-2 * g, p, jax.grad(loss)(p, x)), params)

    def products(params):
        hvp = lambda v: jax.jvp(jax.grad(lambda p: loss(p, inputs)), (params,), (v,))[1]
        return repeat(lambda v: jax.tree.map(lambda a, b: a / 2 + b / 10, v, hvp(v)), params)

    meta = lambda params: jax.grad(lambda x: loss(train(params, x), x))(inputs)
    return {"training": jax.jit(lambda p: train(p, inputs)), "hvp": jax.jit(products), "meta_gradient": jax.jit(meta)}


def measure(loop: str, width: int, side: int, channels: int, batch: int) -> dict:
    keys = jax.random.split(jax.random.key(0), 3)
    params = network(keys[0], width, side, channels)
    inputs = jax.random.normal(keys[1], (batch, side, side, channels))
    labels = jax.random.randint(keys[2], (batch,), 0, 10)
    times, results = {}, {}
    for name, conv, precision in (("ours", ours, None), ("float32", ours, "float32"), ("lax", laxs, None)):
        with jax.default_matmul_precision(precision):
            run = loops(conv, inputs, labels)[loop]
            times[name] = _measure.timed(lambda run=run: run(params)).best
            results[name] = run(params)
    gaps = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)), results["ours"], results["lax"])
    return {
        "ours_ms": 1e3 * times["ours"] / _STEPS,
        "float32_ms": 1e3 * times["float32"] / _STEPS,
        "lax_ms": 1e3 * times["lax"] / _STEPS,
        "ratio": times["lax"] / times["ours"],
        "difference": float(jnp.max(jnp.stack(jax.tree.leaves(gaps)))),
    }


if __name__ == "__main__":
    _measure.main(__doc__, "conv2d", CASES, QUICK, measure)
