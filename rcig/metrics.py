"""What a run says while it works: ``metrics.jsonl`` for machines, TensorBoard files, and one live line for people.

A line of ``metrics.jsonl`` is one JSON object: ``step``, ``seconds`` since the run began (a resumed run counts on) and
scalars. NaN and infinities are written as the strings "nan", "inf", "-inf", which JSON lacks; ``read`` turns them back.
"""

import importlib.util
import json
import math
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rcig import sharding
from rcig.errors import UserError
from rcig.files import disk_errors, write

_NOT_FINITE = {"nan", "inf", "-inf"}
_SILENCE = 5.0  # seconds


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl``, or of the one in a workdir; a torn line is left out."""
    path = Path(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = [_parse(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as error:
        raise UserError(f"cannot read metrics from {path}: {error.strerror}; check the path") from error
    return [line for line in lines if line is not None]


class MetricsWriter:
    """Appends metrics to ``<workdir>/metrics.jsonl``, and to ``<workdir>/tensorboard`` where tensorboardX is installed.

    Args: resume_step, the step a resumed run starts from: lines beyond it, which will be written again, are dropped.
    One process of a run writes.
    """

    def __init__(self, workdir: Path, resume_step: int | None = None) -> None:
        self.path = Path(workdir) / "metrics.jsonl"
        with disk_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = _reopen(self.path, resume_step)
            self._file = open(self.path, "a", encoding="utf-8")
        seconds = kept[-1].get("seconds", 0.0) if kept else 0.0
        self._began = time.monotonic() - seconds
        self._events = _tensorboard(self.path.parent / "tensorboard", resume_step)

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Append one line; the values are numbers or anything ``float`` takes. Raises UserError on a full disk."""
        values = {name: float(value) for name, value in scalars.items()}
        line = {"step": int(step), "seconds": round(time.monotonic() - self._began, 3)}
        line |= {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
        with disk_errors(self.path.parent):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        for name, value in values.items() if self._events else ():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        if self._events:
            self._events.close()
        with disk_errors(self.path.parent):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


class Progress:
    """Step, rate, time left, loss and accuracy: one live line on a terminal, a line every ``every`` seconds in a log.

    The rate is over the last half minute or so, and does not count what came before the first ``update``. Of the
    processes of a run one speaks. Args: passing, for a part of something longer: its first seconds are silent, and it
    leaves no last line on a terminal.
    """

    def __init__(self, total: int, stream: TextIO | None = None, every: float = 10.0, passing: bool = False) -> None:
        self.total = total
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._every = 0.1 if self._live else every
        self._passing = passing
        self._silent_until = time.monotonic() + _SILENCE if passing else -math.inf
        self._seen: deque[tuple[float, int]] = deque()
        self._shown = -math.inf
        self._last = ""

    def update(self, step: int, scalars: Mapping[str, Any] | None = None) -> None:
        """Say that ``step`` of ``total`` steps are done, and what they gave (losses and accuracies are shown).

        Waits for what they gave, whether a line is due or not: jax is never more than a dispatch ahead.
        """
        told = {name: float(value) for name, value in (scalars or {}).items()}
        now = time.monotonic()
        if now - self._shown < self._every and step < self.total:
            return
        self._shown = now
        self._seen.append((now, step))
        while len(self._seen) > 2 and now - self._seen[1][0] > 30.0:
            self._seen.popleft()
        if now >= self._silent_until:
            self._last = self._line(step, told)
            self._print(self._last)

    def note(self, text: str) -> None:
        """Print a line of its own, above the live line."""
        self._write(f"\r\033[K{text}\n" if self._live else f"{text}\n")
        if self._live and self._last:
            self._print(self._last)

    def close(self) -> None:
        """Leave the last line standing."""
        if self._live and self._last:
            self._print("" if self._passing else self._last)
            self._write("" if self._passing else "\n")
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _line(self, step: int, scalars: Mapping[str, float]) -> str:
        (then, first), (now, last) = self._seen[0], self._seen[-1]
        parts = [f"step {step}/{self.total} ({100 * step / max(self.total, 1):.0f} %)"]
        if last > first and now > then:
            rate = (last - first) / (now - then)
            parts += [f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / rate:.1f} s/step"]
            parts += [f"{duration((self.total - step) / rate)} left"]
        shown = [name for name in scalars if "loss" in name or "accuracy" in name]
        return "  ".join(parts + [f"{name} {scalars[name]:.4g}" for name in shown])

    def _print(self, line: str) -> None:
        if self._live:
            line = "\r" + line[: shutil.get_terminal_size().columns - 1] + "\033[K"
        self._write(line if self._live else line + "\n")

    def _write(self, text: str) -> None:
        if sharding.is_writer():
            self._stream.write(text)
            self._stream.flush()


def duration(seconds: float) -> str:
    """Return a time span for people: "42s", "3m05s", "2h07m"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _reopen(path: Path, resume_step: int | None) -> list[dict[str, Any]]:
    """Drop torn lines and lines beyond ``resume_step`` from the file, and return what stays."""
    if not path.exists():
        return []
    limit = math.inf if resume_step is None else resume_step
    raw = path.read_text(encoding="utf-8", errors="replace")
    kept = {line: parsed for line in raw.splitlines() if (parsed := _parse(line)) and parsed["step"] <= limit}
    text = "".join(line + "\n" for line in kept)
    if text != raw:
        write(path, text.encode())
    return list(kept.values())


def _parse(line: str) -> dict[str, Any] | None:
    """Return one line as a dict of numbers, or None if it is torn or of no time."""
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("step"), int):
        return None
    seconds = parsed.get("seconds", 0.0)
    if not isinstance(seconds, int | float) or not abs(seconds) <= sys.float_info.max:  # a NaN neither
        return None
    return {k: float(v) if isinstance(v, str) and v in _NOT_FINITE else v for k, v in parsed.items()}


def _tensorboard(folder: Path, resume_step: int | None) -> Any:
    """Return an event-file writer, or None without tensorboardX."""
    if importlib.util.find_spec("tensorboardX") is None:
        return None
    import tensorboardX  # pyright: ignore[reportMissingImports]

    return tensorboardX.SummaryWriter(str(folder), purge_step=None if resume_step is None else resume_step + 1)
