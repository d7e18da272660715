"""RFAD: random feature approximation for dataset distillation (Loo, Hasani, Amini & Rus, NeurIPS 2022).

KIP with the NNGP kernel of an infinitely wide network in place of its tangent kernel, and that estimated by features
Phi (F of them) of R random networks, drawn afresh every step:

    k = w^2 / (R F) sum_r Phi_r Phi_r^T + b^2,    weights w N(0, 1) / sqrt(fan_in), biases b N(0, 1);   w^2 = 2, b = 0.1
    P = k_ts (k_ss + lambda I)^-1 Y_s,            lambda relative to the mean diagonal
    loss = mean CE(softmax(e^log_temperature P), y_t)      ("Platt"), or  mean (P - y_t)^2 / 2

AdaBelief on images, labels, temperature and a matrix through which all images go; the images that have gone through it
are the result. Nothing is trained; the real examples' features need no derivative. In float64 where jax's 64-bit mode
is on, as published.

Deviations: one real batch a step, of the size of the reference's four together; no early stopping on a validation
split, ``config.num_steps`` says when to stop; where the Gram matrix is indefinite the ridge is raised, and
``ridge_raised`` says by how much.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from kernels import ridge
from methods._problems import learned
from rcig import losses, sharding
from rcig.chunks import map_features
from rcig.data import sampling
from rcig.errors import UserError, must_be_positive, unknown
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic, Variables

W_STD, B_STD = 2**0.5, 0.1


class Psi(NamedTuple):
    """What RFAD learns; d numbers an example."""

    inputs: jax.Array  # (M, ...)
    labels: jax.Array  # (M, K)
    log_temperature: jax.Array  # ()
    transform: jax.Array | None  # (d, d), which multiplies flat examples from the right; None: nothing does


@struct.dataclass
class State:
    """What is learned, and its optimiser."""

    psi: Psi
    opt_state: PyTree


@dataclass(frozen=True)
class RFAD:
    """The method's hyperparameters; defaults are the published ones."""

    model: Model  # published: dc_convnet of width 256, without norm
    num_networks: int = 8  # drawn each step
    ridge: float = 5e-3  # relative to the mean diagonal
    loss: str = "platt"  # or "mse"
    learn_labels: bool = True
    batch_size: int = 5120  # real examples a step
    learning_rate: float = 1e-3  # of images and labels
    temperature_learning_rate: float = 1e-2
    transform_learning_rate: float = 5e-5  # 0: examples stay as they are learned
    rows_at_once: int = 0  # of every network pass; 0 chooses by platform

    def __post_init__(self):
        if self.loss not in losses.REGRESSION:
            raise unknown("method.loss", self.loss, losses.REGRESSION)
        must_be_positive("method", self, "ridge", "learning_rate", "batch_size", "num_networks")

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the set as it is, the identity, and an idle optimiser."""
        inputs, labels = jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.labels)
        identity = jnp.eye(inputs[0].size, dtype=inputs.dtype) if self.transform_learning_rate else None
        psi = Psi(inputs, labels, jnp.zeros((), inputs.dtype), identity)
        return State(psi, self._optimizer().init(psi))

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return a uniform batch of rows."""
        return sampling.iid(key, len(labels), self.batch_size)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one outer step."""
        value = jax.value_and_grad(self.outer_loss, has_aux=True)(state.psi, key, batch)
        (loss, metrics), gradient = sharding.mean(value)
        gradient = learned(gradient, self.learn_labels)
        updates, opt_state = self._optimizer().update(gradient, state.opt_state, state.psi)
        psi = optax.apply_updates(state.psi, updates)
        metrics |= {"loss": loss, "temperature": jnp.exp(psi.log_temperature)}
        return State(psi, opt_state), metrics

    def outer_loss(self, psi: Psi, key: Key, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the loss on one real batch at the networks of ``key``; the accuracy, and how the ridge was raised."""
        k_ss, k_ts = self.kernels(key, transformed(psi), batch.inputs)
        predictions, raised = ridge.predict_raised(k_ss, k_ts, psi.labels.astype(k_ss.dtype), self.ridge)
        if self.loss == "platt":
            loss = losses.platt(psi.log_temperature, predictions, batch.labels)
        else:
            loss = losses.mse(predictions, losses.centred_targets(batch.labels, psi.labels.shape[1]))
        return loss, {"accuracy": losses.accuracy(predictions, batch.labels), "ridge_raised": raised}

    def kernels(self, key: Key, inputs: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the kernel of the set with itself (M, M) and of real examples with the set (B, M)."""
        precision = jnp.result_type(float)

        def grams(key):
            variables = draw(key, self.model)
            features_s, features_t = (
                map_features(self.model, variables, x, self.rows_at_once).astype(precision) for x in (inputs, real)
            )
            return tuple(ridge.gram(phi, features_s) / features_s.shape[1] for phi in (features_s, features_t))

        each = jax.lax.map(grams, jax.random.split(key, self.num_networks))  # (R, ...)
        k_ss, k_ts = (W_STD**2 * jnp.mean(k, 0) + B_STD**2 for k in each)
        return k_ss, k_ts

    def synthetic(self, state: State) -> Synthetic:
        """Return the images as they have gone through the matrix, and the labels."""
        return Synthetic(transformed(state.psi), state.psi.labels)

    def _optimizer(self) -> optax.GradientTransformation:
        rate = self.learning_rate
        rates = Psi(rate, rate, self.temperature_learning_rate, self.transform_learning_rate or None)
        rules = {rate: optax.adabelief(rate, eps=1e-16, eps_root=1e-16) for rate in jax.tree.leaves(rates)}
        return optax.partition(rules, rates)


def transformed(psi: Psi) -> jax.Array:
    """Return the examples after the matrix, (M, ...)."""
    if psi.transform is None:
        return psi.inputs
    flat = psi.inputs.reshape(len(psi.inputs), -1)  # (M, d)
    return jnp.matmul(flat, psi.transform, precision=ridge.HIGHEST).reshape(psi.inputs.shape)


def draw(key: Key, model: Model) -> Variables:
    """Return a random network: kernels W_STD N(0, 1) / sqrt(fan_in), biases B_STD N(0, 1), whatever ``init`` draws.

    Raises: UserError for a network with other parameters, such as a norm's.
    """
    params = jax.eval_shape(model.init, key)["params"]
    keys = iter(jax.random.split(key, len(jax.tree.leaves(params))))

    def leaf(path, like):
        name, fan_in = path[-1].key, like.size // like.shape[-1]
        scale = {"kernel": W_STD / fan_in**0.5, "bias": B_STD}
        if name not in scale:
            raise UserError(f"method rfad wants a network of kernels and biases, not {name!r}; set model.norm to none")
        return scale[name] * jax.random.normal(next(keys), like.shape, like.dtype)

    return {"params": jax.tree_util.tree_map_with_path(leaf, params)}


make = RFAD
