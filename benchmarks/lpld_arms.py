"""LPLD's arms: what each recovered set is worth at each share of its soft labels, beside random real images.

Arms share a seed's teacher, its labelling and its students, so that differences are paired by seed:

    real        random real images
    sre2l       batches across classes, running statistics
    c           batches within a class, running statistics
    cs_ema      batches within a class, class statistics as the released code takes them
    cs          the same, exact: LPLD
    rded        realistic crops

    python benchmarks/lpld_arms.py --runs=runs/lpld_arms                      # 5 seeds: an hour on 2 cores
    python benchmarks/lpld_arms.py --runs=/tmp/arms --seeds=1 --set method.decay_steps=20 --set method.label_epochs=4

A cell (arm, ratio, seed) is a line of <runs>/cells.jsonl, and a cell that is there is not measured again. At the end:
<runs>/table.md, accuracy in percent, mean ± population std over seeds, with paired differences; <runs>/ratios.png.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import _measure
import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from rcig import artefact, command, experiment, initialize
from rcig import config as configs
from rcig.errors import UserError, unknown
from rcig.files import write
from rcig.render import png
from rcig.soft_labels import LabelPool

RATIOS = (0.0, 0.9, 0.975)
OWN = "cs"  # the arm that trains the seed's teacher
ARMS: dict[str, tuple[str, dict[str, str]]] = {  # config beside this config, and what the arm changes
    "cs": ("lpld", {}),
    "cs_ema": ("lpld", {"method.class_statistics": "ema"}),
    "c": ("lpld", {"method.supervision": "class_batches"}),
    "sre2l": ("lpld", {"method.supervision": "global"}),
    "rded": ("rded", {}),
    "real": ("lpld", {}),
}
PAIRS = (("cs", "sre2l"), ("cs_ema", "sre2l"), ("cs", "c"), ("cs", "real"), ("cs", "rded"))
Cells = dict[tuple[str, float, int], dict]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="where runs, cells and results go")
    parser.add_argument("--dataset", default="digits", help="the arms of configs/lpld_<dataset>.py and rded_<dataset>")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--record", action="store_true", help="append the table to benchmarks/results")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of every arm's config that has it")
    flags = parser.parse_args()
    command.tune_allocator()
    command.set_up_jax("default", x64=False)  # above all the cache of compiled programs: every cell compiles the same
    arms = check(flags)
    cells = read(flags.runs)
    for seed in range(flags.seeds):
        missing = [arm for arm in arms if any((arm, ratio, seed) not in cells for ratio in RATIOS)]
        for arm in dict.fromkeys([OWN, *missing]) if missing else ():
            config, workdir = made(flags, arm, seed), folder(flags.runs, arm, seed)
            if arm != "real":
                experiment.distill(config, workdir)
            for ratio in RATIOS if arm in missing else ():
                if (arm, ratio, seed) not in cells:
                    append(flags.runs, measure(flags.runs, arm, ratio, seed, config))
        cells = read(flags.runs)
        jax.clear_caches()  # a process maps at most 65,530 regions of memory, of which every program takes some
    cells = {cell: row for cell, row in cells.items() if cell[2] < flags.seeds}
    text = report(cells, arms)
    write(flags.runs / "table.md", text.encode())
    write(flags.runs / "ratios.png", plot(cells, arms))
    for row in worth(cells, arms) if flags.record else ():
        _measure.record("lpld_arms", {"dataset": flags.dataset, "seeds": flags.seeds} | row | _measure.where())
    print(text)


def check(flags: argparse.Namespace) -> list[str]:
    """Return the arms. Raises UserError for unknown ones, and for a folder whose cells are of other options."""
    arms = flags.arms.split(",")
    for arm in arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS)
    told = json.dumps({"dataset": flags.dataset, "set": sorted(flags.set)})
    note = flags.runs / "options.json"
    if note.exists() and note.read_text() != told:
        raise UserError(f"{flags.runs} holds cells of {note.read_text()}, not of {told}; choose another --runs")
    write(note, told.encode())
    return [arm for arm in ARMS if arm in arms]


def made(flags: argparse.Namespace, arm: str, seed: int) -> ConfigDict:
    """Return an arm's config. Raises UserError for a value that does not fit."""
    family, changes = ARMS[arm]
    config = configs.load(f"{family}_{flags.dataset}", [f"--config.seed={seed}"])
    if arm != OWN:
        changes = changes | {"method.teacher": str(folder(flags.runs, OWN, seed).resolve())}
    given = dict(text.split("=", 1) for text in flags.set)
    if "method.decay_steps" in given and family == "lpld":
        given |= {"num_steps": given["method.decay_steps"]}
    config = configs.change(config, changes)
    return configs.change(config, {name: value for name, value in given.items() if has(config, name)})


def has(config: ConfigDict, name: str) -> bool:
    section, _, field = name.rpartition(".")
    return field in (config[section] if section else config)


def folder(runs: Path, arm: str, seed: int) -> Path:
    return runs / f"{arm}_seed{seed}"


def measure(runs: Path, arm: str, ratio: float, seed: int, config: ConfigDict) -> dict:
    """Train one student, the same for every arm of a seed but for what it learns from."""
    began = time.monotonic()
    source = folder(runs, OWN if arm == "real" else arm, seed)
    said = {"label_pool": str(source / "soft_labels"), "pruning_ratio": ratio, "num_networks": 1}
    config = configs.change(config, {f"eval.{name}": value for name, value in said.items()})
    dataset = experiment.load_dataset(config)
    judge = experiment.make_judge(config, dataset)
    if arm == "real":
        key = jax.random.fold_in(jax.random.key(seed), 7)
        synthetic = initialize.initialize("real", key, dataset, config.ipc, config.init_labels)
    else:
        synthetic = artefact.load(source).synthetic
    result = judge(experiment.judges_key(seed), synthetic)
    pool = LabelPool.open(source / "soft_labels")
    row = {"arm": arm, "ratio": ratio, "seed": seed, "accuracy": result.accuracy, **result.details}
    row |= {"records_in_all": pool.total, "seconds": time.monotonic() - began}
    return row | _measure.where()


def read(runs: Path) -> Cells:
    """Return the cells that were measured; a torn last line is none."""
    path, cells = runs / "cells.jsonl", {}
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.endswith("}"):
            row = json.loads(line)
            cells[row["arm"], row["ratio"], row["seed"]] = row
    return cells


def append(runs: Path, row: dict) -> None:
    print(f"{row['arm']} at ratio {row['ratio']}, seed {row['seed']}: {100 * row['accuracy']:.1f} %", flush=True)
    with open(runs / "cells.jsonl", "a") as file:
        file.write("\n" + json.dumps(row))  # first, so that a torn line stays alone


# -- what comes out


def accuracies(cells: Cells, arm: str, ratio: float) -> dict[int, float]:
    """Return seed -> accuracy in percent."""
    return {seed: 100 * row["accuracy"] for (a, r, seed), row in sorted(cells.items()) if (a, r) == (arm, ratio)}


def worth(cells: Cells, arms: Sequence[str]) -> list[dict[str, str]]:
    """Return a row for every arm: its accuracies, and what pruning costs it."""
    rows = [{"arm": arm} | {heading(r): mean(accuracies(cells, arm, r)) for r in RATIOS} for arm in arms]
    for row, arm in zip(rows, arms, strict=True):
        row[f"drop to {heading(RATIOS[-1])}"] = mean(difference(cells, (arm, RATIOS[0]), (arm, RATIOS[-1])))
    return rows


def report(cells: Cells, arms: Sequence[str]) -> str:
    """Return the table of accuracies and the paired differences, in Markdown."""
    pairs = [pair for pair in PAIRS if set(pair) <= set(arms)]
    paired = [
        {"difference": f"{a} - {b}"} | {heading(r): mean(difference(cells, (a, r), (b, r))) for r in RATIOS}
        for a, b in pairs
    ]
    if {"cs", "sre2l"} <= set(arms):
        low, high = RATIOS[-1], RATIOS[0]
        name = f"cs at {heading(low)} - sre2l at {heading(high)}"
        paired.append({"difference": name, heading(low): mean(difference(cells, ("cs", low), ("sre2l", high)))})
    seeds = len({seed for _, _, seed in cells})
    lines = [
        f"Test accuracy in percent, mean ± population std over {seeds} seeds.",
        "",
        _measure.table(worth(cells, arms)),
        "",
    ]
    return "\n".join([*lines, "Paired by seed:", "", _measure.table(paired) if paired else "", ""])


def difference(cells: Cells, a: tuple[str, float], b: tuple[str, float]) -> dict[int, float]:
    first, second = accuracies(cells, *a), accuracies(cells, *b)
    return {seed: first[seed] - second[seed] for seed in first.keys() & second.keys()}


def mean(values: dict[int, float]) -> str:
    numbers = list(values.values())
    spread = f" ± {np.std(numbers):.1f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.1f}{spread}" if numbers else "not run"


def heading(ratio: float) -> str:
    return f"{1 / (1 - ratio):.0f}x"


def plot(cells: Cells, arms: Sequence[str]) -> bytes:
    """Return accuracy against pruning ratio for each arm, as PNG."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for arm in arms:
        values = [list(accuracies(cells, arm, ratio).values()) or [np.nan] for ratio in RATIOS]
        means, stds = [np.mean(v) for v in values], [np.std(v) for v in values]
        axes.errorbar([heading(ratio) for ratio in RATIOS], means, stds, label=arm, marker="o", capsize=2)
    axes.set(xlabel="soft labels pruned to 1/n", ylabel="test accuracy, %")
    axes.legend(fontsize="small")
    return png(figure)


if __name__ == "__main__":
    command.main(main)
