"""Two processes on loopback equal one, and go on from their own checkpoint."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parent


def run(method, workdir, num_processes, num_steps, max_resident_bytes=0):
    """Run the worker in so many processes; return the distilled inputs and labels that process 0 published."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workdir.mkdir(exist_ok=True)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    worker = [sys.executable, str(TESTS / "distributed_worker.py"), method]
    workers = [
        subprocess.Popen(
            [*worker, str(i), str(num_processes), port, str(workdir), str(num_steps), str(max_resident_bytes)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(num_processes)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in workers]
    finally:
        for process in workers:
            process.kill()
    for i, (process, text) in enumerate(zip(workers, said, strict=True)):
        assert process.returncode == 0 and f"done {i}" in text, text
    return np.load(workdir / "set.npz"), "".join(said)


def assert_equal(two, one):
    np.testing.assert_allclose(two["inputs"], one["inputs"], atol=1e-6)
    np.testing.assert_allclose(two["labels"], one["labels"], atol=1e-6)


def test_two_processes_equal_one(tmp_path):
    one, _ = run("rcig", tmp_path / "one", 1, 2)
    two, _ = run("rcig", tmp_path / "two", 2, 2)
    assert_equal(two, one)


def test_two_processes_go_on_from_their_own_checkpoint_read_their_own_rows_and_one_writes(tmp_path):
    one, _ = run("pull", tmp_path / "one", 1, 6)
    run("pull", tmp_path / "two", 2, 4)
    two, said = run("pull", tmp_path / "two", 2, 6, max_resident_bytes=1)
    assert said.count("read (2, 8)") == 2  # each its half of a streamed batch
    assert "resumed from step 4" in said and int(two["step"]) == 6
    assert_equal(two, one)
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 3
