"""What the two commands share: the process they run in, and how they end.

Exit status: 0 done; 2 for what the user can mend, with one ``error:`` line; 130 or 143 after Ctrl-C or SIGTERM; 1, with
a traceback, for a fault of ours.
"""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rcig.errors import UserError, unknown

ALLOCATOR = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592"
_PRECISIONS = ("default", "bfloat16", "tensorfloat32", "float32")


def usage_error(message: str) -> NoReturn:
    """What a command's argparse says of wrong flags: one line, like every other mistake."""
    raise UserError(f"{message}; --help shows examples")


def tune_allocator() -> None:
    """On a Linux CPU, start this process again with a glibc that keeps the memory it has (see benchmarks/allocator.py).

    XLA frees and allocates large buffers all the time; handing them back to the kernel costs page faults. Must come
    before jax is imported. Does nothing where GLIBC_TUNABLES is set already.
    """
    on_accelerator = Path("/dev/nvidia0").exists() or Path("/dev/accel0").exists()
    if sys.platform != "linux" or "GLIBC_TUNABLES" in os.environ or on_accelerator:
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


def main(command: Callable[[], None]) -> None:
    """Run a command and turn how it ends into the exit status."""
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        command()
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(
            "error: out of memory; lower method.batch_size, model.width or ipc, or set method.rows_at_once",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
