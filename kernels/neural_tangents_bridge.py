"""neural-tangents 0.6.5, a second backend for infinitely wide networks: any ``stax`` architecture, and an oracle.

    stax = load().stax
    network = stax.serial(stax.Dense(1, 2**0.5, 0.1), stax.Erf(), stax.Dense(1, 2**0.5, 0.1))
    ntk(network, x1, x2), nngp(network, x1, x2)        # (N1, N2) each
    ntk(convnet(3), x1, x2)                            # the architectures of kernels/infinite.py, made of stax

Novak et al., ICLR 2020. The package was archived in 2025 and by itself imports on jax < 0.6 only. The names that it
asks for and that jax has moved to `jax.extend` or dropped stand at their old places while it is being imported and not
a moment longer; its ``experimental`` part, all that needs TensorFlow, is left out.
"""

import functools
import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import jax
import jax.core
import jax.extend.core
import jax.interpreters.ad

from kernels.blocks import BLOCK, map_rows

Network = tuple[Callable, Callable, Callable]  # stax's init, apply, kernel

VERSION = "0.6.5"
INSTALL = f"pip install --no-deps neural-tangents=={VERSION} frozendict"  # with what it asks for: TensorFlow, unused
_MOVED = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")  # from jax.core to jax.extend.core


def ntk(network: Network, x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the tangent kernel (N1, N2) of a stax network."""
    with warnings.catch_warnings(action="ignore"):  # of names that jax means to drop next
        return network[2](x1, x2, "ntk")


def nngp(network: Network, x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the NNGP kernel (N1, N2) of a stax network."""
    with warnings.catch_warnings(action="ignore"):
        return network[2](x1, x2, "nngp")


def fully_connected(depth: int = 1, w_std: float = 2**0.5, b_std: float = 0.1) -> Network:
    """Return ``depth`` hidden ReLU layers; images are flattened. stax's widths are 1: only the kernels count."""
    stax = load().stax
    dense = stax.Dense(1, w_std, b_std)
    return stax.serial(stax.Flatten(), *depth * (dense, stax.Relu()), dense)


def convnet(depth: int = 3, first: bool = True, w_std: float = 2**0.5, b_std: float = 0.1) -> Network:
    """Return KIP's ConvNet, or (not ``first``) ConvNet3."""
    stax = load().stax
    step = _convolution(stax, w_std, b_std)
    blocks = depth * (*step, stax.AvgPool((2, 2), (2, 2)))
    return stax.serial(*(step if first else ()), *blocks, stax.Flatten(), stax.Dense(1, w_std, b_std))


def myrtle(depth: int = 5, w_std: float = 2**0.5, b_std: float = 0.1) -> Network:
    """Return Myrtle-5, -7 or -10."""
    stax = load().stax
    step, pool = _convolution(stax, w_std, b_std), stax.AvgPool((2, 2), (2, 2))
    blocks = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}[depth]
    layers = [layer for n in blocks for layer in (*n * step, pool)]
    return stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1, w_std, b_std))


def _convolution(stax: ModuleType, w_std: float, b_std: float) -> tuple[Network, Network]:
    return stax.Conv(1, (3, 3), padding="SAME", W_std=w_std, b_std=b_std), stax.Relu()


class Blocks(NamedTuple):
    """A stax network, to be named beside those of kernels/infinite.py."""

    network: Network
    flat: bool = False  # what it is given becomes vectors at once; images cost a covariance of every pair of pixels

    def ntk(self, x1: jax.Array, x2: jax.Array, rows: int = 0) -> jax.Array:
        """Return the tangent kernel (N1, N2), ``rows`` rows of x1 at a time (0 chooses)."""
        pixels = 1 if self.flat else x1[0, ..., 0].size
        rows = min(len(x1), rows or max(1, BLOCK // (len(x2) * pixels**2)))
        return map_rows(jax.checkpoint(lambda a: ntk(self.network, a, x2)), x1, rows)


@functools.cache
def load() -> ModuleType:
    """Import and return ``neural_tangents``. Raises ImportError, with the remedy, where that cannot be."""
    try:
        found = importlib.metadata.version("neural-tangents")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"neural-tangents is not installed; {INSTALL}") from None
    if found != VERSION:
        raise ImportError(f"neural-tangents is of version {found}, this needs {VERSION}; {INSTALL}")
    try:
        with _as_it_was(), warnings.catch_warnings(action="ignore"):
            return importlib.import_module("neural_tangents")
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"neural-tangents {VERSION} does not import with jax {jax.__version__} ({error}); "
            "take a native kernel (kernels/infinite.py) or an older jax"
        ) from error


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Put the names of an older jax in their places, and take them away again."""
    ad = jax.interpreters.ad
    added = [(jax.core, name, getattr(jax.extend.core, name)) for name in _MOVED if not hasattr(jax.core, name)]
    if not hasattr(ad, "zeros_like_p"):
        added.append((ad, "zeros_like_p", jax.extend.core.Primitive("zeros_like")))  # a key of its tables, never met
    stand_ins = {name: ModuleType(name) for name in ("jax.util", "neural_tangents.experimental")}
    stand_ins["jax.util"].safe_zip = lambda *args: list(zip(*args, strict=True))
    stand_ins["jax.util"].safe_map = lambda fn, *args: [fn(*group) for group in zip(*args, strict=True)]
    try:
        for module, name, value in added:
            setattr(module, name, value)
        sys.modules.update(stand_ins)
        yield
    finally:
        for module, name, _ in added:
            delattr(module, name)
        for name in stand_ins:
            sys.modules.pop(name, None)
