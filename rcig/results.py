"""The command `python -m rcig.results`: what many runs were measured to be worth, in one table.

    for s in 0 1 2; do
      python distill_dataset.py --config=quickstart --workdir=runs/seed$s --config.seed=$s
      python eval.py --distilled=runs/seed$s
    done
    python -m rcig.results runs/*

A row is a result on a set's card, its columns what tells the rows apart: the fields of the sets' configs, then those of
the evaluations. Accuracies in percent, mean ± population standard deviation over n networks.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcig import artefact, command
from rcig.config_source import flat
from rcig.errors import UserError
from rcig.report import aligned

Row = dict[str, str]
_NUMBERS = ("accuracy", "accuracy_augmented", "baseline_random", "full_data", "n")  # the last columns
_ALWAYS = ("run", "accuracy", "n")


def main() -> None:
    parser = command.parser(*__doc__.split("\n", 1), prog="python -m rcig.results")
    parser.add_argument("runs", type=command.place, nargs="+", help="workdirs or distilled/ folders")
    flags = parser.parse_args()
    print(table([row for run in flags.runs for row in rows(run)]))


def rows(run: Path) -> list[Row]:
    """Return the results of a run, the older first, every field as text. Raises UserError for what is no set."""
    card = artefact.load(run).card
    said = {name: _text(value) for name, value in flat(card["config"]).items() if not name.startswith("eval.")}
    shared = {"run": run.name if run.name != "distilled" else run.resolve().parent.name, "step": str(card["step"])}
    return [shared | said | _measured(result) for result in card["accuracies"]]


def table(found: Sequence[Row]) -> str:
    """Return rows as aligned lines, without columns in which all are alike. Raises UserError where there is none."""
    if not found:
        raise UserError("none of these sets was measured; run python eval.py --distilled=RUN first")
    names = sorted(dict.fromkeys(name for row in found for name in row), key=_NUMBERS.__contains__)
    differ = [name for name in names if name in _ALWAYS or len({row.get(name, "") for row in found}) > 1]
    return "\n".join(aligned([differ, *([row.get(name, "") for name in differ] for row in found)]))


def _measured(result: Mapping[str, Any]) -> Row:
    """Return an evaluation's own fields, then its numbers."""
    told = {name: str(result[name]) for name in ("dataset", "protocol", "preset", "model") if name in result}
    told |= {"eval.seed": str(result.get("seed", ""))}
    told |= {f"eval.{name}": _text(value) for name, value in result.get("options", {}).items()}
    return told | {name: _percent(result, name) for name in _NUMBERS[:-1] if name in result} | {"n": str(result["n"])}


def _percent(result: Mapping[str, Any], name: str) -> str:
    std = result.get(f"std{name.removeprefix('accuracy')}" if name.startswith("accuracy") else f"{name}_std", 0.0)
    return f"{100 * result[name]:.1f} ± {100 * std:.1f}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    command.main(main)
