"""Two processes on loopback equal one, and go on from their own checkpoint."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import distributed_worker
import jax
import numpy as np
import pytest

from rcig import experiment, sharding
from rcig.errors import UserError

TESTS = Path(__file__).parent


def start(method, workdir, num_steps, max_resident_bytes=0):
    """Start the worker in two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workdir.mkdir(exist_ok=True)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    worker = [sys.executable, str(TESTS / "distributed_worker.py"), method]
    return [
        subprocess.Popen(
            [*worker, str(i), "2", port, str(workdir), str(num_steps), str(max_resident_bytes)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]


def wait(workers):
    """Return what the processes said, once they have ended."""
    try:
        return [process.communicate(timeout=240)[0] for process in workers]
    finally:
        for process in workers:
            process.kill()


def run(method, workdir, *options):
    """Run the worker in two processes; return the distilled inputs and labels that process 0 published."""
    workers = start(method, workdir, *options)
    said = wait(workers)
    for i, (process, text) in enumerate(zip(workers, said, strict=True)):
        assert process.returncode == 0 and f"done {i}" in text, text
    return np.load(workdir / "set.npz"), "".join(said)


def assert_equals_one(two, method, workdir, num_steps):
    workdir.mkdir()
    distributed_worker.distil(method, workdir, num_steps, sharding.layout("jit", 1))
    one = np.load(workdir / "set.npz")
    np.testing.assert_allclose(two["inputs"], one["inputs"], atol=1e-6)
    np.testing.assert_allclose(two["labels"], one["labels"], atol=1e-6)


def test_two_processes_equal_one(tmp_path):
    two, _ = run("rcig", tmp_path / "two", 2)
    assert_equals_one(two, "rcig", tmp_path / "one", 2)


def test_two_processes_go_on_from_their_own_checkpoint_read_their_own_rows_and_one_writes(tmp_path):
    run("pull", tmp_path / "two", 4)
    two, said = run("pull", tmp_path / "two", 6, 1)
    assert said.count("read (2, 8)") == 2  # each its half of a streamed batch
    assert "resumed from step 4" in said and int(two["step"]) == 6
    assert_equals_one(two, "pull", tmp_path / "one", 6)
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("signalled", [pytest.param(0, marks=pytest.mark.slow), 1])  # 0 is the one that writes
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path, signalled):
    workers = start("pull", tmp_path, 10**6)
    metrics, deadline = tmp_path / "metrics.jsonl", time.monotonic() + 200
    while not (metrics.exists() and metrics.read_text().count("\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers[signalled].send_signal(signal.SIGTERM)
    said = wait(workers)
    assert [process.returncode for process in workers] == [143, 143], said
    (step,) = {int(re.search(r"saved step (\d+) in", text)[1]) for text in said if "saved step" in text}
    assert (tmp_path / "checkpoints" / str(step)).is_dir()


def test_a_workdir_that_hosts_do_not_share_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(sharding, "is_writer", lambda: False)
    for token, missing in ((None, True), ("6", True), ("7", False)):  # the writer's process has the number 7
        if token:
            (tmp_path / ".processes").write_text(token)
        others = iter((7, 0))
        monkeypatch.setattr(sharding, "agreed", lambda number, others=others: max(number, next(others)))
        with pytest.raises(UserError, match="must be one folder that all hosts see") if missing else nullcontext():
            experiment._check_shared(tmp_path)
    monkeypatch.setattr(sharding, "is_writer", lambda: True)
    monkeypatch.setattr(sharding, "agreed", lambda number: number)
    experiment._check_shared(tmp_path)
    assert (tmp_path / ".processes").read_text() == str(os.getpid())
