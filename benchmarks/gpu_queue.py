"""What waits for a GPU, in order, in pieces that fit a machine lent for minutes at a time.

Such a machine is bare, has no network, stops a command after 10 minutes, forgets its disk when it is given back (30
seconds without a command), takes 64 MiB a call and returns what lies under $OUT, 8 files of 16 MiB. A run's state (30
networks with two moments: 560 MB at width 128) is too big to bring home, so a run lives within one lease: its workdir
stays on the machine's disk, the next call goes on from it, and each call brings home the distilled set, metrics,
pictures and evaluation as one small tar. A run that a lease cuts short is evaluated where it stands (--evaluate).

At home, once (the wheels are what the GPU machine's Python 3.12 lacks; .carry is ignored by git and carried by name):
    python benchmarks/gpu_queue.py pack cifar10 .carry/data          # also mnist, fashion_mnist
    pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \\
        --platform manylinux2014_x86_64 -d .carry/wheels ml_collections grain array_record
There, every call starts with
    export W=/tmp/rcig PYTHONUNBUFFERED=1; export PYTHONPATH=$W/site TFDS_DATA_DIR=$W/tfds RCIG_CACHE=$W/cache
1 (carry .carry/wheels, .carry/data/cifar10.json, .carry/data/cifar10.0.bz2)
    mkdir -p $W/data; cp .carry/data/* $W/data; pip install -q --no-index --no-deps --target $W/site .carry/wheels/*.whl
2 (carry .carry/data/cifar10.1.bz2; within 30 s)
    cp .carry/data/* $W/data; python3 benchmarks/gpu_queue.py unpack cifar10 $W/data &&
    python3 benchmarks/gpu_queue.py run rcig_cifar10_ipc1 --seconds=480
3 (carry nothing), again until it says finished; in the last call of a lease add --evaluate
    python3 benchmarks/gpu_queue.py run rcig_cifar10_ipc1 --seconds=570
MNIST and Fashion-MNIST are one part each: call 1 does all. At home, after each call:
    python benchmarks/gpu_queue.py collect FOLDER_OF_RETURNED_FILES
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import _measure

WORK = Path(os.environ.get("W") or Path(tempfile.gettempdir()) / "rcig") / "runs"
OUT = Path(os.environ.get("OUT") or WORK / "out")
_LAST = 45  # seconds that a stopped run may take to finish its dispatch and save
_EVALUATION = 120  # seconds kept for --evaluate
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
    benchmark: str = ""  # its command line


QUEUE: dict[str, Job] = {
    "rcig_cifar10_ipc1": Job("cifar10"),
    "rcig_cifar10_ipc10": Job("cifar10"),
    "dm_cifar10_ipc10": Job("cifar10", "dm.py:cifar10_ipc10"),
    "dsa_cifar10_ipc10": Job("cifar10", "dsa.py:cifar10_ipc10"),
    "dc_cifar10_ipc1": Job("cifar10", "dc.py:cifar10_ipc1"),
    "dsa_cifar10_ipc1": Job("cifar10", "dsa.py:cifar10_ipc1"),
    "dm_cifar10_ipc1": Job("cifar10", "dm.py:cifar10_ipc1"),
    "dm_cifar10_ipc50": Job("cifar10", "dm.py:cifar10_ipc50"),
    "mtt_cifar10_ipc1": Job("cifar10", "mtt.py:cifar10_ipc1"),
    "frepo_cifar10_ipc1": Job("cifar10", "frepo.py:cifar10_ipc1"),
    "frepo_cifar10_ipc10": Job("cifar10", "frepo.py:cifar10_ipc10"),
    "dd_cifar10_fixed_100": Job("cifar10"),
    "sldd_cifar10_fixed_100": Job("cifar10"),
    "dd_mnist_random_100": Job("mnist"),
    "rat_cifar10_ipc10": Job("cifar10", "rat.py:cifar10_ipc10"),
    "rcig_mnist_ipc1": Job("mnist"),
    "rcig_mnist_ipc10": Job("mnist"),
    "rcig_fashion_mnist_ipc1": Job("fashion_mnist"),
    "rcig_fashion_mnist_ipc10": Job("fashion_mnist"),
    "dsa_mnist_ipc10": Job("mnist", "dsa.py:mnist_ipc10"),
    "dc_mnist_ipc1": Job("mnist", "dc.py:mnist_ipc1"),
    "frepo_mnist_ipc1": Job("mnist", "frepo.py:mnist_ipc1"),
    "lpld_mnist": Job("mnist"),
    "matching_step": Job(benchmark="matching_step.py"),
    "kernels": Job(benchmark="kernels.py"),
    "lpld": Job(benchmark="lpld.py"),
    "bptt_step": Job(benchmark="bptt_step.py"),
    "step_w128_b1024": Job(benchmark="rcig_step.py --case=width=128,batch=1024"),
    "step_w128_b256": Job(benchmark="rcig_step.py --case=width=128,batch=256"),
    "step_w32": Job(benchmark="rcig_step.py --case=width=32"),
    "convolution": Job(benchmark="conv2d.py"),
    "networks_together": Job(benchmark="networks_together.py"),
}


def run(name: str, seconds: float, evaluate: bool, overrides: list[str]) -> dict:
    """Go on with a job until it ends or ``seconds`` have passed; leave its line and its tar under $OUT."""
    deadline = time.monotonic() + seconds
    line = {"job": name, "status": "finished"}
    if QUEUE[name].benchmark:
        command = [
            f"benchmarks/{part}" if part.endswith(".py") else part for part in shlex.split(QUEUE[name].benchmark)
        ]
        status = _until(deadline, command, {"BENCHMARK_RESULTS": str(OUT)})
        return line | {"status": {0: "finished", 143: "stopped"}.get(status, f"failed {status}")}
    workdir = WORK / name
    command = [
        "distill_dataset.py",
        f"--config=configs/{QUEUE[name].config or f'{name}.py'}",
        f"--workdir={workdir}",
        *overrides,
    ]
    status = _until(deadline - _EVALUATION * evaluate, command)
    line |= {"status": {0: "distilled", 143: "stopped"}.get(status, f"failed {status}")} | _progress(workdir)
    if status == 0 or (evaluate and status == 143):
        began = time.monotonic()
        result = _evaluate(workdir, deadline - began)
        if result and status == 0:
            line["status"] = "finished"
        line |= result
    _tar(workdir, OUT / f"{name}.tar")
    return line


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
    """Return the jobs that have ended well."""
    return {row["job"] for row in _measure.read("gpu_queue") if row["status"] == "finished"}


def _until(deadline: float, command: list[str], environment: dict[str, str] | None = None) -> int:
    """Run one of our scripts; shortly before the deadline ask it to stop. Returns its status, 143 if stopped."""
    environment = _measure.with_root() | (environment or {})
    child = subprocess.Popen([sys.executable, *command], cwd=_measure.ROOT, env=environment, start_new_session=True)
    try:
        return child.wait(max(1, deadline - _LAST - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(_LAST)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return 143


def _evaluate(workdir: Path, seconds: float) -> dict:
    """Return the accuracy of what is distilled so far, or nothing where the time is too short."""
    command = [sys.executable, "eval.py", f"--distilled={workdir}"]
    try:
        done = subprocess.run(command, cwd=_measure.ROOT, stdout=subprocess.PIPE, text=True, timeout=max(1, seconds))
    except subprocess.TimeoutExpired:
        return {}
    if done.returncode:
        return {"status": f"evaluation failed {done.returncode}"}
    result = json.loads(done.stdout.splitlines()[-1])
    return {"eval_seconds": result.pop("seconds")} | result


def _progress(workdir: Path) -> dict:
    """Return steps done, of how many, and the seconds they took in all calls."""
    if not (workdir / "metrics.jsonl").exists():
        return {}
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    num_steps = json.loads((workdir / "config.json").read_text())["num_steps"]
    return {"step": last["step"], "num_steps": num_steps, "seconds": last["seconds"], "train_loss": last["loss"]}


def _tar(workdir: Path, path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for path in sorted(path for name in _HOME for path in workdir.glob(name)):
            archive.add(path, str(path.relative_to(workdir)))


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
        OUT.mkdir(parents=True, exist_ok=True)
        line = run(flags.name, flags.seconds, flags.evaluate, overrides) | _measure.where()
        with open(OUT / "gpu_queue.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line))
    elif flags.command == "collect":
        collect(flags.folder)
    else:
        import _carry

        from rcig.data.sources import default_data_dir

        getattr(_carry, flags.command)(flags.dataset, flags.folder, default_data_dir())


if __name__ == "__main__":
    main()
