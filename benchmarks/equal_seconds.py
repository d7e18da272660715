"""Nine methods that distil images, at equal wall time: the same seconds of distillation each, then a judge.

    python benchmarks/equal_seconds.py --quick                       # digits, 2 seconds each
    python benchmarks/equal_seconds.py                               # digits, 60 seconds each, ipc 1 and 10
    python benchmarks/equal_seconds.py --dataset=mnist --seconds=600 --methods=rcig,frepo,rfad,kip

Compilation does not count, nor do the experts of MTT, which this does not run. A trial tells how many steps the seconds
hold; rates that fall do so over so many. Networks are narrow, as in the cells for a few CPU cores. The judge trains
fresh networks on the set alone, asked once on the test split: by the method's own recipe where its config is judged by
the standard protocol, else by RCIG's (KIP) or RaT-BPTT's (DD). ``train_accuracy`` is the method's own, at the end.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import _measure
import jax
import numpy as np
from ml_collections import ConfigDict

from configs._families import bptt, kernel, matching, rat_bptt, rcig
from rcig import command, experiment, loop, sharding
from rcig import config as configs
from rcig.lookup import find
from rcig.types import Dataset, Method, PyTree

_CHUNK = 10  # steps a dispatch: the clock is asked after each
_MANY = 1000  # steps, where a config wants a number that does not count here


class Run(NamedTuple):
    """A method ready to go: compiled, and at step 0."""

    method: Method
    advance: Callable[[PyTree, int], tuple[PyTree, dict]]  # (state, steps done) -> state, metrics of the next steps
    start: PyTree  # on the host; `advance` uses up what it is given


def cases(dataset: str, seconds: int, ipcs: tuple[int, ...], methods: Sequence[str]) -> list[dict]:
    axes = itertools.product(ipcs, methods)
    return [{"dataset": dataset, "ipc": ipc, "method": method, "seconds": seconds} for ipc, method in axes]


def _rcig(dataset: str, ipc: int) -> ConfigDict:
    return rcig.digits(ipc, _MANY) if dataset == "digits" else rcig.narrow(rcig.grey(dataset, ipc))


def _dd(dataset: str, ipc: int) -> ConfigDict:
    """DD on random networks: RaT-BPTT's network and judge, ten steps of three passes over one image a class."""
    config, modern = bptt.get_config(dataset, "random", ipc, _MANY, inner_rate=0.01), _rat(dataset, ipc)
    config.method.update(batch_size=256, num_networks=1, learn_labels=True)
    config.model, config.eval = modern.model, modern.eval
    return config


def _rat(dataset: str, ipc: int) -> ConfigDict:
    return rat_bptt.small(dataset, ipc, _MANY)


def _kip(dataset: str, ipc: int) -> ConfigDict:
    config, judged = kernel.kip(dataset, ipc, learn_labels=True), _rcig(dataset, ipc)
    config.model, config.eval = judged.model, judged.eval
    return config


def _cell(family: ModuleType, method: Callable[[str, int], ConfigDict]) -> Callable[[str, int], ConfigDict]:
    return lambda dataset, ipc: family.cell(method, f"{dataset}_ipc{ipc}_cpu")


METHODS: dict[str, Callable[[str, int], ConfigDict]] = {  # name -> config of (data set, ipc) for a few CPU cores
    "rcig": _rcig,
    "frepo": _cell(kernel, kernel.frepo),
    "rfad": _cell(kernel, kernel.rfad),
    "kip": _kip,
    "dd": _dd,
    "rat_bptt": _rat,
    "dc": _cell(matching, matching.dc),
    "dsa": _cell(matching, matching.dsa),
    "dm": _cell(matching, matching.dm),
}


def measure(dataset: str, ipc: int, method: str, seconds: int) -> dict:
    config = configs.from_dict(METHODS[method](dataset, ipc).to_dict())
    command.set_up_jax(config.precision, config.x64)
    command.one_device_a_core()
    data = experiment.load_dataset(config)
    trial = ready(config, data)
    _, steps, spent, _ = spend(trial, min(seconds, 5))
    expected = int(seconds * steps / spent)
    falls = {"decay_steps": expected, "halve_every": expected // 10 + 1}
    falls = {f"method.{name}": value for name, value in falls.items() if config.method.get(name, 0)}
    trial = ready(configs.change(config, falls), data) if falls else trial
    state, steps, spent, trace = spend(trial, seconds)
    result = experiment.make_judge(config, data)(jax.random.key(0), sharding.fetch(trial.method.synthetic(state)))
    return {"steps": steps, "spent": spent, "train_accuracy": float(np.mean(trace["accuracy"])), **result.summary()}


def ready(config, data: Dataset) -> Run:
    """Compile a method's steps, by the loop's own means."""
    model = experiment.make_model(config.model, data)
    method = find("methods", config.method.name).make(model, **configs.options(config.method))
    schedule = loop.Schedule(num_steps=10**9, seed=config.seed)
    feeder, initial = loop.begin(method, data, experiment.make_start(config, data), schedule, sharding.layout())
    start = sharding.fetch(initial())

    def advance(state, done):
        return feeder.advance(feeder.layout.replicate(state), done, _CHUNK)  # the start comes from the host

    jax.block_until_ready(advance(start, 0))
    return Run(method, advance, start)


def spend(run: Run, seconds: float) -> tuple[PyTree, int, float, dict]:
    """Take steps from the start until the seconds are over. Returns state, steps, seconds, the last steps' metrics."""
    state, done, began = run.start, 0, time.perf_counter()
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
    parser.add_argument("--methods", default=",".join(METHODS))
    flags, sys.argv[1:] = parser.parse_known_args()
    methods = flags.methods.split(",")
    chosen, quick = cases(flags.dataset, flags.seconds, (1, 10), methods), cases(flags.dataset, 2, (1,), methods)
    _measure.main(__doc__, "equal_seconds", chosen, quick, measure)
