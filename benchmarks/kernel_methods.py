"""RCIG, FRePo, RFAD and KIP at equal wall time: the same seconds of distillation each, then the same judge.

    python benchmarks/kernel_methods.py --quick                      # digits, 2 seconds each
    python benchmarks/kernel_methods.py                              # digits, 60 seconds each, ipc 1 and 10
    python benchmarks/kernel_methods.py --dataset=mnist --seconds=600

Compilation does not count. A trial tells how many steps the seconds hold; rates that fall do so over so many. The judge
is RCIG's: fresh networks trained on the set alone, the same for all, asked once on the test split. Networks are narrow,
as in the cells for a few CPU cores; ``train_accuracy`` is the method's own, on its last batches.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import _measure
import jax
import numpy as np

from configs._families import kernel, rcig
from rcig import command, experiment, loop, sharding
from rcig import config as configs
from rcig.lookup import find
from rcig.types import Batch, Dataset, Method, PyTree

METHODS = ("rcig", "frepo", "rfad", "kip")
_CHUNK = 10  # steps a dispatch: the clock is asked after each


class Run(NamedTuple):
    """A method ready to go: compiled, and at step 0."""

    method: Method
    advance: Callable[[PyTree, int], tuple[PyTree, dict]]  # (state, steps done) -> state, metrics of the next steps
    start: PyTree  # on the host; `advance` uses up what it is given


def cases(dataset: str, seconds: int, ipcs: tuple[int, ...]) -> list[dict]:
    axes = itertools.product(ipcs, METHODS)
    return [{"dataset": dataset, "ipc": ipc, "method": method, "seconds": seconds} for ipc, method in axes]


def settings(dataset: str, ipc: int, method: str):
    """Return the config of a method for a few CPU cores; its numbers of steps do not count."""
    small = dataset == "digits"
    if method == "rcig":
        config = rcig.digits(ipc, 1000) if small else rcig.narrow(rcig.grey(dataset, ipc))
    elif method == "kip":
        config = kernel.kip(dataset, ipc, learn_labels=True)
    else:
        published = {"frepo": kernel.frepo, "rfad": kernel.rfad}[method]
        config = kernel.cell(published, f"{dataset}_ipc{ipc}_cpu")
    return configs.from_dict(config.to_dict())


def measure(dataset: str, ipc: int, method: str, seconds: int) -> dict:
    config = settings(dataset, ipc, method)
    command.set_up_jax(config.precision, config.x64)
    data = experiment.load_dataset(config)
    trial = ready(config, data)
    _, steps, spent, _ = spend(trial, min(seconds, 5))
    if config.method.get("decay_steps", 0):
        trial = ready(configs.change(config, {"method.decay_steps": int(seconds * steps / spent)}), data)
    state, steps, spent, trace = spend(trial, seconds)
    judge = experiment.make_judge(settings(dataset, ipc, "rcig"), data)
    result = judge(jax.random.key(0), sharding.fetch(trial.method.synthetic(state)))
    return {"steps": steps, "spent": spent, "train_accuracy": float(np.mean(trace["accuracy"])), **result.summary()}


def ready(config, data: Dataset) -> Run:
    """Compile a method's steps, by the loop's own means."""
    model = experiment.make_model(config.model, data)
    method = find("methods", config.method.name).make(model, **configs.options(config.method))
    layout = sharding.layout()
    feeder = loop._feeder(method, data, loop.Schedule(num_steps=10**9), layout)
    first = Batch(*(a[0] for a in feeder.host_batches(0, 1)))
    initial = jax.jit(partial(loop._initial, method))
    start = sharding.fetch(initial(jax.random.key(config.seed), experiment.make_start(config, data), first))
    advance = partial(feeder.advance, count=_CHUNK)
    jax.block_until_ready(advance(layout.replicate(start), 0))
    return Run(method, advance, start)


def spend(run: Run, seconds: float) -> tuple[PyTree, int, float, dict]:
    """Take steps from the start until the seconds are over. Returns state, steps, seconds, the last steps' metrics."""
    state, done, began = sharding.layout().replicate(run.start), 0, time.perf_counter()
    while True:
        state, trace = run.advance(state, done)
        done += _CHUNK
        trace = sharding.fetch(trace)
        spent = time.perf_counter() - began
        if spent >= seconds:
            return state, done, spent, trace


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--dataset", default="digits", choices=("digits", "mnist", "fashion_mnist"))
    parser.add_argument("--seconds", type=int, default=60)
    flags, sys.argv[1:] = parser.parse_known_args()
    chosen = cases(flags.dataset, flags.seconds, (1, 10))
    _measure.main(__doc__, "kernel_methods", chosen, cases(flags.dataset, 2, (1,)), measure)
