"""The command `python -m rcig.matrix`: which network's sets are good for which networks, as table, JSON and heat map.

    for run in runs/dc_*; do python eval.py --distilled=$run --protocol=cross_arch; done
    python -m rcig.matrix matrix runs/dc_*             # prints the table, writes matrix.json and matrix.png

A row is a run that the cross-architecture protocol has measured, called as its workdir; a column is a network that was
trained on its set (Zhao et al. 2021, table 2). An architecture that a run was not asked for is a dash.
"""

import json
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rcig import command
from rcig.errors import UserError
from rcig.report import aligned, check_outside, save_outside

_CELL = ("accuracy", "std", "n")
Matrix = dict[str, dict[str, Mapping[str, Any]]]  # row -> column -> {accuracy, std, n}


def main() -> None:
    parser = command.parser(*__doc__.split("\n", 1), prog="python -m rcig.matrix")
    parser.add_argument("out", type=command.place, help="where to write, without ending")
    parser.add_argument("runs", type=command.place, nargs="+", help="workdirs with an eval-cross_arch.json")
    flags = parser.parse_args()
    check_outside(flags.out, flags.runs)
    matrix = read(flags.runs)
    save_outside(flags.out, matrix, heat_map(matrix))
    print(table(matrix))


def read(runs: Sequence[Path]) -> Matrix:
    """Return what eval.py left in the workdirs. Raises UserError for one without it, or of another data set.

    Warns of rows that were measured in different ways.
    """
    matrix: Matrix = {}
    told: dict[str, set[str]] = {name: set() for name in ("dataset", "ipc", "preset", "options")}
    for run in runs:
        path = run / "eval-cross_arch.json"
        try:
            report = json.loads(path.read_bytes())
            row = report["architectures"]
            for name in told:
                told[name].add(str(report.get(name)))
            matrix[run.resolve().name] = {name: {key: float(of[key]) for key in _CELL} for name, of in row.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise UserError(
                f"cannot read {path}; {run} must be the workdir of a run (not a set alone), measured with "
                f"python eval.py --distilled={shlex.quote(str(run))} --protocol=cross_arch"
            ) from None
    if len(matrix) < len(runs):
        raise UserError(f"two of {', '.join(map(str, runs))} have the same name; rename a workdir")
    if len(told["dataset"]) > 1:
        raise UserError(f"the runs are of different data sets, {', '.join(sorted(told['dataset']))}; name those of one")
    for name, values in told.items():
        if len(values) > 1:
            warnings.warn(f"the rows differ in {name}: {', '.join(sorted(values))}", stacklevel=2)
    return matrix


def columns(matrix: Matrix) -> list[str]:
    """Return the architectures in the order in which the rows bring them."""
    return list(dict.fromkeys(name for row in matrix.values() for name in row))


def table(matrix: Matrix) -> str:
    """Return the matrix as aligned lines; percent, mean ± population standard deviation over networks."""
    names = columns(matrix)
    cells = [["", *names]]
    cells += [[run, *(_cell(row[name]) if name in row else "-" for name in names)] for run, row in matrix.items()]
    return "\n".join(aligned(cells))


def heat_map(matrix: Matrix) -> Figure:
    """Draw the mean accuracies, one square each, rows above one another."""
    names = columns(matrix)
    means = np.array(
        [[100 * row[name]["accuracy"] if name in row else np.nan for name in names] for row in matrix.values()]
    )
    figure = Figure((2.5 + 0.9 * len(names), 1.5 + 0.5 * len(matrix)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(means, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(matrix)), list(matrix), parse_math=False)  # a workdir may be called $x
    axes.set(xlabel="trained on the set and tested", ylabel="distilled set")
    middle = np.nanmean(means)
    for (row, column), mean in np.ndenumerate(means):
        if np.isfinite(mean):
            axes.text(column, row, f"{mean:.1f}", ha="center", va="center", color="black" if mean > middle else "white")
    figure.colorbar(image, label="test accuracy, %")
    return figure


def _cell(row: Mapping[str, Any]) -> str:
    return f"{100 * row['accuracy']:.1f} ± {100 * row['std']:.1f}"


if __name__ == "__main__":
    command.main(main)
