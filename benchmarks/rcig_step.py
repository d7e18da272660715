"""Seconds, GFLOP/s and memory of one RCIG meta-step at CIFAR-10's shape, flips on, and the plain program's beside.

Programs: ``cg`` and ``adam`` are ours with either solver, run by the loop's own compiled chunks of K = ``steps`` steps;
``plain`` is the straightforward program of _plain_rcig.py, one step at a time. The last table is plain / ours, and the
cosines of ``plain`` say how near its meta-gradient and ours come to that of exact inner solves. Images are random
patterns in noise; every program takes about 8 pool steps a meta-step, the method's mean (``pool_steps``).

    python benchmarks/rcig_step.py --quick                                    # one minute
    python benchmarks/rcig_step.py --case=width=32,ipc=1                      # the cases of that width and ipc
    python benchmarks/rcig_step.py                                            # all: hours on 2 cores, minutes on a GPU
"""

import itertools
from functools import partial

import _measure
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _plain_rcig import Plain

from methods._problems import Convexified, Psi, Sampling, Solvers
from methods.rcig import RCIG
from rcig import command, implicit, linear_solve, loop, sharding
from rcig.losses import centred_targets
from rcig.models import convnet
from rcig.types import Batch, Dataset, Synthetic

_ROWS = 8192  # of the resident training set
_START = 2177  # from this step on the running mean of drawn pool steps stays within 0.8 of 8
_POOL_STEPS = 8
_SECONDS, _RATES = 120, {"cpu": 8e10, "gpu": 1e13}  # a dispatch takes at most so long, at about so many FLOP/s
_ADAM = {"inner_rate": 2.7e-4, "inverse_hvp_rate": 1.0}  # of their usual size: they do not change the cost

PROGRAMS = [("cg", 1), ("cg", 50), ("adam", 1), ("adam", 50), ("plain", 1)]
CASES = [
    {"width": width, "ipc": ipc, "batch": batch, "program": program, "steps": steps}
    for width, ipc, batch, (program, steps) in itertools.product((32, 128), (1, 10), (256, 1024), PROGRAMS)
]
QUICK = [{"width": 8, "ipc": 1, "batch": 32, "program": program, "steps": 2} for program in ("cg", "adam", "plain")]


def flop(width: int, ipc: int, batch: int, program: str, products: float, pool_steps: float) -> float:
    """Return the floating-point operations of one meta-step's convolutions, as sums of products (Winograd's are fewer).

    One image forward costs F = 2 sum_i (3 s_i - 2)^2 c_{i-1} c_i over blocks of side s_i = 32, 16, 8 and widths
    c = 3, w, 2w, 4w (taps outside the image are not counted). In units of F a row, as XLA counts them: parameter
    gradient 2.97, so J^T 1.97; J^T J 3.95; inner gradient or HVP through the whole loss 4.94; outer gradient 6.94 for
    support rows and 4.94 for real rows; implicit term 9.87.
    """
    widths = (3, width, 2 * width, 4 * width)
    pairs = zip((32, 16, 8), itertools.pairwise(widths), strict=True)
    forward = 2 * sum((3 * side - 2) ** 2 * c * c_next for side, (c, c_next) in pairs)
    solves = 4.94 * products if program == "plain" else 2.97 + 3.95 * products  # ours: linearised once
    return forward * (20 * ipc * (solves + 6.94 + 9.87 + 2.97 * pool_steps) + 4.94 * batch)


def problem(width: int, ipc: int, batch: int) -> tuple:
    """Return the network, a random training set in which classes can be told apart, and a set to start from."""
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((10, 8, 8, 3), np.float32).repeat(4, 1).repeat(4, 2)
    labels = np.arange(max(_ROWS, batch), dtype=np.int32) % 10
    inputs = rng.standard_normal((len(labels), 32, 32, 3), np.float32) + 0.5 * patterns[labels]
    rows = np.argsort(labels[: 10 * ipc], kind="stable")
    synthetic = Synthetic(jnp.asarray(inputs[rows]), centred_targets(jnp.asarray(labels[rows]), 10))
    model = convnet.make((32, 32, 3), 10, width=width, activation="softplus")
    return model, Batch(inputs, labels), synthetic


def measure(width: int, ipc: int, batch: int, program: str, steps: int) -> dict:
    command.one_device_a_core()
    model, train, synthetic = problem(width, ipc, batch)
    run = measure_plain if program == "plain" else partial(measure_ours, solver=program, steps=steps)
    readings = run(model, train, synthetic, batch)
    work = flop(width, ipc, batch, program, readings["products"], readings["pool_steps"])
    return readings | {"gflop_per_s": work / readings["seconds"] / 1e9}


def measure_ours(model, train, synthetic, batch, solver, steps) -> dict:
    """Time chunks of ``steps`` steps, fewer where these would take too long; the same steps each time."""
    width = model.init(jax.random.key(0))["params"]["Conv_0"]["bias"].size
    work = flop(width, len(synthetic.inputs) // 10, batch, solver, 42 if solver == "adam" else 10, _POOL_STEPS)
    steps = max(min(steps, 2), min(steps, int(_SECONDS * _RATES.get(jax.default_backend(), 1e13) / work)))
    method = RCIG(model, flip=True, batch_size=batch, solver=solver, pool_max_age=10**9, **_ADAM)
    dataset = Dataset("random", train, train, 10, tuple("0123456789"), lambda x: x, {})
    feeder, initial = loop.begin(method, dataset, synthetic, loop.Schedule(num_steps=10**6), sharding.layout())
    state = feeder.layout.replicate(sharding.fetch(initial()))
    ages, traces = [], []

    def dispatch():
        nonlocal state
        state, trace = feeder.advance(state, _START, steps)
        traces.append(sharding.fetch(trace))
        ages.append(int(np.sum(state.pool.age)))

    times = _measure.timed(dispatch, repeats=3, budget=_SECONDS)
    return {
        "dispatched": steps,
        "seconds": times.median / steps,
        "compile_s": times.first,
        "products": float(np.mean(traces[-1]["products"])),
        "pool_steps": (ages[-1] - ages[-2]) / steps,
        "peak_gb": _measure.peak_memory(),
    }


def measure_plain(model, train, synthetic, batch) -> dict:
    """Time steps of the plain program; compare its meta-gradient, at searched rates, and ours with exact solves'."""
    first = Batch(jnp.asarray(train.inputs[:batch]), jnp.asarray(train.labels[:batch]))
    plain = Plain(model, **_ADAM)
    start = state = plain.start(jax.random.key(0), synthetic)

    def step():
        nonlocal state
        state = plain.step(state, first, _POOL_STEPS)
        return state

    times = _measure.timed(step, repeats=3, budget=_SECONDS)
    readings = {"dispatched": 1, "seconds": times.median, "compile_s": times.first, "products": 40.0}
    readings |= {"pool_steps": _POOL_STEPS, "peak_gb": _measure.peak_memory()}
    return readings | agreement(model, start, synthetic, first)


def agreement(model, start, synthetic, batch) -> dict:
    """Return how the plain program's meta-gradient and ours lie to that of exact inner solves."""
    psi, *_, theta, _ = start
    one_each = Synthetic(*(a[:: len(a) // 10] for a in synthetic[:2]))  # rates do not depend on ipc, their search does
    rates = jax.jit(RCIG(model, flip=True, solver="adam", pool_size=1).init)(jax.random.key(1), one_each, batch).rates
    _, *plain = Plain(model, float(rates.inner), float(rates.inverse_hvp)).meta_gradient(theta, psi, batch)
    exact = ours(model, theta, Psi(*psi), batch, 1e-5, 100)
    cg = ours(model, theta, Psi(*psi), batch, RCIG.tolerance, RCIG.max_products)
    return cosines("plain", plain, exact) | cosines("cg", cg, exact)


@partial(jax.jit, static_argnames=("model", "tolerance", "max_steps"))
def ours(model, theta, psi, batch, tolerance, max_steps):
    """Our direct and implicit part, with both systems solved by CG to a tolerance."""
    variables = {"params": theta}
    at = Convexified(model, 5e-4, True, jnp.float32, Sampling(), jax.random.key(0), variables, batch)
    solve = partial(linear_solve.cg, tolerance=tolerance, max_steps=max_steps)
    minimise, inverse = at.systems(psi, Solvers(lambda matvec, b, rate: solve(matvec, b), 0))
    tau = minimise(0.0).value
    meta = implicit.meta_gradient(at.inner_loss, at.outer_loss, tau, psi, inverse(0.0, tau))
    return meta.direct, meta.implicit


def cosines(name: str, parts, exact) -> dict:
    """Return the cosines of the images' direct and implicit gradients with exact ones."""
    angle = lambda a, b: float(jnp.vdot(a, b) / (optax.tree.norm(a) * optax.tree.norm(b)))
    told = zip(("direct", "implicit"), parts, exact, strict=True)
    return {f"{name}_{part}_cosine": angle(a.inputs, b.inputs) for part, a, b in told}


def ratios(rows: list[dict]) -> str:
    lines = []
    for yard in (row for row in rows if row["program"] == "plain"):
        same = [row for row in rows if all(row[key] == yard[key] for key in ("width", "ipc", "batch"))]
        told = ", ".join(
            f"{row['program']} K={row['dispatched']} {yard['seconds'] / row['seconds']:.2f}" for row in same
        )
        lines.append(f"width {yard['width']}, ipc {yard['ipc']}, batch {yard['batch']}, plain / program: {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    _measure.main(__doc__, "rcig_step", CASES, QUICK, measure, ratios)
