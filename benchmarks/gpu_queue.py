"""What waits for a GPU, in order, in pieces that fit a machine lent for minutes at a time.

Such a machine is bare, has no network, is lent for 15 minutes in all (its start, the transfers and idle time counted),
stops a command after 10, forgets its disk when it is given back (30 seconds without a command), takes 64 MiB a call and
returns what lies under $OUT, 8 files of 16 MiB. A run's state (30 networks with two moments: 560 MB at width 128) is
too big to bring home, so a run lives within one lease: its workdir stays on the machine's disk, the next call goes on
from it. Every minute the distilled set, metrics, pictures and evaluation lie under $OUT as one small tar, so that a
call that is cut brings them home too. A run that a lease cuts short is evaluated where it stands (--evaluate).

At home, once (the wheel is what the GPU machine's Python 3.12 lacks; .carry is ignored by git and carried by name):
    python benchmarks/gpu_queue.py pack cifar10 .carry/data          # also mnist, fashion_mnist
    python3 -m pip download --no-deps -d .carry/wheels ml_collections
There, every call starts with (C: what git rev-parse HEAD says at home; there is no checkout to ask)
    export RCIG_COMMIT=C
    export W=/tmp/rcig PYTHONUNBUFFERED=1; export PYTHONPATH=$W/site TFDS_DATA_DIR=$W/tfds RCIG_CACHE=$W/cache
1 (carry .carry/wheels, .carry/data/cifar10.json, .carry/data/cifar10.0.bz2): half a minute, and what is wrong shows
    mkdir -p $W/data; cp .carry/data/* $W/data; python3 -m pip install -q --no-index --no-deps --no-compile \\
        --no-cache-dir --upgrade --target $W/site .carry/wheels/*.whl && python3 benchmarks/gpu_queue.py run smoke
2 (carry .carry/data/cifar10.1.bz2; within 30 s; unpacking takes a minute or two of the call's ten before
  S begins); S: the reply's budget_left_s less 300, at most 460
    cp .carry/data/* $W/data; python3 benchmarks/gpu_queue.py unpack cifar10 $W/data &&
    python3 benchmarks/gpu_queue.py run rcig_cifar10_ipc1 --seconds=S
3 (carry nothing), while budget_left_s allows; in the last call of a lease add --evaluate; S: budget_left_s less 60
    python3 benchmarks/gpu_queue.py run rcig_cifar10_ipc1 --seconds=S --evaluate
MNIST and Fashion-MNIST are one part each: call 1 does all. At home, after each call:
    python benchmarks/gpu_queue.py collect FOLDER_OF_RETURNED_FILES
A GPU does not add in the same order every time: XLA_FLAGS=--xla_gpu_deterministic_ops=true makes it, and is slower.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import _measure

WORK = Path(os.environ.get("W") or Path(tempfile.gettempdir()) / "rcig") / "runs"
OUT = Path(os.environ.get("OUT") or WORK / "out")
_LAST = 45  # seconds that a stopped run may take to finish its dispatch and save
_EVALUATION = 150  # seconds kept for --evaluate
_BEAT = 60  # seconds between looks at what there is to bring home
_HOME = (
    "distilled",
    "soft_labels",
    "teacher",
    "images/latest.png",
    "images/curves.png",
    "metrics.jsonl",
    "config.json",
    "eval-*.json",
)


class Job(NamedTuple):
    """A distillation of ``configs/<name>.py``, or a benchmark."""

    dataset: str = ""
    config: str = ""  # where it is not <name>.py
    options: tuple[str, ...] = ()  # of the config, for runs that a lease would not end
    benchmark: str = ""  # its command line


def _shorter(num_steps: int) -> tuple[str, ...]:
    """FRePo's rate, which falls to the end of a run, falls sooner."""
    return (f"num_steps={num_steps}", f"method.decay_steps={num_steps}")


def _every(checkpoint: int, dispatch: int) -> tuple[str, ...]:
    """What a cut call loses is bounded by the checkpoints; how soon a run can stop, by the steps of a dispatch."""
    return (f"checkpoint_every={checkpoint}", f"steps_per_dispatch={dispatch}")


QUEUE: dict[str, Job] = {
    "smoke": Job("digits", "quickstart.py", ("num_steps=100", "eval.num_networks=2")),
    "networks": Job(benchmark="networks_together.py --case=width=128,examples=10"),
    "rcig_cifar10_ipc1": Job("cifar10"),
    "rcig_cifar10_ipc10": Job("cifar10"),
    "dm_cifar10_ipc10": Job("cifar10", "dm.py:cifar10_ipc10"),
    "dsa_cifar10_ipc10": Job("cifar10", "dsa.py:cifar10_ipc10"),
    "dc_cifar10_ipc1": Job("cifar10", "dc.py:cifar10_ipc1"),
    "dsa_cifar10_ipc1": Job("cifar10", "dsa.py:cifar10_ipc1"),
    "dm_cifar10_ipc1": Job("cifar10", "dm.py:cifar10_ipc1"),
    "dm_cifar10_ipc50": Job("cifar10", "dm.py:cifar10_ipc50"),
    "mtt_cifar10_ipc1": Job("cifar10", "mtt.py:cifar10_ipc1", ("method.recorded_epochs=3", "method.num_experts=20")),
    "frepo_cifar10_ipc1": Job("cifar10", "frepo.py:cifar10_ipc1", (*_shorter(30000), *_every(1000, 100))),
    "frepo_cifar10_ipc10": Job("cifar10", "frepo.py:cifar10_ipc10", (*_shorter(20000), *_every(1000, 100))),
    "dd_cifar10_fixed_100": Job("cifar10", options=_every(200, 20)),
    "sldd_cifar10_fixed_100": Job("cifar10", options=_every(200, 20)),
    "dd_mnist_random_100": Job("mnist", options=_every(200, 20)),
    "rat_cifar10_ipc10": Job("cifar10", "rat.py:cifar10_ipc10", _every(50, 10)),
    "rcig_mnist_ipc1": Job("mnist"),
    "rcig_mnist_ipc10": Job("mnist"),
    "rcig_fashion_mnist_ipc1": Job("fashion_mnist"),
    "rcig_fashion_mnist_ipc10": Job("fashion_mnist"),
    "dsa_mnist_ipc10": Job("mnist", "dsa.py:mnist_ipc10"),
    "dc_mnist_ipc1": Job("mnist", "dc.py:mnist_ipc1"),
    "frepo_mnist_ipc1": Job("mnist", "frepo.py:mnist_ipc1", (*_shorter(30000), *_every(1000, 100))),
    "lpld_mnist": Job("mnist"),
    "matching_step": Job(benchmark="matching_step.py"),
    "kernels": Job(benchmark="kernels.py --case=program=ours,devices=1 --case=program=contracted,devices=1"),
    "lpld": Job(benchmark="lpld.py"),
    "bptt_step": Job(benchmark="bptt_step.py"),
    "step_w128_b1024": Job(benchmark="rcig_step.py --case=width=128,batch=1024"),
    "step_w128_b256": Job(benchmark="rcig_step.py --case=width=128,batch=256"),
    "step_w32": Job(benchmark="rcig_step.py --case=width=32"),
    "convolution": Job(benchmark="conv2d.py"),
}


def run(name: str, seconds: float, evaluate: bool, overrides: list[str]) -> None:
    """Go on with a job until it ends or ``seconds`` have passed; all the while its line and its tar are under $OUT.

    Only the last line says where: to ask the device, and hold it, is the child's before that.
    """
    deadline, job, workdir = time.monotonic() + seconds, QUEUE[name], WORK / name

    def bring(line: dict) -> None:
        line = {"job": name} | ({} if job.benchmark else _progress(workdir)) | line
        (OUT / "gpu_queue.jsonl").write_text(json.dumps(line) + "\n")
        for path in (WORK / "results").glob("*.jsonl"):
            shutil.copy(path, OUT)
        if workdir.exists():
            _tar(workdir, OUT / f"{name}.tar")
        print(json.dumps(line))

    OUT.mkdir(parents=True, exist_ok=True)
    if job.benchmark:
        script, *cases = shlex.split(job.benchmark)
        command = [f"benchmarks/{script}", *cases, "--missing"]
    else:
        config = f"--config=configs/{job.config or f'{name}.py'}"
        options = [f"--config.{option}" for option in job.options]
        command = ["distill_dataset.py", config, f"--workdir={workdir}", *options, *overrides]
    kept = 0 if job.benchmark or not evaluate else _EVALUATION
    status = _until(deadline - kept, command, lambda: bring({"status": "running"}))
    line = {"status": {0: "finished", 143: "stopped"}.get(status, f"failed {status}")}
    if not job.benchmark and (status == 0 or (evaluate and status == 143)):
        unmeasured = {"status": "stopped" if status else "distilled"}
        bring(unmeasured)
        line |= _evaluate(workdir, deadline - time.monotonic()) or unmeasured
    bring(line | _measure.where())


def collect(folder: Path) -> None:
    """Take what came back: lines join benchmarks/results, runs go to runs/gpu."""
    from rcig import card

    for path in sorted(folder.rglob("*.jsonl")):
        known = _measure.read(path.stem)
        for row in map(json.loads, path.read_text().splitlines()):
            if row | {"commit": ""} not in [other | {"commit": ""} for other in known]:
                _measure.record(path.stem, row | {"commit": row.get("commit") or card.commit()})
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as archive:
            archive.extractall(_measure.ROOT / "runs" / "gpu" / path.stem, filter="data")
        print(f"runs/gpu/{path.stem}")


def finished() -> set[str]:
    """Return the jobs that have ended well, or were measured where a lease ended."""
    return {row["job"] for row in _measure.read("gpu_queue") if row["status"] == "finished" or "accuracy" in row}


def _until(deadline: float, command: list[str], beat: Callable[[], None]) -> int:
    """Run one of our scripts; shortly before the deadline ask it to stop. Returns its status, 143 if stopped.

    In a group, not a session, of its own: where the machine's tool cuts the call it ends both.
    """
    environment = _measure.with_root() | {"BENCHMARK_RESULTS": str(WORK / "results")}
    child = subprocess.Popen([sys.executable, *command], cwd=_measure.ROOT, env=environment, process_group=0)
    while (left := deadline - _LAST - time.monotonic()) > 0:
        try:
            return child.wait(min(left, _BEAT))
        except subprocess.TimeoutExpired:
            try:
                beat()
            except Exception:  # what is brought home meanwhile must not cost the run
                traceback.print_exc()
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(child.pid, number)
        try:
            child.wait(_LAST)
            break
        except subprocess.TimeoutExpired:
            continue
    return 143


def _evaluate(workdir: Path, seconds: float) -> dict:
    """Return the accuracy of what is distilled so far, or nothing where the time is too short."""
    command = [sys.executable, "eval.py", f"--distilled={workdir}", "--baselines="]  # time is short
    try:
        done = subprocess.run(command, cwd=_measure.ROOT, stdout=subprocess.PIPE, text=True, timeout=max(1, seconds))
    except subprocess.TimeoutExpired:
        return {}
    if done.returncode:
        return {"status": f"evaluation failed {done.returncode}"}
    result = json.loads(done.stdout.splitlines()[-1])
    step = json.loads((workdir / "distilled" / "card.json").read_text())["step"]  # of the set, not of the run
    return {"eval_seconds": result.pop("seconds"), "step": step} | result


def _progress(workdir: Path) -> dict:
    """Return steps done, of how many, and the seconds they took in all calls."""
    from rcig import metrics

    lines = metrics.read(workdir) if (workdir / "metrics.jsonl").exists() else []
    if not lines:  # it still compiles
        return {}
    last = lines[-1]
    num_steps = json.loads((workdir / "config.json").read_text())["num_steps"]
    return {"step": last["step"], "num_steps": num_steps, "seconds": last["seconds"], "train_loss": last["loss"]}


def _tar(workdir: Path, path: Path) -> None:
    """Write the tar; where a file goes while it is read, the one of before stays."""
    new = WORK / path.name
    with contextlib.suppress(FileNotFoundError):
        with tarfile.open(new, "w") as archive:
            for found in sorted(found for name in _HOME for found in workdir.glob(name)):
                archive.add(found, str(found.relative_to(workdir)))
        shutil.move(new, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every job, and whether it is finished")
    commands.add_parser("next", help="the first job that is not finished")
    one = commands.add_parser("run", help="go on with a job, on the GPU machine; --config.FIELD=VALUE is passed on")
    one.add_argument("name", choices=QUEUE)
    one.add_argument("--seconds", type=float, default=540)
    one.add_argument("--evaluate", action="store_true", help="measure also what is not finished")
    commands.add_parser("collect", help="take what came back").add_argument("folder", type=Path)
    for verb in ("pack", "unpack"):
        each = commands.add_parser(verb, help="a data set, to be carried")
        each.add_argument("dataset")
        each.add_argument("folder", type=Path)
    flags, overrides = parser.parse_known_args()
    if flags.command in ("list", "next"):
        waiting = [name for name in QUEUE if name not in finished()]
        for name in QUEUE if flags.command == "list" else waiting[:1]:
            print(f"{name:<26} {'waiting ' if name in waiting else 'finished'}  {QUEUE[name].dataset}")
    elif flags.command == "run":
        run(flags.name, flags.seconds, flags.evaluate, overrides)
    elif flags.command == "collect":
        collect(flags.folder)
    else:
        import _carry

        from rcig import data
        from rcig.data.sources import default_data_dir

        getattr(_carry, flags.command)(flags.dataset, flags.folder, default_data_dir())
        data.load(flags.dataset)  # what it is whitened by is kept, too


if __name__ == "__main__":
    main()
