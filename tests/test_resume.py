"""Killed at any instant and started again until it is done, a run ends bit for bit as if nothing had happened."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import PULL, RCIG, call, finish, run, start

from rcig import artefact, metrics


def flags(workdir: Path, num_steps: int, method: tuple[str, ...] = RCIG) -> tuple[str, ...]:
    """Return a run that saves after every five steps, so that most of its time is spent in saves."""
    return (*method, f"--config.num_steps={num_steps}", "--config.checkpoint_every=5", f"--workdir={workdir}")


def names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def saving(workdir: Path) -> bool:
    """Return whether a checkpoint is half on disk."""
    return any(".orbax-checkpoint-tmp" in name for name in names(workdir / "checkpoints"))


def publishing(workdir: Path) -> bool:
    """Return whether a distilled set is half on disk."""
    return any(name.startswith(".distilled.") for name in names(workdir))


def lines(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def kill(process: subprocess.Popen, workdir: Path, draw: random.Random) -> bool:
    """Kill a run that has taken at most 20 new steps; return whether that was inside of a save."""
    goal = lines(workdir) + draw.randint(1, 2)
    moment = draw.choice([saving, saving, publishing, lambda workdir: True])
    while process.poll() is None and lines(workdir) < goal:
        time.sleep(0.002)
    while process.poll() is None and not moment(workdir):
        time.sleep(0.0002)
    time.sleep(draw.uniform(0, 0.05))
    process.send_signal(signal.SIGKILL)
    ended = finish(process)
    assert ended.status == -signal.SIGKILL, f"it ended before it was killed: {ended}"
    return saving(workdir) or publishing(workdir)


def assert_survives(tmp_path: Path, kills: int, least_inside: int) -> None:
    num_steps = 20 * kills + 5
    assert run("distill_dataset", *flags(tmp_path / "whole", num_steps)).status == 0
    draw, inside = random.Random(0), 0
    for _ in range(kills):
        inside += kill(start("distill_dataset", *flags(tmp_path / "killed", num_steps)), tmp_path / "killed", draw)
    last = run("distill_dataset", *flags(tmp_path / "killed", num_steps))
    assert last.status == 0 and "resumed from step" in last.err and inside >= least_inside
    print(f"{kills} kills, {inside} inside of a save; {last.err.splitlines()[0]}")
    whole, killed = (artefact.load(tmp_path / name) for name in ("whole", "killed"))
    assert np.array_equal(whole.inputs, killed.inputs) and np.array_equal(whole.labels, killed.labels)
    assert whole.card["arrays"] == killed.card["arrays"] and killed.card["step"] == num_steps
    whole, killed = (metrics.read(tmp_path / name) for name in ("whole", "killed"))
    assert [line["step"] for line in killed] == list(range(5, num_steps + 1, 5))
    assert [{**line, "seconds": 0} for line in killed] == [{**line, "seconds": 0} for line in whole]
    assert not saving(tmp_path / "killed") and not publishing(tmp_path / "killed")


def test_a_run_survives_a_kill(tmp_path):
    assert_survives(tmp_path, kills=1, least_inside=0)


@pytest.mark.parametrize(
    "method", [pytest.param(RCIG, marks=pytest.mark.slow, id="rcig"), pytest.param(PULL, id="pull")]
)
def test_a_finished_run_goes_on_to_more_steps(tmp_path, method):
    for name, num_steps in (("whole", 20), ("longer", 10), ("longer", 20)):
        ended = call("distill_dataset", *flags(tmp_path / name, num_steps, method))
        assert ended.status == 0 and ("resumed from step 10" in ended.err) == (name == "longer" and num_steps == 20)
    whole, longer = (artefact.load(tmp_path / name).card for name in ("whole", "longer"))
    assert whole["arrays"] == longer["arrays"] and longer["step"] == longer["config"]["num_steps"] == 20
    assert [line["step"] for line in metrics.read(tmp_path / "longer")] == [5, 10, 15, 20]


@pytest.mark.slow
def test_a_run_survives_many_kills(tmp_path):
    assert_survives(tmp_path, kills=24, least_inside=8)
