"""What glibc's allocator costs: one training step with and without the settings of rcig/command.py.

XLA frees and allocates large buffers all the time; by default glibc hands each back to the kernel, and taking it again
costs a page fault for every 4 KiB. The commands restart themselves with an allocator that keeps what it has, in pages
of 2 MiB, which also are few enough for the processor to remember where they lie.

    python benchmarks/allocator.py [--quick]     about 1 minute on 2 cores; means nothing on an accelerator
"""

import resource

import _measure
import jax

from rcig import losses
from rcig.models import convnet

CASES = [
    {"width": width, "batch": batch, "allocator": allocator}
    for width, batch in ((32, 256), (128, 64), (128, 256))
    for allocator in ("default", "tuned")
]
QUICK = [{"width": 8, "batch": 32, "allocator": allocator} for allocator in ("default", "tuned")]


def measure(width: int, batch: int, allocator: str) -> dict:
    """One gradient of a ConvNet-3 on 32-pixel colour images, plain batches; ``main`` has set the allocator."""
    model = convnet.make((32, 32, 3), 10, width=width)
    variables = model.init(jax.random.key(0))
    inputs = jax.random.normal(jax.random.key(1), (batch, 32, 32, 3))
    targets = jax.random.normal(jax.random.key(2), (batch, 10))

    @jax.jit
    def step(params):
        loss = lambda p: losses.mse(model.apply({"params": p}, inputs, True, None)[0].logits, targets)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, jax.grad(loss)(params))

    jax.block_until_ready(step(variables["params"]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    times = _measure.timed(lambda: step(variables["params"]), repeats=10)
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (times.n + 1)
    return {"ms": 1e3 * times.median, "page_faults": round(faults), "peak_gb": _measure.peak_memory()}


def ratios(rows: list[dict]) -> str:
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join(
        f"width {a['width']}, batch {a['batch']}: default / tuned {a['ms'] / b['ms']:.2f}" for a, b in pairs
    )


if __name__ == "__main__":
    _measure.main(__doc__, "allocator", CASES, QUICK, measure, ratios)
