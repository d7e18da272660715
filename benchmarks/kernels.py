"""Kernel entries per second: the infinite ConvNet's tangent kernel and a finite one's, against neural-tangents.

Parts: ``infinite``, KIP's ConvNet between ``rows`` images and as many others; ``empirical``, the NTK averaged
over ten outputs of DC's ConvNet of ``width`` without norm, by `ntk_contracted` or (``products``) `ntk`, theirs by the
same two routes: of the same network made of stax's layers, and (``borrowed``) of ours, our convolutions with it.
``devices`` virtual ones share the rows on a CPU (they share its cores too). ``temporary_mb`` is what XLA sets aside,
``difference`` the largest from neural-tangents relative to the largest entry.

    python benchmarks/kernels.py --quick
    python benchmarks/kernels.py --case=part=infinite,side=32,devices=1
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import _measure
import jax
import jax.numpy as jnp
import numpy as np

from kernels import empirical, infinite
from kernels import neural_tangents_bridge as bridge
from rcig import sharding
from rcig.models import dc_convnet
from rcig.types import Batch, PyTree

Kernel = Callable[[jax.Array, jax.Array], jax.Array]


def _case(part: str, program: str, rows: int, side: int = 32, width: int = 0, devices: int = 1) -> dict:
    return {"part": part, "program": program, "side": side, "width": width, "rows": rows, "devices": devices}


CASES = [
    *(_case("infinite", program, rows, side) for side, rows in ((16, 16), (32, 4)) for program in ("ours", "theirs")),
    *(_case("infinite", "ours", rows, 16) for rows in (32, 64, 128)),  # memory as the set grows
    *(_case("infinite", "ours", 16, 16, devices=devices) for devices in (2, 4, 8)),
    *(
        _case("empirical", program, rows, width=width)
        for width, rows in ((32, 32), (128, 16))
        for program in ("contracted", "theirs_contracted", "borrowed_contracted")
    ),
    *(_case("empirical", program, 8, width=32) for program in ("products", "theirs_products", "borrowed_products")),
    *(_case("empirical", "contracted", rows, width=32) for rows in (64, 128)),
    *(_case("empirical", "contracted", 32, width=32, devices=devices) for devices in (2, 4, 8)),
]
QUICK = [
    *(_case("infinite", program, 4, 8) for program in ("ours", "theirs")),
    _case("infinite", "ours", 4, 8, devices=2),
    *(_case("empirical", program, 4, 8, 8) for program in ("contracted", "theirs_contracted", "borrowed_contracted")),
]


def measure(part: str, program: str, side: int, width: int, rows: int, devices: int) -> dict:
    if devices > 1:
        jax.config.update("jax_num_cpu_devices", devices)
    layout, rng = sharding.layout("jit", devices), np.random.default_rng(0)
    x1, x2 = (jnp.asarray(rng.standard_normal((rows, side, side, 3), np.float32)) for _ in range(2))
    kernel = (infinite_kernel if part == "infinite" else empirical_kernel)(program, side, width)
    batch = layout.replicate(Batch(x1, jnp.zeros(rows, jnp.int32)))
    with warnings.catch_warnings(action="ignore"):  # theirs, of what jax means to drop
        compiled = jax.jit(lambda batch, x: kernel(layout.split(batch).inputs, x)).lower(batch, x2).compile()
        few = slice(0, 2)  # rows compared
        expected = np.nan
        if find_spec("neural_tangents"):
            reference = (infinite_kernel if part == "infinite" else empirical_kernel)("theirs_contracted", side, width)
            expected = jax.jit(reference)(x1[few], x2[few])
    x2 = layout.replicate(x2)
    times = _measure.timed(lambda: compiled(batch, x2))
    found = np.asarray(compiled(batch, x2))[few, few]
    return {
        "seconds": times.median,
        "entries_per_s": rows**2 / times.median,
        "rows_per_s": rows / times.median,
        "temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "peak_gb": _measure.peak_memory(),
        "difference": float(np.max(np.abs(found - expected)) / np.max(np.abs(expected))),
    }


def infinite_kernel(program: str, side: int, width: int) -> Kernel:
    """KIP's ConvNet: one convolution, then three blocks (two for 8 pixels)."""
    depth = 3 if side > 8 else 2
    if program == "ours":
        return lambda x1, x2: infinite.ntk("convnet", depth, x1, x2)
    return lambda x1, x2: bridge.ntk(bridge.convnet(depth), x1, x2)


def empirical_kernel(program: str, side: int, width: int) -> Kernel:
    """DC's ConvNet at its first parameters."""
    model = dc_convnet.make((side, side, 3), 10, width=width, norm="none")
    params = model.init(jax.random.key(0))["params"]
    fn = lambda params, x: model.apply({"params": params}, x, False, None)[0].logits
    if program == "contracted":
        return lambda x1, x2: empirical.ntk_contracted(fn, params, x1, x2)
    if program == "products":
        return lambda x1, x2: empirical.ntk(fn, params, x1, x2)
    whose, route = program.split("_")
    if whose == "theirs":
        fn, params = stax_convnet(params)
    nt, routes = bridge.load(), {"contracted": "JACOBIAN_CONTRACTION", "products": "NTK_VECTOR_PRODUCTS"}
    theirs = nt.empirical_ntk_fn(fn, trace_axes=(-1,), vmap_axes=0, implementation=nt.NtkImplementation[routes[route]])
    return lambda x1, x2: theirs(x1, x2, params)


def stax_convnet(params: PyTree) -> tuple[empirical.Apply, PyTree]:
    """Return the same network as a user of neural-tangents makes it, of stax's layers, and ``params`` in its order."""
    stax, layers, ordered = bridge.load().stax, [], []
    kernels = lambda layer: (layer["kernel"], layer["bias"])
    standard = {"parameterization": "standard", "b_std": 0.0}
    for name in sorted(set(params) - {"head"}):
        width = params[name]["bias"].size
        layers += [stax.Conv(width, (3, 3), padding="SAME", **standard), stax.Relu(), stax.AvgPool((2, 2), (2, 2))]
        ordered += [kernels(params[name]), (), ()]
    _, apply, _ = stax.serial(*layers, stax.Flatten(), stax.Dense(params["head"]["bias"].size, **standard))
    return apply, [*ordered, (), kernels(params["head"])]


def ratios(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        theirs = [
            r for r in rows if r["program"].startswith("theirs") and _same(r, row, "part", "side", "width", "rows")
        ]
        alone = [r for r in rows if r["devices"] == 1 and _same(r, row, "part", "program", "side", "width", "rows")]
        name = f"{row['part']} {row['program']}, side {row['side']}, width {row['width']}, {row['rows']} rows"
        if theirs and not row["program"].startswith("theirs") and row["devices"] == 1:
            fastest = min(other["seconds"] for other in theirs)
            lines.append(f"{name}: neural-tangents / ours {fastest / row['seconds']:.2f}")
        if alone and row["devices"] > 1:
            lines.append(f"{name}: 1 / {row['devices']} devices {alone[0]['seconds'] / row['seconds']:.2f}")
    return "\n".join(lines)


def _same(a: dict, b: dict, *fields: str) -> bool:
    return all(a[field] == b[field] for field in fields)


if __name__ == "__main__":
    _measure.main(__doc__, "kernels", CASES, QUICK, measure, ratios)
