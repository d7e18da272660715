"""The result of an evaluation: a table for people, a JSON file for machines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rcig import artefact
from rcig.data.cache import default_folder
from rcig.errors import UserError
from rcig.files import disk_errors, write
from rcig.render import png
from rcig.render_chart import figure

BASELINES = {
    "random": "random real examples",
    "average": "class averages",
    "kmeans": "k-means centres",
    "herding": "herding",
    "k_center": "k-center",
    "forgetting": "most forgotten examples",
    "optimised": "best of 20 random real sets",
    "noise": "noise",
    "normal": "normal noise",
    "unit": "noise of norm 1",
    "xavier": "uniform noise",
}


def table(result: Mapping[str, Any]) -> str:
    """Return the result as aligned lines; accuracies in percent, mean ± population standard deviation."""
    title = f"{result['dataset']}, {result['ipc']} per class ({result['num_examples']} examples): {result['model']}"
    rows = [("distilled", result["accuracy"], result["std"])]
    if "accuracy_augmented" in result:
        rows.append(("distilled, with augmentation", result["accuracy_augmented"], result["std_augmented"]))
    rows += _architectures(result, "architectures")
    shown = {key: label for name, label in BASELINES.items() if (key := f"baseline_{name}") in result}
    shown |= {"full_data": "whole training set"} if "full_data" in result else {}
    for key, label in shown.items():
        label += f", {result[f'{key}_draws']} draws" if f"{key}_draws" in result else ""
        rows.append((label, result[key], result[f"{key}_std"]))
        if f"{key}_augmented" in result:
            rows.append((f"{label}, with augmentation", result[f"{key}_augmented"], result[f"{key}_augmented_std"]))
        rows += _architectures(result, f"{key}_architectures")
    width = max(len(name) for name, *_ in rows)
    lines = [f"  {name:<{width}}  {100 * mean:5.1f} % ± {100 * std:.1f}" for name, mean, std in rows]
    lines += ["", *_measures(by_set(result, "measures"))] if "measures" in result else []
    return "\n".join([title, f"protocol {result['protocol']}, n = {result['n']}, test split:", *lines])


def by_set(result: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return what the result holds of every set under one name: the distilled one's first, then what was compared."""
    fields = {part: "distilled"} | {f"baseline_{name}_{part}": label for name, label in BASELINES.items()}
    fields |= {f"full_data_{part}": "whole training set"}
    return {label: result[field] for field, label in fields.items() if field in result}


def save(result: Mapping[str, Any], distilled: Path, arrays: Mapping[str, Any]) -> None:
    """Write ``eval-<protocol>.json``, a picture of its chart, and the set's card, in the set's workdir if any.

    Args: arrays, the card's list of those that were evaluated: a running distillation may have replaced the set.
    """
    folder = workdir(distilled)
    if folder is None:
        return
    with disk_errors(folder):
        artefact.add_result(folder, result, arrays)  # refuses that of another set
        write(folder / f"eval-{result['protocol']}.json", (json.dumps(result, indent=1) + "\n").encode())
        if "chart" in result:
            write(folder / f"eval-{result['protocol']}.png", png(figure(by_set(result, "chart"))))


def check_outside(out: Path, runs: Sequence[Path]) -> None:
    """Raise UserError where the report of several runs would lie in one of them: its place has been forgotten."""
    if out.is_dir() or out.resolve().parent in [run.resolve() for run in runs]:
        raise UserError(f"{out} is or lies in a workdir; name first a place outside, without ending, then the runs")


def save_outside(out: Path, told: Any, drawn: Figure) -> None:
    """Write the report of several runs as ``out``.json and ``out``.png."""
    write(out.with_name(f"{out.name}.json"), (json.dumps(told, indent=1) + "\n").encode())
    write(out.with_name(f"{out.name}.png"), png(drawn))


def workdir(distilled: Path) -> Path | None:
    """Return the workdir that ``distilled`` is or whose set it is, if any."""
    folder = distilled.resolve()
    folder = folder.parent if folder.name == "distilled" else folder
    return folder if (folder / "config.json").is_file() else None


def kept(section: Mapping[str, Any], distilled: Path) -> dict[str, str]:
    """Return where a protocol that keeps a file and was told no place does so: beside the JSON file, else the cache."""
    if section.get("reference") != "":
        return {}
    return {"reference": str((workdir(distilled) or default_folder()) / f"eval-{section['protocol']}-reference.jsonl")}


def _architectures(result: Mapping[str, Any], field: str) -> list[tuple[str, float, float]]:
    """Return a row for each architecture, to stand below what it is part of."""
    return [(f"  {name}", row["accuracy"], row["std"]) for name, row in result.get(field, {}).items()]


def _measures(measures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return set -> name -> {mean, std} as lines, a column for each set."""
    names = list(next(iter(measures.values())))
    cells = [["", *measures], *([name, *(_cell(of[name]) for of in measures.values())] for name in names)]
    return [f"  {line}" for line in aligned(cells)]


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of a table as lines, its columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _cell(value: Mapping[str, Any]) -> str:
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.3f}" + (f" ± {value['std']:.3f}" if "std" in value else "")
