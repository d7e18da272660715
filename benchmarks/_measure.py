"""What the benchmarks share: timed calls, a process of its own for every case, results as JSON lines.

A benchmark is a list of cases (dicts of parameters) and a function ``measure(**case) -> dict`` of readings:

    if __name__ == "__main__":
        _measure.main(__doc__, "allocator", CASES, QUICK, measure)

Every case runs in a fresh process, so that its peak memory is its own. A line of ``results/<name>.jsonl`` holds the
case, its readings, and where they were read: machine, load of the machine at the start, commit, versions, date.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or ROOT / "benchmarks" / "results")
sys.path.insert(0, str(ROOT))  # methods, configs and the commands, also where the package is not installed

Case = dict[str, Any]
Row = dict[str, Any]
WHERE = ("machine", "load", "commit", "jax", "python", "date")


class Times(NamedTuple):
    """Wall seconds of one call."""

    best: float
    median: float
    n: int
    first: float  # the first call's excess over the median: compilation


def timed(fn: Callable[[], Any], repeats: int = 5, budget: float = 30.0) -> Times:
    """Time ``fn()`` until its result is ready: once to compile, then up to ``repeats`` times or ``budget`` seconds."""
    import jax

    def once() -> float:
        began = time.perf_counter()
        jax.block_until_ready(fn())
        return time.perf_counter() - began

    first, seconds = once(), [once()]
    while len(seconds) < repeats and sum(seconds) + seconds[-1] < budget:
        seconds.append(once())
    median = statistics.median(seconds)
    return Times(min(seconds), median, len(seconds), max(0.0, first - median))


def peak_memory() -> float:
    """Return the GB that this process has held at most: on an accelerator the device's, else the resident set."""
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit) / 1e9


def main(
    title: str, name: str, cases: Sequence[Case], quick: Sequence[Case], measure: Callable[..., Row], finish=None
) -> None:
    """Run the command line of a benchmark.

    Args: title, shown by --help; cases, run by default; quick, small ones that show that the script runs; finish,
    ``rows -> text`` printed below the table.
    """
    parser = argparse.ArgumentParser(description=title, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases, printed but not recorded")
    parser.add_argument(
        "--case", action="append", help="FIELD=VALUE,...: only the cases that agree, or if none a new one"
    )
    parser.add_argument("--missing", action="store_true", help="only the cases that have no reading of this code here")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        readings = measure(**json.loads(flags.child))
        print(json.dumps(readings | where()))
        return
    chosen = list(quick if flags.quick else cases)
    if flags.case:
        chosen = [case for text in flags.case for case in _select(chosen, _parse(text))]
    if flags.missing:
        here = where()
        read_here = [row for row in read(name) if all(row.get(key) == here[key] for key in ("machine", "commit"))]
        chosen = [case for case in chosen if not any(case.items() <= row.items() for row in read_here)]
    if flags.list:
        print("\n".join(",".join(f"{key}={value}" for key, value in case.items()) for case in chosen))
        return
    rows = []
    for case in chosen:
        rows.append(_run(case))
        print(f"{name}: {rows[-1]}", file=sys.stderr, flush=True)
        if not flags.quick:
            record(name, rows[-1])
    if rows:
        print(f"\n{name} on {rows[-1].get('machine', 'this machine')}\n{table(rows)}")
    if any("failed" in row for row in rows):
        sys.exit(1)
    if finish and rows:
        print(finish(rows))


def with_root() -> dict[str, str]:
    """Return the environment of a child that imports what this process can, and this checkout first."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def record(name: str, row: Mapping[str, Any]) -> None:
    """Append one line to ``results/<name>.jsonl``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / f"{name}.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


def read(name: str) -> list[Row]:
    """Return the lines of ``results/<name>.jsonl``, oldest first; none where there is no such file."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def table(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as a Markdown table; ``columns`` default to all but where the readings were taken."""
    columns = columns or list(dict.fromkeys(key for row in rows for key in row if key not in WHERE))
    cells = [list(columns)] + [[_show(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _run(case: Case) -> Row:
    """Measure one case in a fresh process, with the allocator that the commands give themselves on a CPU."""
    from rcig import command

    environment = with_root()
    if case.get("allocator", "tuned") == "tuned" and command.wants_allocator():
        environment["GLIBC_TUNABLES"] = command.ALLOCATOR
    load = os.getloadavg()[0]
    arguments = [sys.executable, sys.argv[0], "--child", json.dumps(case)]
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return case | {"failed": f"status {done.returncode}", "load": load}
    return case | json.loads(done.stdout.splitlines()[-1]) | {"load": load}


def where() -> Row:
    import jax

    from rcig import card

    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    versions = {"jax": jax.__version__, "python": platform.python_version()}
    return {"machine": machine(), "commit": card.commit(), "date": date} | versions


def machine() -> str:
    """Return the device in words."""
    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{len(jax.devices())} x {device.device_kind}"
    try:
        info = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
        name = next(line.split(":")[1].strip() for line in info.splitlines() if line.startswith("Model name"))
    except (OSError, subprocess.SubprocessError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}"


def _parse(text: str) -> Case:
    return {key: _number(value) for key, value in (pair.split("=", 1) for pair in text.split(","))}


def _number(text: str) -> int | float | str:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _select(cases: Sequence[Case], wanted: Case) -> list[Case]:
    agreeing = [case for case in cases if all(case.get(key) == value for key, value in wanted.items())]
    return agreeing or [cases[0] | wanted]


def _show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
