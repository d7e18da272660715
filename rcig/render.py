"""Pictures for the eye: the distilled examples as a grid, and how loss and accuracy went.

Example:
    figure = grid(dataset.decode(synthetic.inputs), dataset.class_names, ipc=10)
    write(Path("grid.png"), png(figure))
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rcig.files import write

_MAX_COLUMNS, _MAX_CLASSES = 20, 50
_TILE, _GAP, _BLOCK_GAP, _MARGIN, _TITLE = 64, 2, 22, 16, 34  # pixels
_ASPECT = 1.5  # width over height that the classes are folded to
_DPI = 100


def grid(pixels: np.ndarray, class_names: Sequence[str], ipc: int, title: str = "") -> Figure:
    """Draw a class-major set, a row per class, folded into blocks side by side where that fits a page better.

    Args: pixels (M, H, W, C) in [0, 1], see ``contrast`` for what lies outside; class_names, of the classes that rows
    start from; ipc, M = len(class_names) * ipc.
    Whole pixels are repeated, never interpolated. What is left out or rescaled is said in the title.
    """
    shown, note = contrast(np.asarray(pixels, np.float32))
    num_classes, columns = min(len(class_names), _MAX_CLASSES), min(ipc, _MAX_COLUMNS)
    tiles = _tiles(shown.reshape(len(class_names), ipc, *shown.shape[1:])[:num_classes, :columns])  # (K, I, T, U, 3)
    names = [name if len(name) <= 18 else name[:17] + "…" for name in class_names[:num_classes]]
    name_width = 10 + round(7.5 * max(map(len, names)))
    blocks = _num_blocks(num_classes, name_width + columns * (tiles.shape[3] + _GAP), tiles.shape[2] + _GAP)
    notes = [title, note]
    notes += [f"first {columns} of {ipc} a class"] if columns < ipc else []
    notes += [f"first {num_classes} of {len(class_names)} classes"] if num_classes < len(class_names) else []
    return _draw(tiles, names, name_width, blocks, [text for text in notes if text])


def contrast(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """Bring pixels into [0, 1], all by the same rule, and say how.

    They are clipped, unless more than 2 % lie outside; then the 0.5th and 99.5th percentile of the whole set become
    black and white. (What a data set decodes is clipped already, also after ZCA.)
    """
    pixels = np.nan_to_num(pixels)
    if np.mean((pixels < 0) | (pixels > 1)) <= 0.02:
        return np.clip(pixels, 0, 1), ""
    low, high = np.percentile(pixels, [0.5, 99.5])
    stretched = np.clip((pixels - low) / max(high - low, 1e-12), 0, 1)
    return stretched, f"contrast: {low:.2f} … {high:.2f} shown as 0 … 1"


def curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw every loss and every accuracy of ``rcig.metrics.read`` over the steps."""
    figure = Figure(figsize=(10, 3.8), dpi=_DPI, layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        series = _series(metrics, kind)
        for name, (steps, values) in series.items():
            _plot(axes, name, steps, values)
        axes.set(xlabel="step", title=kind if series else f"no {kind} yet")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        if series:
            axes.legend(frameon=False, fontsize=9)
            _scale(axes, kind, np.concatenate([values for _, values in series.values()]))
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def write_images(
    workdir: Path,
    pixels: np.ndarray,
    class_names: Sequence[str],
    ipc: int,
    step: int,
    metrics: Sequence[Mapping[str, Any]],
) -> None:
    """Write ``images/distilled-<step>.png``, ``latest.png`` and ``curves.png``; only sets of images have a grid.

    Args: pixels, the set's decoded inputs; the others as of `grid`.
    """
    folder = Path(workdir) / "images"
    write(folder / "curves.png", png(curves(metrics)))
    if pixels.ndim == 4:
        picture = png(grid(pixels, class_names, ipc, f"step {step}"))
        write(folder / f"distilled-{step}.png", picture)
        write(folder / "latest.png", picture)


def _tiles(images: np.ndarray) -> np.ndarray:
    """Return (K, I, H, W, C) images as (K, I, T, U, 3) tiles of about ``_TILE`` pixels, by repeating or averaging."""
    height, width = images.shape[2:4]
    if images.shape[-1] != 3:
        images = images.mean(-1, keepdims=True).repeat(3, -1)
    shrink = max(1, math.ceil(max(height, width) / (1.5 * _TILE)))
    if shrink > 1:
        images = images[:, :, : height // shrink * shrink, : width // shrink * shrink]
        split = (*images.shape[:2], height // shrink, shrink, width // shrink, shrink, 3)
        images = images.reshape(split).mean((3, 5))
    enlarge = max(1, round(_TILE / max(height, width)))
    return images.repeat(enlarge, 2).repeat(enlarge, 3)


def _num_blocks(num_classes: int, width: int, height: int) -> int:
    """Return into how many blocks the classes are folded so that the page is near ``_ASPECT`` and well filled."""

    def distance(blocks: int) -> float:
        rows = math.ceil(num_classes / blocks)
        page = blocks * (width + _BLOCK_GAP) / (rows * height)
        return abs(math.log(page / _ASPECT)) + 4 * (rows * blocks - num_classes) / num_classes

    return min(range(1, num_classes + 1), key=distance)


def _draw(tiles: np.ndarray, names: Sequence[str], name_width: int, blocks: int, notes: Sequence[str]) -> Figure:
    """Paint tiles on one white canvas, pixel for pixel, and write names and notes over it."""
    num_classes, columns, tall, wide = tiles.shape[:4]
    rows = math.ceil(num_classes / blocks)
    block = name_width + columns * (wide + _GAP) - _GAP
    width = 2 * _MARGIN + math.ceil(num_classes / rows) * (block + _BLOCK_GAP) - _BLOCK_GAP
    text = "   ·   ".join(notes)
    width = max(width, 2 * _MARGIN + round(7.2 * len(text)))
    height = _TITLE + rows * (tall + _GAP) - _GAP + _MARGIN
    canvas = np.ones((height, width, 3), np.float32)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    for k, name in enumerate(names):
        left, top = _MARGIN + k // rows * (block + _BLOCK_GAP) + name_width, _TITLE + k % rows * (tall + _GAP)
        for i in range(columns):
            x = left + i * (wide + _GAP)
            canvas[top : top + tall, x : x + wide] = tiles[k, i]
        place = ((left - 8) / width, 1 - (top + tall / 2) / height)
        figure.text(*place, name, ha="right", va="center", fontsize=9, color="0.2", parse_math=False)
    figure.figimage(canvas, 0, 0, origin="upper")
    place = (_MARGIN / width, 1 - _TITLE / 2 / height)
    figure.text(*place, text, ha="left", va="center", fontsize=9, color="0.2", parse_math=False)
    return figure


def _series(metrics: Sequence[Mapping[str, Any]], kind: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return name -> (steps, values) of the finite metrics whose name contains ``kind``."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in metrics:
        for name, value in line.items():
            if kind in name and isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, []).append((line["step"], float(value)))
    return {name: (np.array([s for s, _ in p]), np.array([v for _, v in p])) for name, p in sorted(points.items())}


def _plot(axes: Any, name: str, steps: np.ndarray, values: np.ndarray) -> None:
    """Plot a series; a long noisy one faintly, with its running mean on top."""
    if len(values) < 100:
        axes.plot(steps, values, marker="o" if len(values) < 30 else None, markersize=3, linewidth=1.5, label=name)
        return
    window = len(values) // 50
    total = np.cumsum(np.concatenate([[0.0], values]))
    (line,) = axes.plot(steps, values, linewidth=0.6, alpha=0.35)
    mean = (total[window:] - total[:-window]) / window
    axes.plot(steps[window - 1 :], mean, linewidth=1.6, color=line.get_color(), label=name)


def _scale(axes: Any, kind: str, values: np.ndarray) -> None:
    """Choose the vertical scale: percent for accuracies, logarithmic for losses that span more than a decade."""
    if kind == "accuracy" and values.max() <= 1:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
