"""Kernel ridge regression on the set with an infinitely wide network's tangent kernel: how KIP's papers judge.

    python eval.py --distilled=runs/kip_mnist_ipc1 --protocol=kernel

    predictions = k(x_test, x_s) (k(x_s, x_s) + lambda I)^-1 y_s,   lambda relative to the mean diagonal

The labels are taken as they are. Nothing is random; ``--config.x64=True`` is how the references compute.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels import infinite, ridge
from rcig.errors import UserError, unknown
from rcig.evaluation.standard import Result, check_fits
from rcig.types import Array, Dataset, Key, Model, Synthetic


@dataclass(frozen=True)
class KernelRegression:
    """The options ``eval.*``."""

    kernel: str = "fully_connected"  # see kernels/infinite.py
    depth: int = 1
    ridge: float = 1e-6
    flip: bool = False  # of the other protocols
    test_chunk: int = 1000  # test examples at a time
    rows_at_once: int = 0  # of the kernel within a chunk; 0 chooses

    def __post_init__(self):
        check("eval", self.kernel, self.depth)
        if self.ridge <= 0 or self.test_chunk < 1 or self.flip:
            raise UserError(
                f"eval.ridge {self.ridge} and eval.test_chunk {self.test_chunk} must be positive, and eval.flip False"
            )


def check(section: str, kernel: str, depth: int) -> None:
    """Raise UserError for an unknown kernel, a depth that it does not have, or one whose package is missing."""
    if kernel not in infinite.KERNELS:
        raise unknown(f"{section}.kernel", kernel, infinite.KERNELS)
    if depth < 1 or (kernel.endswith("myrtle") and depth not in (5, 7, 10)):
        raise UserError(f"{section}.depth {depth} does not fit kernel {kernel!r}; choose 1 or more, of myrtle 5, 7, 10")
    try:
        infinite.KERNELS[kernel](depth)
    except ImportError as error:
        raise UserError(f"{section}.kernel {kernel!r}: {error}") from error


def warn_of_precision(section: str, options: Any, inputs: Array) -> None:
    """Warn, once a run, where 32-bit arithmetic is too coarse for the kernel matrix of a set, (M, ...), and its ridge.

    May be traced. In float64 nothing is computed.
    """
    if jnp.result_type(float) == jnp.float64:
        return

    def warn(condition):
        if not condition * jnp.finfo(jnp.float32).eps < 1:
            warnings.warn(
                f"the kernel matrix with {section}.ridge {options.ridge} has condition number {condition:.1e}, too "
                "much for float32; set --config.x64=True or a larger ridge",
                stacklevel=2,
            )

    k_ss = infinite.ntk(options.kernel, options.depth, inputs, inputs)
    jax.debug.callback(warn, ridge.condition(k_ss, options.ridge))


PRESETS: dict[str, dict[str, Any]] = {"kernel": {}}


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: KernelRegression) -> Result:
    """Classify the test split; ``key`` and ``model`` are not used. Returns one accuracy, hence std 0."""
    check_fits(synthetic, dataset)
    warn_of_precision("eval", protocol, synthetic.inputs)
    ntk = jax.jit(lambda a, b: infinite.ntk(protocol.kernel, protocol.depth, a, b, protocol.rows_at_once))
    k_ss = ntk(jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.inputs))
    strength, raised = ridge.raised(k_ss, protocol.ridge)
    alpha = ridge.solve(ridge.factor(k_ss, strength), jnp.asarray(synthetic.labels, k_ss.dtype))
    inputs, labels = dataset.test.inputs, np.asarray(dataset.test.labels)
    parts = (inputs[start : start + protocol.test_chunk] for start in range(0, len(labels), protocol.test_chunk))
    predict = lambda part: ridge.gram(ntk(jnp.asarray(part), jnp.asarray(synthetic.inputs)), alpha.T)
    predictions = [np.argmax(predict(part), 1) for part in parts]
    accuracy = np.mean(np.concatenate(predictions) == labels)
    return Result(np.array([accuracy]), details={"ridge_raised": float(raised)})


make = KernelRegression
