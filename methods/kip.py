"""KIP: kernel inducing points (Nguyen, Chen & Lee, ICLR 2021; Nguyen et al., NeurIPS 2021).

One step, with k the neural tangent kernel of an infinitely wide network and lambda relative to the mean diagonal:

    loss = mean (k_ts (k_ss + lambda I)^-1 y_s - y_t)^2 / 2 over a real batch;   Adam on x_s and, where learned, y_s

No network is trained or drawn. Where the kernel matrix is indefinite in its precision the ridge is raised, and
``ridge_raised`` says by how much.
Deviation: augmentation of the real batch is not offered.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import struct

from kernels import infinite, ridge
from methods import _matching
from methods._problems import learned
from rcig import losses, sharding
from rcig.errors import must_be_positive
from rcig.evaluation.kernel import check as check_kernel
from rcig.evaluation.kernel import check_set
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic


@struct.dataclass
class State:
    """What is learned, and its optimiser."""

    psi: Synthetic
    opt_state: PyTree


@dataclass(frozen=True)
class KIP:
    """The method's hyperparameters; defaults are those of the published notebook."""

    model: Model  # says how many classes there are
    kernel: str = "fully_connected"  # see kernels/infinite.py
    depth: int = 1  # KIP's convnet has 3
    ridge: float = 1e-6  # relative to the mean diagonal
    learning_rate: float = 0.04
    batch_size: int = 500  # real examples of each class a step; published: 5000 in all, of a hundred classes 50
    learn_labels: bool = False
    rows_at_once: int = 0  # of the kernel of the real batch; 0 chooses

    def __post_init__(self):
        check_kernel("method", self.kernel, self.depth)
        must_be_positive("method", self, "ridge", "learning_rate", "batch_size")

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the support as it is, with an idle optimiser."""
        psi = Synthetic(jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.labels))
        check_set("method", self, psi.inputs)
        return State(psi, self._optimizer().init(psi))

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return ``batch_size`` rows of every class."""
        return _matching.rows(key, labels, self.model, self.batch_size)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one step."""
        value = jax.value_and_grad(self.loss, has_aux=True)(state.psi, batch)
        (loss, metrics), gradient = sharding.mean(value)
        gradient = learned(gradient, self.learn_labels)
        updates, opt_state = self._optimizer().update(gradient, state.opt_state, state.psi)
        return State(optax.apply_updates(state.psi, updates), opt_state), {"loss": loss} | metrics

    def loss(self, psi: Synthetic, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the loss on a real batch; the accuracy, and by how much the ridge was multiplied."""
        k_ss = infinite.ntk(self.kernel, self.depth, psi.inputs, psi.inputs)
        k_ts = infinite.ntk(self.kernel, self.depth, batch.inputs, psi.inputs, self.rows_at_once)
        predictions, raised = ridge.predict_raised(k_ss, k_ts, psi.labels.astype(k_ss.dtype), self.ridge)
        targets = losses.centred_targets(batch.labels, psi.labels.shape[1])
        loss = losses.mse(predictions, targets)
        return loss, {"accuracy": losses.accuracy(predictions, batch.labels), "ridge_raised": raised}

    def synthetic(self, state: State) -> Synthetic:
        """Return the support."""
        return state.psi

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


make = KIP
