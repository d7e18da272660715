"""Picture of what a protocol measured beside accuracies: its chart, with the charts of the sets it was compared with.

    write(path, png(figure({"distilled": details["chart"], "random real examples": other["chart"]})))

A chart (rcig/evaluation/_details.py) names its axes and holds series in panels; a panel or series called "" is called
as its set. So sets share a panel that has a name, and a panel without one is drawn for each set.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 5.2, 4.0  # inches a panel


def figure(charts: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw charts, name of a set -> chart, which have the same axes: lines with a band of one std, or points."""
    panels = collect(charts)
    first = next(iter(charts.values()))
    drawn = Figure((_WIDTH * len(panels), _HEIGHT), layout="constrained")
    every = drawn.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (title, series) in zip(every, panels.items(), strict=True):
        for name, one in series.items():
            _plot(axes, name, one)
        axes.set(title=title, xlabel=first["x"], xscale=first["scale"])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        if first["scale"] == "log":
            x = next(iter(series.values()))["x"]
            axes.set_xticks(x, [f"{value:g}" for value in x])
            axes.minorticks_off()
    every[0].set_ylabel(first["y"])
    if len(panels) == 1:
        every[0].legend(frameon=False, fontsize=9)
    else:  # the same series in each
        drawn.legend(*every[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    return drawn


def collect(charts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return panel -> series of all charts, with the names of the sets in place of empty ones."""
    panels: dict[str, dict[str, Any]] = {}
    for owner, chart in charts.items():
        for title, series in chart["panels"].items():
            panels.setdefault(title or owner, {}).update({name or owner: one for name, one in series.items()})
    return panels


def _plot(axes: Any, name: str, series: Mapping[str, Any]) -> None:
    x, mean = np.asarray(series["x"]), np.asarray(series["mean"])
    if "std" not in series:
        axes.plot(x, mean, linestyle="none", marker="o", markersize=4, alpha=0.7, label=name)
        return
    (line,) = axes.plot(x, mean, marker="o", markersize=4, linewidth=1.5, label=name)
    std = np.asarray(series["std"])
    axes.fill_between(x, mean - std, mean + std, color=line.get_color(), alpha=0.15, linewidth=0)
