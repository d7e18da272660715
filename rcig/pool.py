"""A pool of networks of different ages, as one stacked tree on the device.

Methods draw one network a step, use it, train it a little on the current synthetic set and put it back; a network that
has grown old is replaced by a fresh one. So the synthetic set meets networks from every stage of training.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig import augment
from rcig.chunks import training_gradient
from rcig.data import sampling
from rcig.types import Key, Model, PyTree, Variables


class Member(NamedTuple):
    """A network in training; in a pool every leaf has a leading axis P."""

    variables: Variables
    opt_state: PyTree
    age: jax.Array  # () int32, training steps so far


Gradient = Callable[[Key, Variables], tuple[PyTree, Variables]]  # -> (gradient of params, variables after the pass)


def fresh(key: Key, init: Callable[[Key], Variables], optimizer: optax.GradientTransformation) -> Member:
    """Return a new network of age 0."""
    variables = init(key)
    return Member(variables, optimizer.init(variables["params"]), jnp.int32(0))


def create(key: Key, init: Callable, optimizer: optax.GradientTransformation, size: int) -> Member:
    """Return a pool of ``size`` new networks."""
    return jax.vmap(lambda k: fresh(k, init, optimizer))(jax.random.split(key, size))


def take(pool: Member, index: jax.Array) -> Member:
    """Return network ``index``."""
    return jax.tree.map(lambda leaf: leaf[index], pool)


def put(pool: Member, index: jax.Array, member: Member) -> Member:
    """Return the pool with network ``index`` replaced (in place, where the caller's buffer may be reused)."""
    return jax.tree.map(lambda leaf, new: leaf.at[index].set(new.astype(leaf.dtype)), pool, member)


def train(
    key: Key, member: Member, gradient: Gradient, optimizer: optax.GradientTransformation, num_steps: jax.Array
) -> Member:
    """Train a network for ``num_steps`` (which may be an array) optimiser steps."""

    def step(i, member):
        grads, after = gradient(jax.random.fold_in(key, i), member.variables)
        updates, opt_state = optimizer.update(grads, member.opt_state, member.variables["params"])
        params = optax.apply_updates(member.variables["params"], updates)
        variables = jax.tree.map(lambda new, old: new.astype(old.dtype), {**after, "params": params}, member.variables)
        return Member(variables, opt_state, member.age + 1)

    return jax.lax.fori_loop(0, num_steps, step, member)


def learning(
    model: Model,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    inputs: Any,
    targets: jax.Array,
    num_rows: int = 0,
    augmentation: str = "",
) -> Gradient:
    """Return the gradient of plain training on a set: the loss of logits and targets, all parameters.

    Args: inputs (n, ...), targets (n, ...); num_rows, if any and fewer than n, drawn without replacement for each step;
    augmentation, as in `rcig.augment.find`, drawn afresh.
    """
    size = min(num_rows or len(targets), len(targets))

    def gradient(key, variables):
        key_rows, key_augment, key_apply = jax.random.split(key, 3)
        rows = jnp.arange(size) if size == len(targets) else sampling.iid(key_rows, len(targets), size)
        seen = augment.find(augmentation)(key_augment, inputs[rows])
        return training_gradient(model, loss, variables, seen, targets[rows], key_apply)[1:]

    return gradient


def renew(key: Key, member: Member, init: Callable, optimizer: optax.GradientTransformation, max_age: int) -> Member:
    """Return the network, or a fresh one where it has reached ``max_age``."""

    def replace(member):
        new = fresh(key, init, optimizer)
        return jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), new, member)

    return jax.lax.cond(member.age >= max_age, replace, lambda member: member, member)
