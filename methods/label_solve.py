"""Label solve: the best labels of given images for kernel regression, in closed form (Nguyen, Chen & Lee, ICLR 2021).

    y_s = argmin |A y_s - y_t|^2 = A^+ y_t,     A = k_ts (k_ss + lambda I)^-1,     k the neural tangent kernel

One step on a large batch is all; the images stay. ``num_steps=1``. Where a matrix is indefinite in its precision its
ridge is raised, and the metrics ``ridge_raised`` and (for A^T A, from 1e-10) ``gram_ridge_raised`` say how often it was
multiplied.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kernels import infinite, ridge
from rcig import losses, sharding
from rcig.data import sampling
from rcig.errors import must_be_positive
from rcig.evaluation.kernel import check as check_kernel
from rcig.evaluation.kernel import check_set
from rcig.types import Batch, Key, Metrics, Model, Synthetic


@dataclass(frozen=True)
class LabelSolve:
    """The method's hyperparameters."""

    model: Model
    kernel: str = "fully_connected"  # see kernels/infinite.py
    depth: int = 1  # KIP's convnet has 3
    ridge: float = 1e-6  # relative to the mean diagonal
    batch_size: int = 10000  # real examples
    rows_at_once: int = 0  # of their kernel; 0 chooses

    def __post_init__(self):
        check_kernel("method", self.kernel, self.depth)
        must_be_positive("method", self, "ridge", "batch_size")

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> Synthetic:
        """Return the support with its starting labels: the state is the set."""
        check_set("method", self, synthetic.inputs)
        return Synthetic(jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.labels))

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return a uniform batch of rows."""
        return sampling.iid(key, len(labels), self.batch_size)

    def step(self, key: Key, state: Synthetic, batch: Batch) -> tuple[Synthetic, Metrics]:
        """Solve for the labels: normal equations ``(A^T A) y_s = A^T y_t``, summed over devices."""
        k_ss = infinite.ntk(self.kernel, self.depth, state.inputs, state.inputs)
        k_ts = infinite.ntk(self.kernel, self.depth, batch.inputs, state.inputs, self.rows_at_once)
        strength, raised = ridge.raised(k_ss, self.ridge)
        a = ridge.solve(ridge.factor(k_ss, strength), k_ts.T).T  # (B, M)
        targets = losses.centred_targets(batch.labels, state.labels.shape[1]).astype(a.dtype)
        gram, moment = sharding.mean((ridge.gram(a.T, a.T) / len(a), ridge.gram(a.T, targets.T) / len(a)))
        strength, raised_again = ridge.raised(gram, 1e-10)
        labels = ridge.solve(ridge.factor(gram, strength), moment)
        predictions = ridge.gram(a, labels.T)
        loss = sharding.mean(losses.mse(predictions, targets))
        accuracy = sharding.mean(losses.accuracy(predictions, batch.labels))
        metrics = {"loss": loss, "accuracy": accuracy, "ridge_raised": raised, "gram_ridge_raised": raised_again}
        return state._replace(labels=labels.astype(state.labels.dtype)), metrics

    def synthetic(self, state: Synthetic) -> Synthetic:
        """Return the images with their labels."""
        return state


make = LabelSolve
