"""Train several students on one pool of soft labels, together: a record a step, its views made on the device.

    variables = train_students(key, model, inputs, pool, protocol)      # every leaf (n, ...)

What step t of a network sees is a function of (its key, t). Records are read on the host, a few steps ahead of the
device, so that a pool of any size trains in the memory of a few records.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from rcig.errors import UserError
from rcig.losses import kl_divergence
from rcig.metrics import Progress
from rcig.soft_labels import LabelPool
from rcig.training import State, learn, over_networks, warn_of_divergence
from rcig.types import Key, Model, Variables
from rcig.views import apply_view

if TYPE_CHECKING:
    from rcig.evaluation.soft_labels import SoftLabels

_DISPATCHED = 1024  # images, about, that each network sees in one call of the compiled function


def train_students(
    key: Key,
    model: Model,
    inputs: np.ndarray,
    pool: LabelPool,
    protocol: "SoftLabels",
) -> Variables:
    """Train ``num_networks`` students together, each with its own start and draws. Returns leaves (n, ...)."""
    keys = jax.random.split(key, protocol.num_networks)
    if protocol.bn_group and pool.spec.batch_size % protocol.bn_group:
        raise UserError(
            f"eval.bn_group {protocol.bn_group} must divide the {pool.spec.batch_size} rows of a record; 0: no groups"
        )
    epochs = protocol.num_epochs or pool.spec.epochs
    num_steps = protocol.num_steps or epochs * pool.batches
    places = np.stack([draws(each, pool, protocol, num_steps) for each in keys])  # (n, T)
    task = _Task(model, protocol, pool.spec.mix, epochs, num_steps)
    inputs, state = jnp.asarray(inputs, jnp.float32), _start(task, keys)
    size = max(1, _DISPATCHED // pool.spec.batch_size)
    with Progress(num_steps, passing=True) as progress:
        read = lambda start: pool.read(places[:, np.minimum(np.arange(start, start + size), num_steps - 1)])
        rows = read(0)  # always of as many steps: one program
        for start in range(0, num_steps, size):
            stop = min(start + size, num_steps)
            state = _train(task, keys, state, inputs, rows, start, stop)
            rows = read(stop) if stop < num_steps else None  # while the device is busy
            progress.update(stop, {"loss": jnp.mean(state.loss)})
    warn_of_divergence(state.loss)
    return state.variables


def draws(key: Key, pool: LabelPool, protocol: "SoftLabels", num_steps: int) -> np.ndarray:
    """Return the place in the pool of each step's record (num_steps,).

    In order: as they lie, again and again. With replacement: every step draws a record, or, where epochs are pruned,
    every pseudo-epoch one of them.
    """
    whole = len(pool) == pool.total
    steps = np.arange(num_steps)
    if protocol.draw == "in_order" or (not protocol.draw and whole):
        return steps % len(pool)
    size = pool.batches if protocol.granularity == "epoch" else 1
    units, length = len(pool) // size, -(-num_steps // size)
    if not units:
        raise UserError(f"{len(pool)} records hold no epoch of {size}; set --config.eval.granularity=batch")
    chosen = np.asarray(jax.random.randint(jax.random.fold_in(key, 2), (length,), 0, units))
    return chosen[steps // size] * size + steps % size


@dataclass(frozen=True)
class _Task:
    """What stays the same from step to step; static under jit."""

    model: Model
    protocol: "SoftLabels"
    mix: str
    epochs: int  # pseudo-epochs: so many parts of the steps
    num_steps: int

    @property
    def optimiser(self) -> optax.GradientTransformation:
        protocol, kernels = self.protocol, lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
        if protocol.optimiser == "adamw":
            return optax.adamw(self.rate, weight_decay=protocol.weight_decay, mask=kernels)
        decay = optax.add_decayed_weights(protocol.weight_decay, kernels)
        return optax.chain(decay, optax.sgd(self.rate, momentum=0.9))

    def rate(self, step: jax.Array) -> jax.Array:
        """Return the learning rate of a step: eta (1 + cos(pi e / E)) / 2 in pseudo-epoch e, after the warm-up."""
        protocol, epoch = self.protocol, step * self.epochs // self.num_steps
        warmup = protocol.warmup_epochs
        share = (epoch - warmup) / (protocol.cosine_stretch * max(1, self.epochs - warmup))
        rising = 0.01 + 0.99 * epoch / max(1, warmup)
        return protocol.learning_rate * jnp.where(epoch < warmup, rising, (1 + jnp.cos(jnp.pi * share)) / 2)

    def loss(self, logits: jax.Array, teacher: jax.Array) -> jax.Array:
        protocol = self.protocol
        teacher = teacher.astype(logits.dtype) / (protocol.teacher_temperature or protocol.temperature)
        scale = protocol.loss_scale or protocol.temperature**2
        return scale * kl_divergence(teacher, logits / protocol.temperature)

    @property
    def student(self) -> Model:
        return grouped(self.model, self.protocol.bn_group) if self.protocol.bn_group else self.model


def grouped(model: Model, size: int) -> Model:
    """Return the network with batch statistics of every ``size`` rows by themselves, and the running ones of the first.

    What training on several devices without synchronised batch norm does: LPLD's 128 rows on 4 are groups of 32.
    """

    def apply(variables, x, train, key):
        if not train:
            return model.apply(variables, x, train, key)
        groups = x.reshape(-1, size, *x.shape[1:])
        dropout = lambda group: None if key is None else jax.random.fold_in(key, group)
        each = lambda x, group: model.apply(variables, x, True, dropout(group))
        outputs, after = jax.vmap(each)(groups, jnp.arange(len(groups)))
        merge, first = lambda a: a.reshape(-1, *a.shape[2:]), lambda a: a[0]
        return jax.tree.map(merge, outputs), jax.tree.map(first, after)

    return Model(model.init, apply)


@partial(jax.jit, static_argnums=0)
def _start(task, keys):
    def start(key):
        variables = task.model.init(jax.random.fold_in(key, 0))
        return State(variables, task.optimiser.init(variables["params"]), jnp.zeros(0), jnp.zeros((), jnp.float32))

    return over_networks(start)(keys)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _train(task, keys, state, inputs, records, start, stop):
    """Take steps ``start`` to ``stop`` on records (n, T, B, ...), of which the last may be too many."""

    def train(at):
        key, state, records = at

        def step(t, state):
            view, logits = jax.tree.map(lambda a: a[t - start], records)
            x = apply_view(inputs, view, task.mix)
            key_apply = jax.random.fold_in(jax.random.fold_in(key, 1), t)
            return learn(task.student, task.optimiser, task.loss, state, x, logits, key_apply)

        return lax.fori_loop(start, stop, step, state)

    return over_networks(train)((keys, state, records))
