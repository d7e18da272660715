"""What a user can mend is one line that begins with "error:" and status 2; nothing on disk is harmed by it."""

import fcntl
import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import pytest
from commands import PULL, RCIG, Ended, call, run
from data_files import picture, write_tree
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import rcig
from rcig import artefact, command, data, experiment
from rcig import config as configs
from rcig.errors import UserError
from rcig.initialize import initialize
from rcig.lookup import find
from rcig.metrics import read

# orbax's threads may still be reading a broken array when its first error has been raised
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
any_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Return the workdir of a finished run, with checkpoints of steps 10 and 20."""
    workdir = tmp_path_factory.mktemp("runs") / "pull"
    assert call("distill_dataset", *PULL, f"--workdir={workdir}").status == 0
    return workdir


@pytest.fixture
def workdir(finished, tmp_path) -> Path:
    """Return a copy of the finished run, to be harmed."""
    return shutil.copytree(finished, tmp_path / "run")


def error_of(ended: Ended) -> str:
    """Return the one error line of a command that refused."""
    assert ended.status == 2 and ended.out == "", ended
    (line,) = (line for line in ended.err.splitlines() if line.startswith("error: "))
    assert ended.err.endswith(line + "\n") and "Traceback" not in ended.err
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------- names and numbers

MISTAKES = {  # --config.<key>: what the line says
    "method.rigde=1": "unknown config field 'method.rigde'; did you mean 'method.ridge'?",
    "methd.ridge=1": "unknown config section 'methd'; did you mean 'method'?",
    "method.name=rcgi": "unknown method 'rcgi'; did you mean 'rcig'?",
    "model.name=convent": "unknown model 'convent'; did you mean 'convnet'?",
    "eval.model.name=dc_convent": "unknown model 'dc_convent'; did you mean 'dc_convnet'?",
    "dataset=digit": "unknown data set 'digit'; did you mean 'digits'?",
    "preprocessing=zac": "unknown preprocessing 'zac'; did you mean 'zca'?",
    "model.norm=bach": "unknown norm 'bach'; did you mean 'batch'?",
    "model.activation=rleu": "unknown activation 'rleu'; did you mean 'relu'?",
    "eval.protocol=standrd": "unknown evaluation 'standrd'; did you mean 'standard'?",
    "eval.preset=rcgi": "unknown eval.preset 'rcgi'; did you mean 'rcig'?",
    "eval.loss=mes": "unknown loss 'mes'; did you mean 'mse'?",
    "eval.optimiser=adm": "unknown optimiser 'adm'; did you mean 'adam'?",
    "eval.augmentation=flipp": "unknown augmentation 'flipp'; did you mean 'flip'?",
    "initialization=reel": "'reel'; did you mean 'real'?",
    "parallel=jitt": "unknown parallel 'jitt'; did you mean 'jit'?",
    "precision=float23": "unknown config.precision 'float23'; did you mean 'float32'?",
    "method.solver=gc": "unknown method.solver 'gc'; did you mean 'cg'?",
    "method.problem=convex": "unknown method.problem 'convex'; did you mean 'convexified'?",
    "method.solve_dtype=float64": "needs 64-bit mode; set config.x64 to True",
    "method.average_decay=1.0": "method.average_decay must lie in [0, 1), not 1.0; 0 averages nothing",
    "method.solver_steps=0": "method.solver_steps must be positive, not 0",
    "method.max_products=0": "method.max_products must be positive, not 0",
    "method.ridge=0": "method.ridge must be positive, not 0",
    "method.tolerance=1": "method.tolerance must lie in (0, 1), not 1.0",
    "eval.weight_decay=0.1": "eval.weight_decay is of optimiser sgd, not of adam; set it to 0",
    "method.ridge=much": "config.method.ridge must be of type float, not 'much'",
    "method.learning_rate=nan": "config.method.learning_rate must be a finite number",
    "method.batch_size=4800": "batch size must lie in 1..1198, the number of training rows, got 4800",
    "ipc=0": "ipc must be at least 1, not 0",
    "ipc=-1": "config.ipc must be a number from 0 to 1073741823, not -1",
    "seed=4294967296": "config.seed must be a number from 0 to 4294967295, not 4294967296",
    "method.pool_max_age=2147483648": "config.method.pool_max_age must be a number from 0 to 1073741823",
    "method.name=RICG": "did you mean 'rcig'?",
    "ipc=117": "ipc 117 is more than class '8' of digits has (116 examples); choose at most 116",
    "model.depth=4": "model.depth 4 halves a 8-pixel image to nothing; choose at most 3",
    "num_steps=0": "num_steps must be at least 1, not 0",
    "steps_per_dispatch=0": "steps_per_dispatch must be at least 1, not 0",
    "checkpoint_every=0": "checkpoint_every must be at least 1, not 0",
    "eval.num_networks=0": "eval.num_networks must be positive, not 0",
    "data.path=x.npz": "takes no options",
    "dataset=npz": "needs path=",
    "data_dir=gs://bucket": "gs://bucket is no path on this machine; mount it, or give a local path",
    "dataset=mnist": "python -m rcig.data prepare mnist --data_dir /nowhere",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_config(mistake, tmp_path):
    flags = (*RCIG, "--config.data_dir=/nowhere", f"--config.{mistake}", f"--workdir={tmp_path / 'run'}")
    assert MISTAKES[mistake] in error_of(call("distill_dataset", *flags))
    assert not {"checkpoints", "distilled", "metrics.jsonl"} & set(contents(tmp_path / "run"))
    # ... and the same workdir serves once it is mended
    configs.save(configs.load("quickstart", ["--config.seed=5"]), tmp_path)


FLAGS = {
    ("--config=quickstart", "--workdir="): "argument --workdir: a path must not be empty",
    ("--config=quickstart", "--workdir=x", "--num_processes=2"): "want a --coordinator=HOST:PORT as well",
    (): "arguments are required: --config, --workdir",
    ("--config=quickstart",): "arguments are required: --workdir",
    ("--config=quickstart", "--workdir=x", "num_steps=5"): "cannot read 'num_steps=5'; write --config.FIELD=VALUE",
    ("--config=quickstart", "--workdir=x", "--config.seed"): "cannot read '--config.seed'",
    ("--config=quickstart", "--workdir=x", "--num_processes=two"): "invalid int value: 'two'",
    ("--config=quickstart", "--workdir=x", "--coordinator=host:1"): "--process_id from 0 to --num_processes - 1, not",
    ("--config=quickstart", "--workdir=x", "--coordinator=host", "--num_processes=1", "--process_id=0"): "HOST:PORT",
    (
        *("--config=quickstart", "--workdir=x", "--coordinator=host:port", "--num_processes=1", "--process_id=0"),
    ): "HOST:PORT",
    ("--config=quickstart", "--workdir=gs://bucket/run"): "is no path on this machine; mount it, or give a local path",
    ("--config=quickstart", "--workdir=" + "x" * 300): "longer than 255 bytes",
    (
        "--config=lpld_digits",
        "--workdir=x",
        "--config.eval_every=1",
    ): "eval_every must be 0: protocol soft_labels wants",
    ("--config=~nobody-of-this-name/a.py", "--workdir=x"): "unknown config '~nobody-of-this-name/a.py'",
    ("--config=quickstart", "--workdir=~nobody-of-this-name/x"): "there is no user nobody-of-this-name",
    ("--config=quikstart", "--workdir=x"): "unknown config 'quikstart'; did you mean 'quickstart'?",
    ("--config=configs/quikstart.py", "--workdir=x"): "did you mean 'quickstart'?",
    ("--config=nowhere/config.json", "--workdir=x"): "cannot read config nowhere/config.json",
    ("--config=" + "a" * 5000, "--workdir=x"): "unknown config",
}


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: " ".join(flags)[:60])
def test_a_mistake_in_the_flags(flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert FLAGS[flags] in error_of(call("distill_dataset", *flags))
    assert list(tmp_path.iterdir()) == []


CONFIG_FILES = {
    "syntax.py": ("def get_config(:\n", "SyntaxError"),
    "raises.py": ("\ndef get_config():\n  return 1 / 0\n", "fails at line 3 with ZeroDivisionError: division by zero"),
    "imports.py": ("import no_such_module\n", "fails at line 1 with ModuleNotFoundError"),
    "empty.py": ("", "must define get_config() -> ConfigDict"),
    "none.py": ("get_config = lambda: None\n", "must define get_config() -> ConfigDict"),
    "null.py": ("\0", "null bytes"),
    "config.txt": ("x", "is not a Python file"),
    "broken.json": ("{", "give a config.json written by a run"),
    "list.json": ("[1]", "give a config.json written by a run"),
    "section.json": ('{"method": 3}', "config.method is a section"),
    "name.json": ('{"method": {"name": [3]}}', "unknown method '[3]'"),
    "type.json": ('{"num_steps": "many"}', "config.num_steps must be of type int, not 'many'"),
    "deep.json": ('{"a":' * 5000 + "1" + "}" * 5000, "give a config.json written by a run"),
}


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_a_broken_config_file(name, tmp_path):
    text, message = CONFIG_FILES[name]
    (tmp_path / name).write_text(text)
    assert message in error_of(call("distill_dataset", f"--config={tmp_path / name}", f"--workdir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- workdirs


def test_a_workdir_of_another_config_is_left_alone(workdir):
    before = contents(workdir)
    for change, said in {
        "seed=1": "seed is 0 there and 1 here",
        "method.learning_rate=0.5": "0.1 there and 0.5",
        "num_steps=10": "num_steps is 20 there and 10 here",
    }.items():
        line = error_of(call("distill_dataset", *PULL, f"--config.{change}", f"--workdir={workdir}"))
        assert "belongs to another config" in line and said in line and "use another --workdir" in line
    assert contents(workdir) == before


def test_a_workdir_without_its_config_is_nobodys(workdir):
    (workdir / "config.json").unlink()
    for beside in ("checkpoints", "metrics.jsonl"):
        before = contents(workdir)
        line = error_of(call("distill_dataset", *PULL, f"--workdir={workdir}"))
        assert f"config.json is missing beside {workdir / beside}" in line and contents(workdir) == before
        shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
        shutil.rmtree(workdir / "distilled", ignore_errors=True)


@pytest.mark.parametrize("place", ["distilled", "distilled/inner", "checkpoints"])
def test_a_workdir_within_what_a_run_replaces(workdir, place):
    line = error_of(call("distill_dataset", *PULL, f"--workdir={workdir / place}"))
    assert "must not lie in" in line and "which is replaced as a whole" in line


def test_a_workdir_that_is_a_link_to_itself(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    line = error_of(call("distill_dataset", *PULL, f"--workdir={tmp_path / 'circle'}"))
    assert f"{tmp_path / 'circle'} must be a folder, not links in a circle" in line or "cannot write to" in line


@pytest.mark.parametrize("name", ["lr[0.1]", "a*", "w\\x", "w\udcff"])
def test_a_workdir_that_the_array_store_or_the_terminal_misreads(name, tmp_path):
    line = error_of(call("distill_dataset", *PULL, f"--workdir={tmp_path}/{name}"))
    assert "in its path" in line or "nor other than UTF-8" in line
    assert not list(tmp_path.iterdir())


def test_another_evaluation_does_not_make_another_run(workdir, finished):
    flags = ("--config.eval.num_networks=1", "--config.eval_every=10", f"--workdir={workdir}")
    ended = call("distill_dataset", *PULL, *flags)
    assert ended.status == 0 and "finished and keeps the evaluation" in ended.err
    assert "; pass --config.eval.num_networks=1 to eval.py" in ended.err
    assert contents(workdir / "distilled") == contents(finished / "distilled")


def test_the_copy_of_an_older_set_does_not_take_the_place_of_the_runs_result(workdir):
    shutil.copytree(workdir / "distilled", workdir / "before")
    assert call("eval", f"--distilled={workdir / 'before'}", "--config.eval.num_steps=1").status == 0
    assert not (workdir / "eval-standard.json").exists()


@pytest.mark.parametrize("lost", ["card.json", "commit_success.txt"])
def test_a_set_that_lacks_a_file_is_made_again(workdir, finished, lost):
    (workdir / "distilled" / lost).unlink()
    assert call("distill_dataset", *PULL, f"--workdir={workdir}").status == 0
    assert np.array_equal(rcig.load(workdir).inputs, rcig.load(finished).inputs)


def test_a_set_behind_a_link_is_replaced_where_it_lies(workdir):
    (workdir / "distilled").rename(workdir.parent / "elsewhere")
    (workdir / "distilled").symlink_to(workdir.parent / "elsewhere")
    for steps in (30, 40):
        assert call("distill_dataset", *PULL, f"--config.num_steps={steps}", f"--workdir={workdir}").status == 0
    assert (workdir / "distilled").is_symlink() and rcig.load(workdir.parent / "elsewhere").card["step"] == 40


@pytest.mark.parametrize("place", ["/proc/run", "a file", "below a file"])
def test_a_workdir_that_cannot_be_written(place, tmp_path):
    (tmp_path / "file").write_text("mine")
    folder = {"/proc/run": "/proc/run", "a file": tmp_path / "file", "below a file": tmp_path / "file" / "run"}[place]
    assert f"cannot write to {folder}" in error_of(call("distill_dataset", *PULL, f"--workdir={folder}"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_workdir_with_somebody_elses_files(tmp_path):
    for name in ("checkpoints", "distilled"):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "mine.txt").write_text("mine")
        assert str(tmp_path / name) in error_of(call("distill_dataset", *PULL, f"--workdir={tmp_path}"))
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
    assert (tmp_path / "distilled/distilled/mine.txt").read_text() == "mine"


def test_a_workdir_with_another_programs_config(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["mine"]}')
    message = error_of(call("distill_dataset", *PULL, f"--workdir={tmp_path}"))
    assert f"{tmp_path / 'config.json'} is no config of this program" in message
    assert (tmp_path / "config.json").read_text() == '{"architectures": ["mine"]}'


@pytest.mark.parametrize("out", ["config", "../run"])
def test_a_report_of_several_runs_does_not_replace_files_of_one(workdir, out):
    before = contents(workdir.parent)
    for module in ("rcig.matrix", "rcig.diversity"):
        assert "is or lies in a workdir" in error_of(call(module, workdir / out, workdir))
    assert contents(workdir.parent) == before


def test_pictures_are_not_replaced_by_a_set(workdir, tmp_path):
    assert call("rcig.convert", workdir, tmp_path / "pictures").status == 0
    before, distilled = contents(tmp_path / "pictures"), rcig.load(workdir)
    with pytest.raises(UserError, match="must be a distilled set to be replaced but holds other files"):
        rcig.save(tmp_path / "pictures", distilled.synthetic, distilled.card)
    assert contents(tmp_path / "pictures") == before


@pytest.mark.parametrize("variables", [{}, {"SLURM_STEP_NUM_TASKS": "2"}])
def test_a_cluster_that_is_none(variables, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    flags = () if variables else ("--coordinator=auto",)
    message = error_of(call("distill_dataset", *PULL, *flags, f"--workdir={tmp_path / 'run'}"))
    assert ("SLURM_STEP_NUM_TASKS speak of a cluster" if variables else "finds no cluster; give HOST:PORT") in message


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("INTERNAL: Out of memory allocating 9 bytes"), RuntimeError("RESOURCE_EXHAUSTED")],
)
def test_the_end_of_memory_is_said_with_remedies(error, capsys):
    def command_of_this():
        raise error

    with pytest.raises(SystemExit) as stop:
        command.main(command_of_this)
    assert stop.value.code == 2 and capsys.readouterr().err.startswith("error: out of memory; lower method.batch_size")


def test_a_workdir_where_another_process_is_at_work(workdir):
    with open(workdir / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process is at work" in error_of(call("distill_dataset", *PULL, f"--workdir={workdir}"))
    assert call("distill_dataset", *PULL, f"--workdir={workdir}").status == 0


# ---------------------------------------------------------------- broken files


def flip(contents: bytes) -> bytes:
    middle = len(contents) // 2
    return contents[:middle] + bytes([contents[middle] ^ 8]) + contents[middle + 1 :] if contents else b"x"


def halve(contents: bytes) -> bytes:
    return contents[: len(contents) // 2]


def harm(folder: Path, how: Callable[[bytes], bytes]) -> None:
    """Harm every file below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize("how", [flip, halve])
def test_a_broken_checkpoint_is_passed_over(workdir, finished, how):
    shutil.rmtree(workdir / "distilled")
    harm(workdir / "checkpoints/20", how)
    ended = call("distill_dataset", *PULL, f"--workdir={workdir}")
    assert ended.status == 0 and "warning: checkpoint 20" in ended.err and "resumed from step 10" in ended.err
    assert np.array_equal(rcig.load(workdir).inputs, rcig.load(finished).inputs)


@pytest.mark.parametrize("how", [flip, halve])
def test_without_a_whole_checkpoint_nothing_is_begun_anew(workdir, how):
    shutil.rmtree(workdir / "distilled")
    harm(workdir / "checkpoints", how)
    before = contents(workdir)
    line = error_of(call("distill_dataset", *PULL, f"--workdir={workdir}"))
    assert "no whole checkpoint" in line and "start anew in another workdir" in line
    assert contents(workdir) == before


@pytest.mark.parametrize("how", [flip, halve])
def test_a_broken_distilled_set_is_not_measured_and_is_made_again(workdir, finished, how):
    harm(workdir / "distilled", how)
    assert "error: " in error_of(call("eval", f"--distilled={workdir}"))
    assert not (workdir / "eval-standard.json").exists()
    assert call("distill_dataset", *PULL, f"--workdir={workdir}").status == 0
    assert np.array_equal(rcig.load(workdir).inputs, rcig.load(finished).inputs)


def test_a_torn_config_of_a_run_is_named(workdir):
    (workdir / "config.json").write_text('{"ipc": 1, ')
    before = contents(workdir)
    line = error_of(call("distill_dataset", *PULL, f"--workdir={workdir}"))
    assert f"cannot read config {workdir}/config.json" in line and contents(workdir) == before


# ---------------------------------------------------------------- NaN


def test_nan_stops_the_run_at_that_step_and_leaves_the_last_good_state(tmp_path):
    line = error_of(call("distill_dataset", *PULL, "--config.method.nan_at=12", f"--workdir={tmp_path / 'run'}"))
    assert "loss became NaN or infinite at step 12; the last good state is step 10" in line
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["10"]
    assert rcig.load(tmp_path / "run").card["step"] == 10 and [m["step"] for m in read(tmp_path / "run")] == [5, 10]
    again = error_of(call("distill_dataset", *PULL, "--config.method.nan_at=12", f"--workdir={tmp_path / 'run'}"))
    assert again == line


def test_what_grows_beyond_all_bounds_is_nan_too(tmp_path):
    flags = ("--config.method.learning_rate=1e30", f"--workdir={tmp_path / 'run'}")
    line = error_of(call("distill_dataset", *PULL, *flags))
    assert "became NaN or infinite at step" in line and "no state is saved yet" in line
    assert not (tmp_path / "run/distilled").exists() and list((tmp_path / "run/checkpoints").iterdir()) == []


@pytest.mark.slow
def test_rcig_with_a_learning_rate_far_too_large(tmp_path):
    ended = run("distill_dataset", *RCIG, "--config.method.learning_rate=1e30", f"--workdir={tmp_path / 'run'}")
    assert "became NaN or infinite at step" in error_of(ended) and not (tmp_path / "run/distilled").exists()


# ---------------------------------------------------------------- eval.py


def published(**changes) -> bytes:
    protos = {"x_proto": np.zeros((10, 8, 8, 1), np.float32), "y_proto": np.eye(10, dtype=np.float32)} | changes
    return flax.serialization.msgpack_serialize({"params": protos, "ema_average": protos})


FILES = {
    "nothing": (b"", "rcig", "must be a file of format 'rcig' but is not"),
    "garbage": (b"\xc1" * 99, "rcig", "must be a file of format 'rcig' but is not"),
    "torn": (published()[:500], "rcig", "must be a file of format 'rcig' but is not"),
    "no set": (flax.serialization.msgpack_serialize({"params": {}}), "rcig", "no ema_average/x_proto"),
    "colour": (published(x_proto=np.zeros((10, 8, 8, 3), np.float32)), "rcig", "set --config.dataset to the one"),
    "size": (published(x_proto=np.zeros((10, 32, 32, 1), np.float32)), "rcig", "set --config.dataset to the one"),
    "classes": (published(y_proto=np.zeros((10, 3), np.float32)), "rcig", "choose the data set it was made for"),
    "nan": (published(x_proto=np.full((10, 8, 8, 1), np.nan, np.float32)), "rcig", "holds NaN or Inf"),
    "format": (published(), "rcgi", "unknown format 'rcgi'; did you mean 'rcig'?"),
    "other format": (published(), "npz", "must be a file of format 'npz' but is not"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_strangers_file_that_is_no_set_of_these_data(case, tmp_path):
    content, format, message = FILES[case]
    (tmp_path / "file").write_bytes(content)
    flags = (f"--distilled={tmp_path / 'file'}", f"--format={format}", "--config.dataset=digits")
    assert message in error_of(call("eval", *flags))
    assert contents(tmp_path) == {"file": content}


def test_a_workdir_among_the_pictures_is_refused(tmp_path):
    write_tree(tmp_path, {f"{c}/{row}.png": picture((8, 8)) for c in "ab" for row in range(20)})
    flags = (*PULL, "--config.dataset=folder", f"--config.data.path={tmp_path}", f"--workdir={tmp_path / 'run'}")
    assert "must not lie in the data's folder" in error_of(call("distill_dataset", *flags))
    assert not (tmp_path / "run").exists()


def test_the_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"{tmp_path / 'nowhere'} must be a distilled set" in error_of(call("eval", "--distilled=~/nowhere"))


def test_what_may_not_be_read_is_named(workdir, monkeypatch):
    def refuse(path):  # root may read everything, so rights cannot be taken from it
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("rcig.artefact.find", refuse)
    assert f"no right to use {workdir}; grant it" in error_of(call("eval", f"--distilled={workdir}"))


def test_an_old_terminal_shows_what_it_can(workdir, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", shown)
    command.main(lambda: print("91.7 ± 0.4"))
    shown.flush()
    assert shown.buffer.getvalue() == b"91.7 ? 0.4\n"


def test_what_eval_is_given_must_be_a_set(workdir, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in {
        "empty": "holds no distilled set",
        "nowhere": "does not exist",
        "run/config.json": "is a file; say its --format",
        "run/checkpoints": "holds no distilled set",
    }.items():
        assert message in error_of(call("eval", f"--distilled={tmp_path / path}"))
    assert "arguments are required: --distilled" in error_of(call("eval"))
    assert "--full_data_steps must not be negative" in error_of(
        call("eval", f"--distilled={workdir}", "--full_data_steps=-5")
    )
    assert "is a folder" in error_of(call("eval", f"--distilled={workdir}", "--format=npz"))


def test_a_data_set_that_does_not_fit_is_named(workdir, tmp_path):
    np.savez(tmp_path / "three.npz", inputs=np.zeros((60, 8, 8, 1), np.uint8), labels=np.arange(60) % 3)
    other = ("--config.dataset=npz", f"--config.data.path={tmp_path / 'three.npz'}", "--config.data.test_fraction=0.5")
    for flags, message in {
        other: "labels (10, 10), data set npz wants (8, 8, 1) and (10, 3)",
        ("--config.preprocessing=none",): "lives in pixel space 'standard', data set digits in 'none'",
        ("--config.eval.flipp=True",): "did you mean 'eval.flip'?",
        ("--protocol=stanard",): "unknown evaluation 'stanard'; did you mean 'standard'?",
        ("--config.eval.model.norm=bach",): "did you mean 'batch'?",
        ("--config.ipc=500", "--config.eval.num_steps=-3"): "config.eval.num_steps must be a number from 0 to",
        ("--full_data_steps=few",): "invalid int value: 'few'",
    }.items():
        assert message in error_of(call("eval", f"--distilled={workdir}", *flags))
    assert not (workdir / "eval-standard.json").exists()


# ---------------------------------------------------------------- anything at all


def leaves(section, prefix: str = "") -> list[str]:
    return [
        name
        for key, value in section.items()
        for name in (leaves(value, f"{prefix}{key}.") if hasattr(value, "items") else [prefix + key])
    ]


load_digits = functools.cache(lambda: data.load("digits"))
KEYS = leaves(configs.load("quickstart"))
TEXTS = st.sampled_from(["0", "1", "-1", "3", "1e30", "-1e30", "nan", "inf", "True", "None", "", "[1]", "x", "9" * 40])


def make_everything(config) -> None:
    """Make all that a run makes before it compiles anything."""
    digits = load_digits()
    model, _ = experiment.make_model(config.model, digits), experiment.make_judge(config, digits)
    find("methods", config.method.name).make(model, **configs.options(config.method))
    initialize("real", jax.random.key(config.seed), digits, config.ipc)


@given(overrides=st.lists(st.tuples(st.sampled_from(KEYS), TEXTS | st.text(max_size=9)), max_size=3))
@example(overrides=[("eval.protocol", "")])
@example(overrides=[("model.name", "dc_convnet"), ("eval.preset", "dc")])
@settings(max_examples=400, deadline=None)
def test_any_override_makes_a_run_or_a_user_error(overrides):
    try:
        make_everything(configs.load("quickstart", [f"--config.{key}={text}" for key, text in overrides]))
    except UserError as error:
        assert str(error)


@given(override=st.text() | st.text().map("--config.{}".format) | st.text().map("--config.{}=1".format))
@settings(max_examples=200, deadline=None)
@example(override="labels.add=0")  # of a field, but not said to be one
def test_any_text_as_an_override(override):
    field, separator, _ = override.lstrip("-").partition("=")
    assume(not separator or field not in {f"config.{key}" for key in KEYS})  # these are the test's above
    with pytest.raises(UserError):
        configs.load("quickstart", [override])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from([*KEYS, "method", "eval", "model", "name"]), inner)
    ),
    max_leaves=8,
)


@any_folder
@given(
    value=JSON | st.fixed_dictionaries({}, optional={"method": JSON, "eval": JSON, "num_steps": JSON, "model": JSON})
)
def test_any_json_as_a_config(value, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(value))
    try:
        make_everything(configs.load(str(tmp_path / "config.json")))
    except UserError as error:
        assert str(error)


@any_folder
@given(junk=st.binary(max_size=200), name=st.sampled_from(["config.json", "mine.py", "mine.txt"]))
def test_any_bytes_as_a_config_file(junk, name, tmp_path):
    (tmp_path / name).write_bytes(junk)
    error_of(call("distill_dataset", f"--config={tmp_path / name}", f"--workdir={tmp_path / 'run'}"))


@any_folder
@given(junk=st.binary(max_size=200), format=st.sampled_from(["rcig", "frepo", "npz", "safetensors"]))
def test_any_bytes_as_a_set(junk, format, tmp_path):
    (tmp_path / "set").write_bytes(junk)
    error_of(call("eval", f"--distilled={tmp_path / 'set'}", f"--format={format}"))


@any_folder
@given(junk=st.binary(max_size=200), place=st.integers(0, 99), cut=st.booleans())
def test_any_harm_to_a_file_of_a_run_is_an_error_or_harmless(junk, place, cut, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    shutil.copytree(finished, workdir)
    files = [path for name in ("checkpoints", "distilled", "config.json") for path in within(workdir / name)]
    path = files[place % len(files)]
    old = path.read_bytes()
    path.write_bytes(junk if cut else old[: len(old) // 2] + junk + old[len(old) // 2 :])
    ended = call("distill_dataset", *PULL, f"--workdir={workdir}")
    if ended.status:
        error_of(ended)
    else:
        assert np.array_equal(artefact.load(workdir).inputs, artefact.load(finished).inputs)


def within(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
