"""BPTT: the training run itself is differentiated (Wang et al. 2018; with soft labels, Sucholutsky & Schonlau 2019).

One outer step, for each of n networks theta_0:
  1 take D * E plain gradient steps on the synthetic set, D minibatches a pass, E passes, one learned rate a step:
        theta_{t+1} = theta_t - softplus(r_t) * grad cross_entropy(theta_t; x_{t mod D}, y_{t mod D})
  2 differentiate the cross-entropy of theta_T on one real batch by x, r and, where learned, y (rcig/unroll.py);
  3 one Adam step (betas 0.5, 0.999) on all of them; its rate halves every ``halve_every`` steps.

theta_0 is `random` (fresh every outer step), `fixed` (one draw, forever: the set is made for that network), or from a
`pool` of trained networks (rcig/pretrain): adaptation, where the pool was trained on another data set, and attack,
where the outer loss wants one class taken for another.

Deviations from the reference: two classes are two logits, not one; real batches are drawn without replacement rather
than from shuffled passes with a short last batch; labels follow the class-major rows of the set.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import struct

from rcig import augment, losses, sharding, unroll
from rcig.chunks import mean_rows
from rcig.data import sampling
from rcig.errors import UserError, must_be_positive, unknown
from rcig.schedule import NETWORKS, check_attack, check_norm, check_targets, draw, inner_loss, learn, modified
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic, Variables


@struct.dataclass
class Psi:
    """What is learned."""

    inputs: jax.Array  # (M, ...)
    labels: jax.Array  # (M, K), raw: any real numbers
    raw_rates: jax.Array  # (E, D); the rates are their softplus


@struct.dataclass
class State:
    """Everything that changes, and the pool of networks where there is one (leaves (P, ...); saved with the rest)."""

    psi: Psi
    opt_state: PyTree
    step: jax.Array  # () int32
    pool: Variables | None


@dataclass(frozen=True)
class BPTT:
    """The method's hyperparameters; defaults are the paper's."""

    model: Model
    steps: int = 10  # D, equal minibatches of the set; each has ipc / D examples a class, where D divides ipc
    epochs: int = 3  # E, passes over them
    learning_rate: float = 0.01
    halve_every: int = 2360  # outer steps; the paper's 40 epochs of 59 batches
    inner_rate: float = 0.02  # every r_t starts there; paper: 0.001 for CIFAR-10
    batch_size: int = 1024  # real examples a step
    networks: str = "random"  # random, fixed, or the folder of a pool (python -m rcig.pretrain)
    networks_seed: int = 0  # of the fixed network
    num_networks: int = 1  # a step
    learn_inputs: bool = True
    learn_labels: bool = False
    label_softmax: bool = False  # the inner targets are softmax(y)
    attack: tuple[int, ...] = ()  # (attacked class, class for which its examples are to be taken)
    augmentation: str = ""  # of the real batch, see rcig/augment
    mode: str = "auto"  # of the unroll: full, remat, block, mix; auto: full where it fits ``budget``
    budget: int = 0  # bytes; 0: `sharding.spare_memory`
    rows_at_once: int = 0  # of the outer pass; 0 chooses by platform
    max_skipped: int = 10  # steps in a row that may end in NaN or infinity, and count for nothing

    def __post_init__(self):
        if self.mode not in ("auto", *unroll.MODES):
            raise unknown("method.mode", self.mode, ("auto", *unroll.MODES))
        augment.find(self.augmentation)
        must_be_positive("method", self, "steps", "epochs", "learning_rate", "halve_every", "inner_rate")
        must_be_positive("method", self, "batch_size", "num_networks")
        if self.networks == "fixed" and self.num_networks > 1:
            raise UserError(f"method.num_networks must be 1 where networks is 'fixed', not {self.num_networks}")
        if not (self.learn_inputs or self.learn_labels):
            raise UserError("method.learn_inputs and method.learn_labels are both False; learn at least one")
        check_attack("method", self.attack)

    def check_start(self, synthetic: Synthetic) -> None:
        """Raise UserError for labels from which no network can learn."""
        if not (self.learn_labels or self.label_softmax):
            check_targets(synthetic.labels)

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the state at step 0. The set's labels are its rows' starting targets."""
        check_attack("method", self.attack, synthetic.labels.shape[1])
        raw = self.inner_rate + math.log(-math.expm1(-self.inner_rate))  # softplus(raw) = inner_rate, however large
        rates = jnp.full((self.epochs, self.steps), raw, synthetic.inputs.dtype)
        psi = Psi(jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.labels, synthetic.inputs.dtype), rates)
        unroll.passes(psi.inputs, psi.labels, self.steps)  # whether the rows split
        return State(psi, self._optimizer().init(psi), jnp.int32(0), self._pool())

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return a uniform batch of rows."""
        return sampling.iid(key, len(labels), self.batch_size)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one outer step."""
        key_networks, key_train, key_augment = jax.random.split(key, 3)
        networks = self._draw(key_networks, state.pool)
        batch = batch._replace(inputs=augment.find(self.augmentation)(key_augment, batch.inputs))

        def one(network):
            value = jax.value_and_grad(self.outer_loss, 2, has_aux=True)
            return value(network[1], network[0], state.psi, batch)

        each = jax.lax.map(one, (networks, jax.random.split(key_train, self.num_networks)))
        (loss, metrics), grads = jax.tree.map(lambda a: jnp.mean(a, 0), each)

        grads = grads.replace(
            inputs=grads.inputs * self.learn_inputs,
            labels=grads.labels * self.learn_labels,
        )
        updates, opt_state = self._optimizer().update(grads, state.opt_state, state.psi)
        psi = optax.apply_updates(state.psi, updates)
        rates = _set(psi).learning_rates
        metrics |= {"loss": loss, "gradient_norm": optax.tree.norm(grads)}
        metrics |= {"rate_mean": jnp.mean(rates), "rate_min": jnp.min(rates), "rate_max": jnp.max(rates)}
        return State(psi, opt_state, state.step + 1, state.pool), metrics

    def synthetic(self, state: State) -> Synthetic:
        """Return the set with its learned schedule."""
        return _set(state.psi)

    def outer_loss(self, key: Key, variables: Variables, psi: Psi, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the loss on a real batch of a network trained on the set, and its accuracy."""
        check_norm(variables)
        trained = learn(key, self.model, variables, _set(psi), self.label_softmax, self._mode(variables, psi))

        def outcome(trained, batch):
            logits, labels = self.model.apply(trained, batch.inputs, False, None)[0].logits, batch.labels
            metrics = {"accuracy": losses.accuracy(logits, labels)}
            if self.attack:
                attacked = labels == self.attack[0]
                taken = attacked & (jnp.argmax(logits, axis=1) == self.attack[1])
                metrics |= {"attacked": jnp.mean(attacked), "taken": jnp.mean(taken)}
            return losses.cross_entropy(logits, modified(labels, self.attack)), metrics

        loss, metrics = mean_rows(outcome, trained, batch, self.rows_at_once)
        if self.attack:
            attacked, taken = metrics.pop("attacked"), metrics.pop("taken")
            metrics["attack_success"] = taken / jnp.maximum(attacked, 1 / len(batch.labels))
        return loss, metrics

    def _mode(self, variables: Variables, psi: Psi) -> str:
        if self.mode != "auto":
            return self.mode
        batch = unroll.passes(psi.inputs, psi.labels, self.steps)(0, None)
        rule = unroll.direction("sgd")
        loss = inner_loss(self.model, variables, self.label_softmax)
        start = unroll.begin(variables["params"], rule)
        return unroll.choose_mode(self.budget or sharding.spare_memory(), loss, rule, start, batch, psi.raw_rates.size)

    def _draw(self, key: Key, pool: Variables | None) -> Variables:
        """Return this step's networks, leaves (n, ...)."""
        if pool is not None:
            rows = sampling.iid(key, len(jax.tree.leaves(pool)[0]), self.num_networks)
            return jax.tree.map(lambda leaf: leaf[rows], pool)
        return draw(key, self.model, self.networks, self.networks_seed, self.num_networks)

    def _pool(self) -> Variables | None:
        if self.networks in NETWORKS:
            return None
        from rcig import pretrain  # stands above the methods, and few runs want it

        pool = pretrain.load(self.networks, self.model)
        if len(jax.tree.leaves(pool)[0]) < self.num_networks:
            raise UserError(f"method.num_networks {self.num_networks} is more than the pool {self.networks} has")
        return pool

    def _optimizer(self) -> optax.GradientTransformation:
        rate = optax.exponential_decay(self.learning_rate, self.halve_every, 0.5, staircase=True)
        return optax.adam(rate, b1=0.5, b2=0.999)


def _set(psi: Psi) -> Synthetic:
    return Synthetic(psi.inputs, psi.labels, jax.nn.softplus(psi.raw_rates))


make = BPTT
