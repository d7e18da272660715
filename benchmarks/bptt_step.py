"""Time, memory and GFLOP/s of one DD meta-step: T inner steps on ten images each, then a real batch of 1,024.

Each mode of the unroll, with the outer batch whole or in chunks; the gradient's largest relative difference from that
of ``full`` is beside it. Every core is a device, as in a run, or there are so many ``devices`` as said;
``temporary_mb`` is one device's. The work per step is what XLA's cost model counts for LeNet (0.0689 GFLOP a step,
2.38 a batch) and AlexCifarNet (4.98 and 170); recomputation is not counted as work.

    python benchmarks/bptt_step.py --quick
    python benchmarks/bptt_step.py --case=model=lenet
"""

import itertools

import _measure
import jax
import jax.numpy as jnp
import numpy as np

from methods.bptt import BPTT
from rcig import command, schedule, sharding
from rcig.lookup import find
from rcig.types import Batch, Synthetic

SHAPES = {"lenet": (28, 28, 1), "alexcifarnet": (32, 32, 3)}
WORK = {"lenet": (0.0689, 2.38), "alexcifarnet": (4.98, 170.3)}  # GFLOP of an inner step and of 1,024 real images

CASES = [
    {"model": model, "mode": mode, "rows": rows, "batch": 1024}
    for model, (mode, rows) in itertools.product(
        SHAPES, [("full", 1024), ("full", 0), ("remat", 64), ("block", 64), ("mix", 64), ("mix", 16)]
    )
]
CASES += [
    {"model": "lenet", "mode": mode, "rows": rows, "batch": 1024, "devices": 1}
    for mode, rows in (("full", 1024), ("mix", 64), ("mix", 16))
]
QUICK = [{"model": "lenet", "mode": mode, "rows": 16, "batch": 32} for mode in ("full", "mix")]


def measure(model: str, mode: str, rows: int, batch: int, devices: int = 0) -> dict:
    if devices:
        jax.config.update("jax_num_cpu_devices", devices)
    command.one_device_a_core()
    shape, rng = SHAPES[model], np.random.default_rng(0)
    network = find("rcig.models", model).make(shape, 10)
    synthetic = Synthetic(rng.standard_normal((100, *shape), np.float32), np.eye(10, dtype=np.float32).repeat(10, 0))
    real = Batch(jnp.asarray(rng.standard_normal((batch, *shape), np.float32)), jnp.arange(batch) % 10)
    method = BPTT(network, mode=mode, rows_at_once=rows, batch_size=batch)
    state = method.init(jax.random.key(0), synthetic, real)
    layout = sharding.layout()
    now, key, data = layout.replicate((sharding.fetch(state), jax.random.key(1), real))
    step = layout.compile(lambda state, key, real: method.step(key, state, layout.split(real)))
    step = step.lower(now, key, data).compile()

    def run():
        nonlocal now
        now, metrics = step(now, key, data)
        return metrics

    times = _measure.timed(run, repeats=20)
    inner, outer = WORK[model]
    return {
        "seconds": times.best,
        "median": times.median,
        "compile": times.first,
        "gflop_per_s": (30 * inner + outer * batch / 1024) / times.best,
        "temporary_mb": step.memory_analysis().temp_size_in_bytes / 1e6,
        "difference": _difference(method, state, real),
    }


def _difference(method: BPTT, state, real: Batch) -> float:
    """Return how far the gradient of the images is from that of mode ``full``, relative to its largest entry."""
    variables = method.model.init(jax.random.key(2))
    synthetic = method.synthetic(state)

    def gradient(mode):
        def loss(inputs):
            one = synthetic._replace(inputs=inputs)
            trained = schedule.learn(jax.random.key(3), method.model, variables, one, mode=mode)
            logits = method.model.apply(trained, real.inputs[:64], False, None)[0].logits
            return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[:, 0])

        return jax.jit(jax.grad(loss))(synthetic.inputs)

    exact = gradient("full")
    return float(jnp.max(jnp.abs(gradient(method.mode) - exact)) / jnp.max(jnp.abs(exact)))


if __name__ == "__main__":
    _measure.main(__doc__, "bptt_step", CASES, QUICK, measure)
