"""Two processes on loopback equal one, and go on from their own checkpoint."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent


def run(workdir, num_processes, num_steps):
    """Run the worker in so many processes; return the distilled inputs and labels that process 0 published."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workdir.mkdir(exist_ok=True)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                TESTS / "distributed_worker.py",
                str(i),
                str(num_processes),
                port,
                workdir,
                str(num_steps),
            ],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(num_processes)
    ]
    try:
        said = [worker.communicate(timeout=240)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for i, (worker, text) in enumerate(zip(workers, said, strict=True)):
        assert worker.returncode == 0 and f"done {i}" in text, text
    return np.load(workdir / "set.npz"), "".join(said)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one"), 1, 6)[0]


def test_two_processes_equal_one_also_when_stopped_and_resumed(one, tmp_path):
    run(tmp_path, 2, 4)
    two, said = run(tmp_path, 2, 6)
    assert "resumed from step 4" in said
    assert int(two["step"]) == 6
    np.testing.assert_allclose(two["inputs"], one["inputs"], atol=1e-6)
    np.testing.assert_allclose(two["labels"], one["labels"], atol=1e-6)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3  # one process writes
