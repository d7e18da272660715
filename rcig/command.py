"""What the commands share: the process they run in, and how they end.

Exit status: 0 done; 2 for what the user can mend, with one ``error:`` line; 130 or 143 after Ctrl-C or SIGTERM; 1, with
a traceback, for a fault of ours.
"""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rcig.errors import UserError, unknown
from rcig.files import is_text, local_path

if TYPE_CHECKING:  # what imports jax comes after `tune_allocator`
    from ml_collections import ConfigDict

    from rcig.card import Distilled
    from rcig.types import Dataset

ALLOCATOR = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1"
_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")  # as XLA says it
_PRECISIONS = ("default", "bfloat16", "tensorfloat32", "float32")


def parser(description: str, examples: str = "", prog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of flags that ends with ``examples`` and says of wrong ones what every other mistake says."""
    return _Parser(
        prog=prog,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help shows examples")


def place(text: str) -> Path:
    """Return the path that a flag names; its ~ is the home folder, it is not empty and no URL."""
    try:
        path = local_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if text.startswith("~") and str(path).startswith("~"):
        raise argparse.ArgumentTypeError(
            f"{text}: there is no user {path.parts[0][1:]}; write ./{text} for such a name"
        )
    if not text or not is_text(text) or any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise argparse.ArgumentTypeError(
            "a path must not be empty, nor other than UTF-8, nor a name in it longer than 255 bytes"
        )
    return path


def wants_allocator() -> bool:
    """Return whether this is a Linux machine that will compute on its CPU."""
    return sys.platform == "linux" and not any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/accel0"))


def tune_allocator() -> None:
    """On a Linux CPU, start this process again with a glibc that keeps the memory it has, in pages of 2 MiB.

    XLA frees and allocates large buffers all the time; handing them back to the kernel costs page faults, and wide
    networks touch more pages of 4 KiB than the processor remembers (see benchmarks/allocator.py; a whole step of RCIG
    is 10 to 18 % faster by the large pages alone). Must come before jax is imported. Does nothing where GLIBC_TUNABLES
    is set already.
    """
    if "GLIBC_TUNABLES" in os.environ or not wants_allocator():
        return
    os.environ["GLIBC_TUNABLES"] = ALLOCATOR
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def set_up_jax(precision: str, x64: bool) -> None:
    """Configure jax: number formats, and the compilation cache that makes a second start fast."""
    import jax

    from rcig.data.cache import default_folder

    if precision not in _PRECISIONS:
        raise unknown("config.precision", precision, _PRECISIONS)
    jax.config.update("jax_default_matmul_precision", None if precision == "default" else precision)
    jax.config.update("jax_enable_x64", x64)
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(default_folder() / "jax"))


def one_device_a_core() -> None:
    """Give jax a CPU device for every core: they share a batch, or networks trained side by side (see `sharding`).

    XLA alone uses the cores within one operation at a time, which is slower: 1.9 times for DM, 1.5 for DSA on 2 cores.
    LAPACK, which jax calls in scipy's library, then has one thread: more would spin on cores that are taken (RCIG with
    ten images per class, width 32: 1.5 times slower). Must come before the first use of a device. Does nothing where
    the number of CPU devices is set already.
    """
    import jax

    told = jax.config.jax_num_cpu_devices > 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not told:
        import scipy.linalg  # noqa: F401, the library that is to be limited
        from joblib import cpu_count  # knows of taskset and of containers
        from threadpoolctl import threadpool_limits

        jax.config.update("jax_num_cpu_devices", cpu_count())
        threadpool_limits(1, "blas")


def open_set(
    path: Path, form: str, config: str, overrides: Sequence[str]
) -> tuple["Distilled", "ConfigDict", "Dataset"]:
    """Read a distilled set, ours or in the format ``form``, with its config and data set; jax is set up for them.

    The format of a .npz or .safetensors file need not be said. The config is the one named, else the set's own, else
    the default; ``overrides`` change it.
    """
    from rcig import artefact, experiment, formats
    from rcig import config as configs

    one_device_a_core()
    if not form and path.suffix[1:] in formats.FORMATS and path.is_file():
        form = path.suffix[1:]
    content = formats.parse(path, form) if form else None
    distilled = formats.own(content) if content else artefact.load(path)
    if config or distilled is None:
        resolved = configs.load(config or "default", overrides)
    else:
        resolved = configs.from_dict(distilled.card["config"], overrides)
    set_up_jax(resolved.precision, resolved.x64)
    dataset = experiment.load_dataset(resolved)
    if distilled is None:
        fields = {key: value for key, value in resolved.to_dict().items() if key != "num_steps"}  # not of its making
        about = {"config": fields | {"data_dir": ""}, "dataset": resolved.dataset, "class_names": dataset.class_names}
        if form in formats.PIXELS:  # the data set brings them into its space
            about |= {"preprocessing": dataset.preprocessing, "pixel_space": dataset.preprocessing["kind"]}
        told = about if config or overrides else {}
        distilled = formats.adopt(content, dataset.num_classes, dataset.encode, told)
    return distilled, resolved, dataset


def main(command: Callable[[], None]) -> None:
    """Run a command and turn how it ends into the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without ± shows ?
            stream.reconfigure(errors="replace")
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        command()
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        if error.filename is None:
            raise
        print(f"error: no right to use {error.filename}; grant it, or choose another place", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise
        print(
            "error: out of memory; lower method.batch_size, model.width, ipc or data.resolution, or set "
            "method.rows_at_once (rcig: also method.solve_rows; lpld: method.groups_at_once)",
            file=sys.stderr,
        )
        sys.exit(2)
    except BrokenPipeError:  # who reads what we print has gone: `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor shall Python complain at its end
        sys.exit(141)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
