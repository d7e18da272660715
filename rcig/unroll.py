"""Differentiable training: the weights after T steps as a function of the data and the learning rates of every step.

    w_{t+1}, s_{t+1} = w_t - r_t * u_t, s'         u_t, s' = direction(grad_w loss(w_t; batch_t), s_t)

`direction` is any optax transformation that does not scale: identity (SGD), trace (momentum), scale_by_adam. Reverse
mode through the `lax.scan` gives the meta-gradient (Maclaurin et al. 2015; Wang et al. 2018). `mode` says what the
backward pass keeps of a step, and changes nothing else:

    full    everything: fastest while it fits
    remat   (w_t, s_t); a step is computed again when it is needed
    block   (w_t, s_t) of every sqrt(T)-th step only
    mix     (w_t, s_t) too. The gradient's pull-back is its tangent (forward over reverse), which holds it as well:
                v^T d(grad_w loss)/d(w, batch) = d/de grad_(w, batch) loss(w + e v; batch)
            by the symmetry of the Hessian, so no graph of a gradient is ever stored
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig.chunks import grad_rows
from rcig.errors import UserError, unknown
from rcig.sharding import count_rows
from rcig.types import Array, Key, PyTree

MODES = ("full", "remat", "block", "mix")
DIRECTIONS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": partial(optax.trace, decay=0.9),
    "adam": partial(optax.scale_by_adam, eps_root=1e-12),  # else a gradient of 0, as of a bias before a norm, is NaN's
}

Select = Callable[[jax.Array, Key], PyTree]  # (t, key) -> minibatch, differentiable


class Loss(NamedTuple):
    """What a step descends."""

    fn: Callable[..., jax.Array]  # (params, minibatch, key, *constants) -> ()
    of_rows: bool = True  # a mean over the minibatch's rows, each by itself: taken in chunks (`chunks.grad_rows`)
    constants: tuple[PyTree, ...] = ()  # arrays that no derivative is asked of; ``fn`` must not close over any


class Trained(NamedTuple):
    """A network after some steps; the inner optimiser's memory goes with it."""

    params: PyTree
    slots: PyTree


def direction(name: str) -> optax.GradientTransformation:
    """Return an inner optimiser without its learning rate: sgd, momentum (0.9) or adam."""
    if name not in DIRECTIONS:
        raise unknown("inner optimiser", name, DIRECTIONS)
    return DIRECTIONS[name]()


def begin(params: PyTree, rule: optax.GradientTransformation) -> Trained:
    """Return a network before its first step."""
    return Trained(params, rule.init(params))


def train(
    key: Key,
    loss: Loss,
    rule: optax.GradientTransformation,
    start: Trained,
    select: Select,
    rates: jax.Array,
    *,
    first: Array | int = 0,
    mode: str = "full",
) -> Trained:
    """Take steps ``first .. first + T - 1`` from ``start``, differentiable in everything ``select`` and ``rates`` hold.

    Args: rule, an optax transformation without rate or sign (`direction`; optax.sgd has both, and would ascend); rates
    (T,), one a step; step t sees the key folded with t, so any mode and any cut into windows draws alike.
    Cost, forward and backward: full T * (gradient + its pull-back); remat and mix one gradient a step more, block two.
    """
    if mode not in MODES:
        raise unknown("unroll mode", mode, MODES)
    gradient = (_mixed if mode == "mix" else _plain)(loss)

    def step(trained, at):
        t, rate = at
        key_rows, key_loss = jax.random.split(jax.random.fold_in(key, t))
        grads = gradient(trained.params, select(t, key_rows), key_loss)
        updates, slots = rule.update(grads, trained.slots, trained.params)
        params = jax.tree.map(lambda p, u: (p - rate * u).astype(p.dtype), trained.params, updates)
        return Trained(params, slots), None

    steps = (first + jnp.arange(len(rates)), rates)
    if mode in ("remat", "mix"):
        step = jax.checkpoint(step, prevent_cse=False)
    return _scan_blocks(step, start, steps) if mode == "block" else jax.lax.scan(step, start, steps)[0]


def skip(
    key: Key,
    loss: Loss,
    rule: optax.GradientTransformation,
    start: Trained,
    select: Select,
    rate: float,
    num_steps: jax.Array,
) -> Trained:
    """Take the first ``num_steps`` (which may be an array) steps without any derivative: what a window truncates."""

    def body(t, trained):
        return train(key, loss, rule, trained, select, jnp.full(1, rate), first=t)

    return jax.lax.stop_gradient(jax.lax.fori_loop(0, num_steps, body, jax.lax.stop_gradient(start)))


def passes(inputs: jax.Array, labels: jax.Array, num_batches: int) -> Select:
    """Return the ``select`` that goes through the set in a fixed order, ``num_batches`` equal parts a pass.

    Part d is every ``num_batches``-th row from d on: of a class-major set equally many rows of each class, where that
    number divides the rows of a class.
    """
    if num_batches < 1 or len(inputs) % num_batches:
        raise UserError(
            f"{len(inputs)} synthetic examples must split into equal steps, not {num_batches}; "
            "choose another ipc or method.steps"
        )
    parts = [a.reshape(-1, num_batches, *a.shape[1:]).swapaxes(0, 1) for a in (inputs, labels)]
    return lambda t, key: tuple(part[t % num_batches] for part in parts)


def choose_mode(
    budget: int, loss: Loss, rule: optax.GradientTransformation, start: Trained, batch: PyTree, T: int
) -> str:
    """Return ``full`` if what T steps keep for the backward pass fits ``budget`` bytes, else ``mix``. Traces only."""

    def kept(trained, batch):
        grads, pull_back = jax.vjp(
            lambda p, b: jax.grad(loss.fn)(p, b, jax.random.key(0), *loss.constants), trained.params, batch
        )
        return rule.update(grads, trained.slots, trained.params), pull_back

    shapes = jax.tree.leaves(jax.eval_shape(kept, start, batch))
    return "full" if T * sum(s.size * s.dtype.itemsize for s in shapes) <= budget else "mix"


def _gradients(loss: Loss, params: PyTree, batch: PyTree, key: Key) -> tuple[PyTree, PyTree]:
    """Return the gradients by the parameters and by the minibatch."""
    if not loss.of_rows:
        return jax.grad(loss.fn, (0, 1))(params, batch, key, *loss.constants)
    each = lambda params, batch, place: loss.fn(params, batch, jax.random.fold_in(key, place[0]), *loss.constants)
    return grad_rows(each, params, batch, jnp.arange(count_rows(batch)))


def _plain(loss: Loss) -> Callable:
    return lambda params, batch, key: _gradients(loss, params, batch, key)[0]


def _mixed(loss: Loss) -> Callable:
    """Return ``grad_params loss`` whose pull-back stores its arguments only and runs forward over reverse."""

    @jax.custom_vjp
    def gradient(params, batch, key, constants):
        return _gradients(loss._replace(constants=constants), params, batch, key)[0]

    def backward(arguments, v):
        params, *rest, constants = arguments
        by_params = lambda params: _gradients(loss._replace(constants=constants), params, *rest)
        return *jax.jvp(by_params, (params,), (v,))[1], None, None

    gradient.defvjp(lambda *arguments: (gradient(*arguments), arguments), backward)
    return lambda params, batch, key: gradient(params, batch, key, loss.constants)


def _scan_blocks(step: Callable, start: Trained, steps: PyTree) -> Trained:
    """Scan in sqrt(T) blocks, of which only the starts are kept."""
    T = len(steps[0])
    size = math.isqrt(T - 1) + 1
    whole = T // size * size

    @partial(jax.checkpoint, prevent_cse=False)
    def block(carry, steps):
        return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), carry, steps)

    blocks = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), steps)
    carry, _ = jax.lax.scan(block, start, blocks)
    return block(carry, jax.tree.map(lambda a: a[whole:], steps))[0] if whole < T else carry
