"""FRePo: neural feature regression with pooling (Zhou, Nezhadarya & Ba, NeurIPS 2022).

One outer step, at a network theta from a pool whose networks are trained on the synthetic set only:
  1 kernel ridge regression on theta's features Phi, with lambda relative to the mean diagonal, against centred labels:

    loss = mean_i |Phi_t,i Phi_s^T (Phi_s Phi_s^T + lambda I)^-1 Y_s - y_t,i|^2 / 2 - mean_j min(label margin_j, 1 / K)

  2 its gradient through the features of the synthetic set at fixed theta: LAMB on images and labels; with ``loss``
    "platt" the error is RFAD's, mean CE(softmax(e^log_temperature prediction), y_t), the temperature under Adam;
  3 one Adam step of theta on the new synthetic set, without flips; a network that has grown old is replaced instead.

No inner loop is differentiated: the last layer is exact, the body is truncated to zero steps. Labels are meant to start
from centred one-hot ones over sqrt(K / 10) (``config.labels.scale``). In float64 where jax's 64-bit mode is on.

Deviations: where the Gram matrix is indefinite in its precision the ridge is raised and ``ridge_raised`` says by how
much (the reference gets NaN); a pool step's error is a mean over classes, not a sum, to which Adam is blind; a network
too old takes one last step, unseen, before it is replaced; devices share one pool.
"""

import warnings
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import struct

from kernels import ridge
from methods._problems import Psi, learned, support
from rcig import losses, pool, sharding
from rcig.chunks import map_features
from rcig.data import sampling
from rcig.errors import must_be_positive, unknown
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic, Variables


@struct.dataclass
class State:
    """Everything that changes. P networks in the pool."""

    psi: Psi
    opt_state: PyTree
    pool: pool.Member  # leaves (P, ...)


@dataclass(frozen=True)
class FRePo:
    """The method's hyperparameters; defaults are the published ones."""

    model: Model  # published: with batch norm, which the judge goes without
    ridge: float = 1e-6  # relative to the mean diagonal
    flip: bool = False  # the regression sees mirror images too; published: for small colour sets
    loss: str = "mse"  # or "platt": cross-entropy at a learned temperature, as in RFAD and RCIG
    learn_labels: bool = True
    batch_size: int = 1024  # real examples a step
    learning_rate: float = 3e-4  # LAMB's: the share of its norm by which a leaf moves in a step
    temperature_learning_rate: float = 3e-3  # Adam's
    decay_steps: int = 500000  # the rates fall to a tenth by a half cosine in so many steps; 0: constant
    pool_size: int = 10
    pool_learning_rate: float = 3e-4
    pool_max_age: int = 100  # an older network is replaced at its next visit
    pool_rows: int = 1000  # synthetic examples in a pool step, drawn where there are more; 0 is all
    rows_at_once: int = 0  # of every network pass without gradient to parameters; 0 chooses by platform

    def __post_init__(self):
        if self.loss not in losses.REGRESSION:
            raise unknown("method.loss", self.loss, losses.REGRESSION)
        must_be_positive("method", self, "ridge", "learning_rate", "batch_size", "pool_size", "pool_max_age")

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the state at step 0: the networks are fresh, but their ages are spread evenly."""
        inputs, labels = jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.labels)
        psi = Psi(inputs, labels, jnp.zeros((), inputs.dtype))
        self._warn_of_precision(inputs)
        networks = pool.create(key, self.model.init, self._pool_optimizer(), self.pool_size)
        ages = jnp.arange(self.pool_size, dtype=jnp.int32) * self.pool_max_age // self.pool_size
        return State(psi, self._optimizer().init(psi), networks._replace(age=ages))

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return a uniform batch of rows."""
        return sampling.iid(key, len(labels), self.batch_size)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one outer step."""
        key_draw, key_train, key_renew = jax.random.split(key, 3)
        index = jax.random.randint(key_draw, (), 0, self.pool_size)
        member = pool.take(state.pool, index)

        value = jax.value_and_grad(self.outer_loss, has_aux=True)(state.psi, member.variables, batch)
        (loss, metrics), gradient = sharding.mean(value)
        gradient = learned(gradient, self.learn_labels)
        updates, opt_state = self._optimizer().update(gradient, state.opt_state, state.psi)
        psi = optax.apply_updates(state.psi, updates)
        if self.loss == "platt":
            psi = _rescaled(psi, state.psi)

        plain = pool.learning(self.model, losses.mse, psi.inputs, psi.labels, self.pool_rows)
        member = pool.train(key_train, member, plain, self._pool_optimizer(), 1)
        last = self.pool_max_age + 2  # a network older than pool_max_age has taken a step too many just now
        member = pool.renew(key_renew, member, self.model.init, self._pool_optimizer(), last)
        return State(psi, opt_state, pool.put(state.pool, index, member)), {"loss": loss} | metrics

    def outer_loss(self, psi: Psi, variables: Variables, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the loss at one network on one real batch; the accuracy, and by how much the ridge was multiplied."""
        inputs, targets = support(psi, self.flip)
        precision = jnp.result_type(float)
        features_s, features_t = (
            map_features(self.model, variables, x, self.rows_at_once).astype(precision) for x in (inputs, batch.inputs)
        )
        k_ss, k_ts = ridge.gram(features_s, features_s), ridge.gram(features_t, features_s)
        predictions, raised = ridge.predict_raised(k_ss, k_ts, targets.astype(precision), self.ridge)
        num_classes = targets.shape[1]
        if self.loss == "platt":
            error = losses.platt(psi.log_temperature, predictions, batch.labels)
        else:
            error = num_classes * losses.mse(predictions, losses.centred_targets(batch.labels, num_classes))
        loss = error - losses.label_margin(psi.labels, 1 / num_classes)
        metrics = {"accuracy": losses.accuracy(predictions, batch.labels), "ridge_raised": raised}
        return loss, metrics | {"temperature": jnp.exp(psi.log_temperature)}

    def synthetic(self, state: State) -> Synthetic:
        """Return the set as it is: no average."""
        return Synthetic(state.psi.inputs, state.psi.labels)

    def _warn_of_precision(self, inputs: jax.Array) -> None:
        """Warn, once, of more rows than features: the ridge alone makes the Gram matrix definite, by less than float32.

        Measured with 500 rows of 256 features: the gradient's cosine with that of float64 is 0.4.
        """
        if jnp.result_type(float) == jnp.float64:
            return
        variables = jax.eval_shape(self.model.init, jax.random.key(0))
        features = lambda variables: self.model.apply(variables, inputs, False, None)[0].features
        rows, dim = len(inputs) * (2 if self.flip else 1), jax.eval_shape(features, variables).shape[1]
        if rows > dim:
            told = f"{rows} rows, mirrored ones included, have {dim} features only: too many for float32"
            warnings.warn(f"{told}; set --config.x64=True, or a larger model.width", stacklevel=2)

    def _optimizer(self) -> optax.GradientTransformation:
        fall = lambda rate: optax.cosine_decay_schedule(rate, self.decay_steps, 0.1) if self.decay_steps else rate
        temperature = optax.adam(fall(self.temperature_learning_rate))
        rules = {"set": optax.lamb(fall(self.learning_rate)), "temperature": temperature}
        return optax.partition(rules, Psi("set", "set", "temperature"))

    def _pool_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.pool_learning_rate)


def _rescaled(psi: Psi, before: Psi) -> Psi:
    """Return psi with labels of the norm they had; the temperature takes the factor, so the error stays.

    Only the product counts there, and LAMB's steps, in proportion to the norm, would let it grow without end, to labels
    of which a network trained on them makes nothing.
    """
    norm, kept = (jnp.linalg.norm(p.labels) for p in (psi, before))
    factor = jnp.where(norm * kept > 0, norm / kept, 1)  # labels may start at zero
    return psi._replace(labels=psi.labels / factor, log_temperature=psi.log_temperature + jnp.log(factor))


make = FRePo
