"""Write the tables of results from what is on disk: benchmarks/results/*.jsonl and the cards of checkpoints.

    python benchmarks/tables.py            accuracies to README.md, speed to benchmarks/README.md, between two markers
    python benchmarks/tables.py --print    prints them and touches nothing

The newest line of every case on every machine counts; cases without results are left out. Published numbers come from
the docstrings of configs.
"""

import argparse
import ast
import json
import re
from collections.abc import Iterable, Sequence

import _measure

BEGIN, END = "<!-- results -->", "<!-- /results -->"

# benchmark: title, fields that make a case, readings shown
SPEED: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "rcig_step": (
        "One meta-step of RCIG at CIFAR-10's shape; `plain` is the straightforward program, K steps a dispatch",
        ("width", "ipc", "batch", "program", "K"),
        ("seconds", "plain / this", "gflop_per_s", "peak_gb"),
    ),
    "lpld_arms": (
        "Students of soft labels pruned to 1/n, percent over seeds, by how the images were made (cs: LPLD)",
        ("dataset", "arm", "seeds"),
        ("1x", "10x", "40x", "drop to 40x"),
    ),
    "lpld": (
        "LPLD's stages a second beside a host loop, records read a second beside an npz file a batch, and what memory "
        "grows by while a pool on disk is read at random",
        ("part", "side", "width", "networks", "rows", "gigabytes"),
        ("ours_per_s", "host_loop_per_s", "times", "sequential_ours", "sequential_npz", "random_ours", "random_npz")
        + ("grown_mb",),
    ),
    "equal_seconds": (
        "Accuracy after equal seconds of distillation, narrow networks, judged by plain training",
        ("dataset", "ipc", "method", "seconds"),
        ("steps", "train_accuracy", "accuracy", "std", "n"),
    ),
    "bptt_step": (
        "One DD meta-step, 30 inner steps, real batch of 1,024, by what the backward pass keeps",
        ("model", "mode", "rows", "batch", "devices"),
        ("seconds", "gflop_per_s", "temporary_mb", "difference"),
    ),
    "conv2d": (
        "Our convolution and lax's inside `lax.scan`, milliseconds a step",
        ("loop", "width", "side", "batch"),
        ("ours_ms", "float32_ms", "lax_ms", "ratio"),
    ),
    "matching_step": (
        "One step of DM, DC, DSA, or an epoch of their evaluation; `plain` is a Python loop over classes and networks",
        ("part", "ipc", "width", "batch", "networks", "program"),
        ("seconds", "plain / this", "peak_gb"),
    ),
    "kernels": (
        "A kernel matrix; `theirs` is neural-tangents, `borrowed` the same on our network",
        ("part", "side", "width", "rows", "devices", "program"),
        ("seconds", "plain / this", "temporary_mb", "difference"),
    ),
    "allocator": (
        "A training step with and without the allocator's settings",
        ("width", "batch", "allocator"),
        ("ms", "page_faults", "peak_gb"),
    ),
    "networks_together": (
        "Training 6 networks for an evaluation, milliseconds a network and step; cores: one on each",
        ("width", "examples", "way"),
        ("ms", "compile_s", "peak_gb"),
    ),
}


def accuracy() -> str:
    """Return the table of accuracies: shipped sets first, then runs of the queue."""
    rows = []
    for path in sorted((_measure.ROOT / "checkpoints").glob("*/card.json")):
        card = json.loads(path.read_text())
        rows += [_accuracy_row(path.parent.name, card["step"], result) for result in card["accuracies"]]
    runs = [row for row in _measure.read("gpu_queue") if "accuracy" in row and row["job"] != "smoke"]
    rows += [_accuracy_row(row["job"], row["step"], row) for row in _newest(runs, ("job",))]
    return (
        "Test accuracy in percent, mean ± population std over n fresh networks\n\n" + _measure.table(rows)
        if rows
        else ""
    )


def speed(name: str) -> str:
    """Return a benchmark's table for every machine it has run on."""
    title, case, readings = SPEED[name]
    rows = [_named(row) for row in _measure.read(name) if "failed" not in row and not row.keys().isdisjoint(readings)]
    rows = _newest(rows, (*case, "machine"))
    blocks = []
    for machine in dict.fromkeys(row["machine"] for row in rows):
        here = [row for row in rows if row["machine"] == machine]
        here = [row | _against_plain(row, here) for row in here]
        commits = ", ".join(sorted({re.sub(r"(?<=^.{8})[^-]*", "", str(row["commit"])) for row in here}))
        blocks.append(f"{title}; {machine}, commit {commits}\n\n{_measure.table(here, [*case, *readings])}")
    return "\n\n".join(blocks)


def published(name: str) -> str:
    """Return the paper's accuracy for a config or a cell, as the docstring has it, or nothing."""
    stem = re.sub(r"_cpu$", "", name)
    family, _, cell = stem.partition("_")
    for config, marker in ((name, "Paper:"), (stem, "Paper:"), (family, rf"\n *{cell} ")):
        path = _measure.ROOT / "configs" / f"{config}.py"
        text = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else None
        found = re.search(rf"{marker} *([\d.]+(?: ± [\d.]+)?)(?: \(([^)]*)\))?", text or "")
        if found:
            return found[1] + (f" ({found[2]})" if found[2] and found[2] != "seen" else "")
    return ""


def _accuracy_row(name: str, step: int, result: dict) -> dict[str, str]:

    def percent(mean, std):
        several = result["n"] > 1 or f"{mean}_draws" in result
        spread = f" ± {100 * result[std]:.1f}" if several and std in result else ""
        return f"{100 * result[mean]:.1f}{spread}" if mean in result else ""

    return {
        "set": name,
        "steps": f"{step}" + (f" of {result['num_steps']}" if result.get("num_steps", step) != step else ""),
        "protocol": result["protocol"],
        "evaluated on": result["model"],
        "accuracy": percent("accuracy", "std"),
        "with augmentation": percent("accuracy_augmented", "std_augmented"),
        "n": str(result["n"]),
        "random real": percent("baseline_random", "baseline_random_std") + _draws(result),
        "all data": percent("full_data", "full_data_std"),
        "published": published(name),
    }


def _draws(result: dict) -> str:
    """Say so where the ± is over networks alone."""
    return " (one draw)" if "baseline_random" in result and "baseline_random_draws" not in result else ""


def _named(row: dict) -> dict:
    return row | ({"K": row["dispatched"]} if "dispatched" in row else {})


def _against_plain(row: dict, rows: Sequence[dict]) -> dict:
    """Return how much faster a program is than the plain one, or another's, of the same case and commit."""
    fields = ("part", "side", "rows", "devices", "width", "ipc", "batch", "networks")
    commit = lambda row: str(row.get("commit")).removesuffix("-dirty")
    same = lambda other: commit(row) == commit(other) and all(row.get(key) == other.get(key) for key in fields)
    route = str(row.get("program")).split("_")[-1]  # theirs_contracted is what contracted is compared with
    plain = [other for other in rows if other.get("program") in ("plain", "theirs", f"theirs_{route}") and same(other)]
    return {"plain / this": plain[-1]["seconds"] / row["seconds"]} if plain else {}


def _newest(rows: Iterable[dict], key: Sequence[str]) -> list[dict]:
    return list({tuple(row.get(field) for field in key): row for row in rows}.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", dest="show", help="print the tables, touch nothing")
    show = parser.parse_args().show
    speeds = "\n\n".join(filter(None, map(speed, SPEED)))
    for name, tables in (("README.md", accuracy()), ("benchmarks/README.md", speeds)):
        path, tables = _measure.ROOT / name, tables or "No results yet."
        if show:
            print(tables, end="\n\n")
            continue
        before, rest = path.read_text().split(BEGIN)
        path.write_text(f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
