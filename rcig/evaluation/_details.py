"""What protocols with more to say than accuracies share: options of a single run, measures, charts.

    Result(accuracies, details={"measures": {"AUC": measure(values)}, "chart": chart("step", "AUC", {"": panel})})

``details["measures"]`` go to the table, a line each and a column for each set; ``details["chart"]`` is drawn beside the
JSON file, see rcig/render_chart.py. Both are JSON-able; the name "" stands for the set that was judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcig.errors import UserError
from rcig.evaluation import standard
from rcig.evaluation.standard import Standard
from rcig.types import Array

Series = dict[str, list[float]]


@dataclass(frozen=True)
class OneRun(Standard):
    """The options of the standard protocol, but that every network is trained once, with the augmentation if any."""

    plain: bool = False  # of the standard protocol

    def __post_init__(self):
        super().__post_init__()
        if self.plain:
            raise UserError("eval.plain must be False: this protocol trains one way; set eval.augmentation or leave it")


PRESETS: dict[str, dict[str, Any]] = {  # those of the standard protocol; how many networks is the protocol's own
    name: {key: value for key, value in preset.items() if key != "num_networks"}
    for name, preset in standard.PRESETS.items()
}


def measure(values: Array) -> dict[str, float]:
    """Return mean and population standard deviation of values of any shape."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}


def line(x: Sequence[int], values: Array) -> Series:
    """Return a line of a chart: values (len(x), n), whose n are shown as mean and band."""
    return {"x": list(x), "mean": np.mean(values, axis=1).tolist(), "std": np.std(values, axis=1).tolist()}


def points(x: Array, y: Array) -> Series:
    """Return single points of a chart, x (n,) and y (n,)."""
    return {"x": np.asarray(x).tolist(), "mean": np.asarray(y).tolist()}


def chart(x: str, y: str, panels: Mapping[str, Mapping[str, Series]], scale: str = "linear") -> dict[str, Any]:
    """Return a chart: names of the axes, panel -> name -> series, scale of x (linear or log)."""
    return {"x": x, "y": y, "scale": scale, "panels": panels}
