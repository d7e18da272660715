"""Resumable state: exact, on any device count, after any kill, and never from rotten bits."""

import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcig.checkpoint import Checkpoints
from rcig.errors import UserError

# orbax's threads may still be reading a broken array when its first error has been raised
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROOT = Path(__file__).resolve().parent.parent


@flax.struct.dataclass
class State:
    params: dict
    opt: tuple
    key: jax.Array
    empty: jax.Array
    step: int
    nothing: None = None


def make_state(step: int) -> State:
    params = {"w": jnp.full((3, 4), step, jnp.float32), "half": jnp.arange(5, dtype=jnp.bfloat16) + step}
    opt = optax.adam(1e-3).init(params)
    return State(params, opt, jax.random.key_data(jax.random.key(step)), jnp.zeros((0, 2)), step)


def assert_same(a, b) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y) and np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def fill(folder: Path, steps) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step))


def test_round_trip_keeps_structure_dtypes_and_the_newest(tmp_path):
    fill(tmp_path / "c", (3, 5, 8))
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        assert checkpoints.latest() == 8
        step, state = checkpoints.restore(make_state(0))
        checkpoints.save(8, make_state(1))  # is there already
        assert_same(checkpoints.restore(make_state(0))[1], make_state(8))
    assert step == 8 and isinstance(state.opt[0], optax.ScaleByAdamState)
    assert_same(state, make_state(8))
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["5", "8"]


def test_a_donated_buffer_does_not_change_what_is_saved(tmp_path):
    write = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    x = jnp.arange(1_000_000, dtype=jnp.float32)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": x})
        write(x).block_until_ready()
        np.testing.assert_array_equal(checkpoints.restore({"x": np.zeros(1_000_000, np.float32)})[1]["x"][:4], range(4))


def test_a_state_of_eight_devices_comes_back_on_one(tmp_path):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    whole = jax.device_put(np.arange(4.0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"x": whole})
        _, state = checkpoints.restore({"x": jnp.zeros(4)})
    assert len(state["x"].devices()) == 1
    np.testing.assert_array_equal(state["x"], np.arange(4.0))


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_any_harm_to_any_file_falls_back_or_changes_nothing(tmp_path, harm):
    fill(tmp_path / "c", (1, 2))
    backup = shutil.copytree(tmp_path / "c", tmp_path / "backup")
    fallen = 0
    for file in sorted(p.relative_to(backup) for p in (backup / "2").rglob("*") if p.is_file()):
        shutil.rmtree(tmp_path / "c")
        shutil.copytree(backup, tmp_path / "c")
        break_file(tmp_path / "c" / file, harm)
        with (
            Checkpoints(tmp_path / "c") as checkpoints,
            warnings.catch_warnings(record=True, action="always") as warned,
        ):
            step, state = checkpoints.restore(make_state(0))
            assert_same(state, make_state(step))
            assert bool(warned) == (step == 1), [str(w.message) for w in warned]
            assert (tmp_path / "c" / "2").is_dir()
            checkpoints.save(2, make_state(2))
        fallen += step == 1
        with Checkpoints(tmp_path / "c") as checkpoints:
            assert_same(checkpoints.restore(make_state(0))[1], make_state(2))
    assert fallen >= 3  # the note, the manifest and the data at least


def break_file(path: Path, harm: str) -> None:
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
        return
    data[len(data) // 2] ^= 1 << 3
    path.write_bytes(data if harm == "flip" else data[: len(data) // 2])


def test_nothing_whole_is_one_clear_error(tmp_path):
    fill(tmp_path, (1, 2))
    for note in tmp_path.glob("*/note/metadata"):
        break_file(note, "truncate")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=r"no whole checkpoint.*\[1, 2\]"):
        checkpoints.restore(make_state(0))
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.latest() is None


@pytest.mark.parametrize("target", [{"x": jnp.zeros(3)}, {"x": jnp.zeros(4, jnp.int32)}, {"y": jnp.zeros(4)}])
def test_another_structure_is_refused_and_left_alone(tmp_path, target):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, {"x": jnp.arange(4.0)})
        with pytest.raises(UserError, match=r"state\['[xy]'\].*another workdir"):
            checkpoints.restore(target)
        assert checkpoints.latest() == 4
        np.testing.assert_array_equal(checkpoints.restore({"x": jnp.zeros(4)})[1]["x"], np.arange(4.0))


def test_a_typed_key_is_a_fault_of_the_caller(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(TypeError, match="key_data"):
        checkpoints.save(1, {"key": jax.random.key(0)})


@pytest.mark.parametrize("make", ["file", "photo", "other_step"])
def test_a_foreign_folder_is_refused_untouched(tmp_path, make):
    folder = tmp_path / "c"
    if make == "file":
        folder.write_text("x")
    else:
        (folder / ("7" if make == "other_step" else "summer")).mkdir(parents=True)
        (folder / ("7/default" if make == "other_step" else "summer/a.png")).write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="choose another workdir"):
        Checkpoints(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1))
        usage = shutil.disk_usage(tmp_path)._replace(free=10)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(UserError, match=f"cannot write to {tmp_path}.*make room"):
            checkpoints.save(2, make_state(2))
        assert checkpoints.latest() == 1


FULL = """
import resource, signal, sys
import numpy as np
from rcig.checkpoint import Checkpoints
from rcig.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with Checkpoints(sys.argv[1]) as checkpoints:
        checkpoints.save(2, {"x": np.random.default_rng(0).normal(size=100_000)})
except UserError as error:
    print(error)
    sys.exit(2)
"""


def test_a_disk_that_refuses_in_the_background_is_one_clear_error(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": np.zeros(100_000)})
    run = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout.startswith(f"cannot write to {tmp_path}: "), run
    assert "Traceback" not in run.stderr
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore({"x": np.zeros(100_000)})[0] == 1


SAVER = """
import sys
import numpy as np
from rcig.checkpoint import Checkpoints
base = np.random.default_rng(0).normal(size=2_500_000)
with Checkpoints(sys.argv[1]) as checkpoints:
    step = checkpoints.latest() or 0
    print("ready", flush=True)
    while True:
        checkpoints.save(step := step + 1, {"x": base + step, "step": step})
        print(step - 1, flush=True)  # the save before has been waited for
"""


def test_killed_at_any_instant_the_newest_committed_step_is_whole(tmp_path):
    base, committed = np.random.default_rng(0).normal(size=2_500_000), 0
    instants = random.Random(0)
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    for trial in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n"
        while not trial and not committed:  # however slow the machine, one save is there to be lost
            committed = int(child.stdout.readline())
        time.sleep(instants.uniform(0.1, 0.8))
        child.kill()
        committed = max([committed, *map(int, child.communicate()[0].split())])
        with Checkpoints(tmp_path) as checkpoints:
            if checkpoints.latest() is None:
                assert committed == 0
                continue
            step, state = checkpoints.restore({"x": base, "step": 0})
        assert step >= committed and state["step"] == step
        np.testing.assert_array_equal(state["x"], base + step)
    assert committed > 0
