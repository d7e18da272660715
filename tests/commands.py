"""How the tests call the two commands: as processes, or within this one, which is much faster."""

import atexit
import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
from jax.experimental.compilation_cache import compilation_cache

import methods
from rcig import command

ROOT = Path(__file__).parent.parent
CACHE = Path(tempfile.mkdtemp(prefix="rcig-test-cache-"))  # programs are compiled once for all tests of a session
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
_EVAL = ("--config.eval.num_networks=2", "--config.eval.num_steps=20", "--config.model.width=8")
_OFTEN = ("--config=quickstart", "--config.steps_per_dispatch=5", "--config.checkpoint_every=10", *_EVAL)
RCIG = (*_OFTEN, "--config.method.pool_size=2", "--config.method.batch_size=64")  # real, small; compiles for seconds
PULL = (
    *_OFTEN,
    "--config.method.name=pull",
    "--config.num_steps=20",
)  # tests/plugins/pull.py; within this process only


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def start(name: str, *flags: object) -> subprocess.Popen:
    """Start a command as a process, somewhere else than in the checkout."""
    environment = os.environ | {"RCIG_CACHE": str(CACHE), "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    arguments = [sys.executable, str(ROOT / f"{name}.py"), *map(str, flags)]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, env=environment, cwd=CACHE, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen) -> Ended:
    """Wait for a process."""
    out, err = process.communicate(timeout=300)
    return Ended(process.returncode, out, err)


def run(name: str, *flags: object) -> Ended:
    """Run a command as a process."""
    return finish(start(name, *flags))


def call(name: str, *flags: object) -> Ended:
    """Run a command within this process: its arguments, its output and its settings are its own."""
    out, err = io.StringIO(), io.StringIO()
    environment = {"RCIG_CACHE": str(CACHE), "GLIBC_TUNABLES": "as they are"}  # unset, it would start itself again
    with (
        mock.patch.object(sys, "argv", [f"{name}.py", *map(str, flags)]),
        mock.patch.dict(os.environ, environment),
        mock.patch.object(methods, "__path__", [*methods.__path__, str(ROOT / "tests/plugins")]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _own_settings(),
    ):
        try:
            command.main(importlib.import_module(name).main)
            status = 0
        except SystemExit as stop:
            status = stop.code
    return Ended(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_compilation_cache_dir")
    before = {name: getattr(jax.config, name) for name in names}
    compilation_cache.reset_cache()
    say = lambda message, category, *place: sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))
    with (
        warnings.catch_warnings(),
        mock.patch.object(warnings, "formatwarning"),
        mock.patch.object(warnings, "showwarning", say),
    ):
        warnings.simplefilter("default", UserWarning)  # as outside of tests: said, neither raised nor recorded
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
