"""How to train n networks for an evaluation: one after the other, together by lax.map, by vmap, or one on each core.

The training is the evaluation's own (rcig/training.py) with its choice of mapping replaced; `map_networks` and
`over_networks` there say which of them is used where, and this is the measurement behind it.

    python benchmarks/networks_together.py [--quick]     about 4 minutes on 2 cores
"""

from functools import partial

import _measure
import jax
from jax import lax

from rcig import command, training
from rcig.models import convnet
from rcig.types import Synthetic

_NETWORKS, _STEPS = 6, 8
_MAP = lambda fn: partial(lax.map, fn)
WAYS = {"apart": _MAP, "map": _MAP, "vmap": jax.vmap, "cores": _MAP}
CASES = [
    {"width": width, "examples": examples, "way": way}
    for width, examples in ((32, 10), (128, 10), (128, 100))
    for way in WAYS
]
QUICK = [{"width": 8, "examples": 10, "way": way} for way in WAYS]


def measure(width: int, examples: int, way: str) -> dict:
    """Milliseconds of one step of one network, on ``examples`` 32-pixel colour images; compilation apart."""
    training.map_networks = WAYS[way]
    if way == "cores":
        command.one_device_a_core()
    model = convnet.make((32, 32, 3), 10, width=width)
    keys = jax.random.split(jax.random.key(0), 2)
    synthetic = Synthetic(jax.random.normal(keys[0], (examples, 32, 32, 3)), jax.random.normal(keys[1], (examples, 10)))
    recipe = training.Recipe(_STEPS, 256, "mse", "adam", 1e-4)
    together, rounds = (1, _NETWORKS) if way == "apart" else (_NETWORKS, 1)

    def run():
        keys = jax.random.split(jax.random.key(2), rounds)
        return [training.train_networks(key, model, synthetic, recipe, together) for key in keys]

    times = _measure.timed(run)
    return {
        "ms": 1e3 * times.median / (_NETWORKS * _STEPS),
        "compile_s": times.first,
        "peak_gb": _measure.peak_memory(),
    }


def ratios(rows: list[dict]) -> str:
    lines = []
    for apart in (row for row in rows if row["way"] == "apart"):
        same = [row for row in rows if (row["width"], row["examples"]) == (apart["width"], apart["examples"])]
        told = ", ".join(f"{row['way']} {apart['ms'] / row['ms']:.2f}" for row in same)
        lines.append(f"width {apart['width']}, {apart['examples']} examples, apart / way: {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    _measure.main(__doc__, "networks_together", CASES, QUICK, measure, ratios)
