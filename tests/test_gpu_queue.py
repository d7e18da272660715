"""The queue for a borrowed GPU: what is brought home, and that nothing of it costs the run; the coder of its data."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_files import colours, write_tfds

from rcig import data
from rcig.data import records

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def queue(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])  # last: its kernels.py is not ours
    import gpu_queue

    monkeypatch.setattr(gpu_queue, "_LAST", 10)
    monkeypatch.setattr(gpu_queue, "_BEAT", 0.05)
    monkeypatch.setattr(gpu_queue, "WORK", tmp_path)
    return gpu_queue


def test_progress_is_that_of_the_last_whole_line(queue, tmp_path):
    assert queue._progress(tmp_path) == {}
    (tmp_path / "config.json").write_text(json.dumps({"num_steps": 100}))
    (tmp_path / "metrics.jsonl").write_text("")  # as it is while the first step compiles
    assert queue._progress(tmp_path) == {}
    line = {"step": 20, "seconds": 3.5, "loss": 0.25}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + '\n{"step": 40, "sec')
    assert queue._progress(tmp_path) == {"step": 20, "num_steps": 100, "seconds": 3.5, "train_loss": 0.25}


def test_a_beat_that_fails_costs_nothing(queue, capsys):
    def beat():
        raise OSError("no space left")

    now = time.monotonic()
    assert queue._until(now + 60, ["-c", "import time; time.sleep(0.5)"], beat) == 0
    assert "no space left" in capsys.readouterr().err


def test_shortly_before_the_deadline_the_child_is_asked_to_stop(queue, tmp_path):
    told = tmp_path / "told"
    script = (
        "import pathlib, signal, sys, time\n"
        f"end = lambda *_: (pathlib.Path({str(told)!r}).touch(), sys.exit(143))\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    assert queue._until(began + 14, ["-c", script], lambda: None) == 143  # 4 seconds of work
    assert (tmp_path / "up").exists() and told.exists() and time.monotonic() - began < 12


def test_every_job_is_a_config_of_ours_with_fields_it_has(queue):
    from rcig import config

    for name, job in queue.QUEUE.items():
        if not job.benchmark:
            options = [f"--config.{option}" for option in job.options]
            assert config.load(f"configs/{job.config or f'{name}.py'}", options).dataset == (job.dataset or "digits")


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_the_journey(queue, channels):
    import _carry

    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4, channels), np.uint8)
    np.testing.assert_array_equal(_carry._pixels(_carry._residuals(pixels)), pixels)


def test_a_data_set_is_carried_to_a_machine_without_tfds(queue, tmp_path, monkeypatch):
    import _carry

    splits = {"train": colours((8, 8, 3), 4, 10, 1), "test": colours((8, 8, 3), 4, 3, 2)}
    home = write_tfds(tmp_path / "home", "cifar100", "", (8, 8, 3), splits)
    monkeypatch.setenv("RCIG_CACHE", str(tmp_path / "home_cache"))
    made = _carry.pack("cifar100", tmp_path / "carried", home)
    assert sorted(path.name for path in made) == ["cifar100.0.bz2", "cifar100.json"]
    here = data.load("cifar100", data_dir=home)

    monkeypatch.setenv("RCIG_CACHE", str(tmp_path / "away_cache"))
    monkeypatch.setattr(records, "_decode", records._decode)  # which unpacking replaces
    for package in ("tensorflow_datasets", "array_record", "grain"):
        monkeypatch.setitem(sys.modules, package, None)
    _carry.unpack("cifar100", tmp_path / "carried", tmp_path / "away")
    monkeypatch.undo()
    monkeypatch.setenv("RCIG_CACHE", str(tmp_path / "away_cache"))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    there = data.load("cifar100", data_dir=tmp_path / "away")
    assert there.class_names == here.class_names and there.preprocessing == here.preprocessing
    for a, b in zip((*here.train, *here.test), (*there.train, *there.test), strict=True):
        np.testing.assert_array_equal(a, b)
