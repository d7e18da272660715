"""Kernel ridge regression on the set with an infinitely wide network's tangent kernel: how KIP's papers judge.

    python eval.py --distilled=runs/kip_mnist_ipc1 --protocol=kernel

    predictions = k(x_test, x_s) (k(x_s, x_s) + lambda I)^-1 y_s,   lambda relative to the mean diagonal

The labels are taken as they are. Nothing is random; ``--config.x64=True`` is how the references compute.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels import infinite, ridge
from rcig.errors import UserError, unknown
from rcig.evaluation.standard import Result, check_fits
from rcig.types import Dataset, Key, Model, Synthetic


@dataclass(frozen=True)
class KernelRegression:
    """The options ``eval.*``."""

    kernel: str = "fully_connected"  # see kernels/infinite.py
    depth: int = 1
    ridge: float = 1e-6
    flip: bool = False  # of the other protocols
    test_chunk: int = 1000  # test examples at a time
    rows_at_once: int = 0  # of the kernel within a chunk; 0: all

    def __post_init__(self):
        check("eval", self.kernel, self.depth)
        if self.ridge <= 0 or self.test_chunk < 1 or self.flip:
            raise UserError(
                f"eval.ridge {self.ridge} and eval.test_chunk {self.test_chunk} must be positive, and eval.flip False"
            )


def check(section: str, kernel: str, depth: int) -> None:
    """Raise UserError for an unknown kernel or a depth that it does not have."""
    if kernel not in infinite.KERNELS:
        raise unknown(f"{section}.kernel", kernel, infinite.KERNELS)
    if depth < 1 or (kernel == "myrtle" and depth not in (5, 7, 10)):
        raise UserError(f"{section}.depth {depth} does not fit kernel {kernel!r}; choose 1 or more, of myrtle 5, 7, 10")


PRESETS: dict[str, dict[str, Any]] = {"kernel": {}}


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: KernelRegression) -> Result:
    """Classify the test split; ``key`` and ``model`` are not used. Returns one accuracy, hence std 0."""
    check_fits(synthetic, dataset)
    ntk = jax.jit(lambda a, b: infinite.ntk(protocol.kernel, protocol.depth, a, b, protocol.rows_at_once))
    k_ss = ntk(jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.inputs))
    factor = ridge.factor(k_ss, ridge.relative(protocol.ridge, k_ss))
    alpha = ridge.solve(factor, jnp.asarray(synthetic.labels, k_ss.dtype))
    inputs, labels = dataset.test.inputs, np.asarray(dataset.test.labels)
    parts = (inputs[start : start + protocol.test_chunk] for start in range(0, len(labels), protocol.test_chunk))
    predictions = [np.argmax(ntk(jnp.asarray(part), jnp.asarray(synthetic.inputs)) @ alpha, 1) for part in parts]
    return Result(np.array([np.mean(np.concatenate(predictions) == labels)]))


make = KernelRegression
