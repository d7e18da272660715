"""Pictures of a set with a learned schedule: what every step shows, with its labels, and the learning rates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rcig.files import write
from rcig.render import contrast, png
from rcig.sentences import largest
from rcig.types import Synthetic

_COLUMNS, _MOST = 10, 100


def step_figure(
    pixels: np.ndarray, labels: np.ndarray, rates: np.ndarray, class_names: Sequence[str], title: str
) -> Figure:
    """Draw the images of one step, over each its largest label values, and in the title its rate in every pass.

    Args: pixels (N, H, W, C) in [0, 1]; labels (N, K), raw; rates (E,).
    """
    columns = min(len(pixels), _COLUMNS)
    rows = -(-len(pixels) // columns)
    figure = Figure(figsize=(max(1.3 * columns, 4), 1.75 * rows + 0.5), dpi=100, layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, image, values in zip(figure.axes, pixels, labels, strict=False):
        seen = image if image.shape[-1] == 3 else image.mean(-1)
        axes.imshow(np.clip(seen, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(label_text(values, class_names), fontsize=7, parse_math=False)
    shown = ", ".join(f"{rate:.3g}" for rate in rates)
    figure.suptitle(f"{title}   ·   learning rate in each pass: {shown}", fontsize=9, color="0.2")
    return figure


def label_text(values: np.ndarray, class_names: Sequence[str]) -> str:
    """Return the name of a one-hot label's class, else a line for each of the largest entries."""
    top = int(np.argmax(values))
    if values[top] == 1 and np.count_nonzero(values) == 1:
        return class_names[top]
    return "\n".join(largest(values, [name[:12] for name in class_names]))


def rates_figure(rates: np.ndarray) -> Figure:
    """Draw the learned rates (E, D) over the steps of a pass, a line a pass."""
    figure = Figure(figsize=(6, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    for number, line in enumerate(rates):
        axes.plot(1 + np.arange(len(line)), line, marker="o", markersize=4, label=f"pass {number + 1}")
    axes.set(xlabel="step of the pass", ylabel="learning rate", title="learned schedule")
    axes.set_xticks(1 + np.arange(rates.shape[1])[:: max(1, rates.shape[1] // 10)])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    return figure


def write_schedule(
    workdir: Path, synthetic: Synthetic, pixels: np.ndarray, class_names: Sequence[str], step: int
) -> None:
    """Write ``images/step-<d>.png`` for every part and, of several rates, ``rates.png``; nothing without rates."""
    if synthetic.learning_rates is None:
        return
    rates = np.asarray(synthetic.learning_rates)
    folder, parts = Path(workdir) / "images", rates.shape[1]
    if rates.size > 1:
        write(folder / "rates.png", png(rates_figure(rates)))
    if pixels.ndim != 4:
        return
    shown, _ = contrast(pixels)
    for d in range(parts):
        title, size = f"part {d + 1} of {parts}, outer step {step}", len(shown[d::parts])
        title += f", first {_MOST} of {size} images" if size > _MOST else ""
        part = (shown[d::parts][:_MOST], np.asarray(synthetic.labels)[d::parts][:_MOST], rates[:, d])
        write(folder / f"step-{d:02d}.png", png(step_figure(*part, class_names, title)))
