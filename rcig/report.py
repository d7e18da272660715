"""The result of an evaluation: a table for people, a JSON file for machines."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcig import artefact
from rcig.files import disk_errors, write

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
}


def table(result: Mapping[str, Any]) -> str:
    """Return the result as aligned lines; accuracies in percent, mean ± population standard deviation."""
    title = f"{result['dataset']}, {result['ipc']} per class ({result['num_examples']} examples): {result['model']}"
    rows = [("distilled", result["accuracy"], result["std"])]
    if "accuracy_augmented" in result:
        rows.append(("distilled, with augmentation", result["accuracy_augmented"], result["std_augmented"]))
    rows += [(f"  {name}", row["accuracy"], row["std"]) for name, row in result.get("architectures", {}).items()]
    shown = {key: label for name, label in BASELINES.items() if (key := f"baseline_{name}") in result}
    rows += [(label, result[key], result[f"{key}_std"]) for key, label in shown.items()]
    if "full_data" in result:
        rows.append(("whole training set", result["full_data"], result["full_data_std"]))
    width = max(len(name) for name, *_ in rows)
    lines = [f"  {name:<{width}}  {100 * mean:5.1f} % ± {100 * std:.1f}" for name, mean, std in rows]
    return "\n".join([title, f"protocol {result['protocol']}, n = {result['n']}, test split:", *lines])


def save(result: Mapping[str, Any], distilled: Path) -> None:
    """Write ``eval-<protocol>.json`` and the set's card in the workdir that ``distilled`` is or lies in, if any."""
    for folder in (distilled, distilled.parent) if distilled.is_dir() else ():
        if (folder / "config.json").is_file():
            with disk_errors(folder):
                write(folder / f"eval-{result['protocol']}.json", (json.dumps(result, indent=1) + "\n").encode())
                artefact.add_result(folder, result)
            return


def machine() -> str:
    """Return the device in words, for results that travel."""
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
