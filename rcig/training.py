"""Train several fresh networks on one set and test them: for evaluations, pools, experts and teachers.

    recipe = Recipe(num_steps=1000, batch_size=20, loss="mse", optimiser="adam", learning_rate=1e-4)
    variables = train_networks(key, model, synthetic, recipe, num_networks=5)   # every leaf (5, ...)
    test_accuracy(model, variables, dataset.test)                               # (5,)

What step t of a network draws is a function of (its key, t): results do not depend on how steps are dispatched.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from rcig import augment, losses, sharding
from rcig.chunks import training_gradient
from rcig.errors import UserError, unknown
from rcig.metrics import Progress
from rcig.types import Array, Batch, Key, Model, PyTree, Synthetic, Variables


@dataclass(frozen=True)
class Recipe:
    """How one network learns from a set. Hashable, so it is static under jit: equal recipes compile once."""

    num_steps: int
    batch_size: int  # distinct rows a step; the whole set where it has no more
    loss: str  # a name in LOSSES
    optimiser: str  # a name in OPTIMISERS
    learning_rate: float
    warmup_steps: int = 0  # adam
    drop_step: int = 0  # sgd: when it drops, 0: never; adam_halving: every so many steps
    weight_decay: float = 0.0  # sgd
    augmentation: str = ""  # as in rcig.augment.find, drawn afresh every step

    def __post_init__(self):
        for kind, name, known in (("loss", self.loss, LOSSES), ("optimiser", self.optimiser, OPTIMISERS)):
            if name not in known:
                raise unknown(kind, name, known)
        augment.find(self.augmentation)
        for name in ("num_steps", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be positive, not {getattr(self, name)}")


def _hard(labels):
    return jax.nn.one_hot(jnp.argmax(labels, axis=1), labels.shape[1], dtype=labels.dtype)


def _distribution(labels):
    if np.any(np.asarray(labels) < 0) or not np.allclose(np.sum(labels, axis=1), 1, atol=1e-3):
        raise UserError('loss "soft_cross_entropy" wants rows of labels that are distributions; use "mse"')
    return labels


# name: (loss of logits (B,K) and targets (B,K), targets of a synthetic set's labels (M,K))
LOSSES: dict[str, tuple[Callable, Callable]] = {
    "mse": (losses.mse, lambda labels: labels),  # the labels as they are
    "cross_entropy": (losses.soft_cross_entropy, _hard),  # the class of each row's largest entry
    "soft_cross_entropy": (losses.soft_cross_entropy, _distribution),  # the labels as distributions
    "raw_cross_entropy": (losses.soft_cross_entropy, lambda labels: labels),  # each row weighs its classes
}


def _adam(recipe: Recipe) -> optax.GradientTransformation:
    """Adam; linear warm-up from 0, then a cosine to 1 % of the peak at ``num_steps``."""
    peak, warmup = recipe.learning_rate, recipe.warmup_steps
    return optax.adam(optax.warmup_cosine_decay_schedule(0.0, peak, warmup, recipe.num_steps, peak / 100))


def _sgd(recipe: Recipe) -> optax.GradientTransformation:
    """SGD with momentum 0.9; at ``drop_step`` the rate falls to a tenth and the momentum is forgotten."""

    def momentum(step):
        return jnp.where(step == recipe.drop_step, 0.0, 0.9)  # a decay of 0 for one step forgets what came before

    drops = {recipe.drop_step: 0.1} if recipe.drop_step else {}
    rate = optax.piecewise_constant_schedule(recipe.learning_rate, drops)
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay),
        optax.inject_hyperparams(optax.trace)(decay=momentum),
        optax.scale_by_learning_rate(rate),
    )


def _adam_halving(recipe: Recipe) -> optax.GradientTransformation:
    """Adam (betas 0.5, 0.999) whose rate halves every ``drop_step`` steps: how DD trains its pools."""
    return optax.adam(optax.exponential_decay(recipe.learning_rate, recipe.drop_step, 0.5, staircase=True), b1=0.5)


OPTIMISERS: dict[str, Callable[[Recipe], optax.GradientTransformation]] = {
    "adam": _adam,
    "adam_halving": _adam_halving,
    "plain_adam": lambda recipe: optax.adam(recipe.learning_rate),
    "plain_momentum": lambda recipe: optax.sgd(recipe.learning_rate, 0.9),
    "plain_sgd": lambda recipe: optax.sgd(recipe.learning_rate),
    "sgd": _sgd,
}


class State(NamedTuple):
    """One network in training; with a leading axis, all of them."""

    variables: Variables
    opt_state: PyTree
    order: jax.Array  # (M,) the rows in the order in which this pass takes them
    loss: jax.Array  # () of the last step


def map_networks(fn: Callable) -> Callable:
    """Map a function over the networks, the leading axis of every leaf of its argument, on one device.

    One after the other: measured on a CPU, that costs the same processor time as ``vmap`` (which writes out every
    convolution once a network), compiles in about half and holds one network's activations. On a GPU ``vmap`` would
    group the convolutions, and XLA is not known to take the gradient of a grouped one's kernel for what it is.
    """
    return partial(lax.map, fn)


def over_networks(fn: Callable) -> Callable:
    """Map a function over the networks as `map_networks` does, and the networks over the devices."""
    return sharding.over_devices(map_networks(fn))


def train_networks(
    key: Key,
    model: Model,
    synthetic: Synthetic,
    recipe: Recipe,
    num_networks: int,
) -> Variables:
    """Train ``num_networks`` fresh networks; each has its own initialisation, order of rows and augmentation.

    A set larger than ``batch_size`` is taken in passes: every pass shuffles all rows and takes ``M // batch_size``
    whole batches (rows left over wait for another pass). ``learning_rates`` of the set are not used.

    Args: synthetic inputs (M, ...), labels (M, K).
    Returns: variables, every leaf (num_networks, ...).
    """
    inputs, labels = jax.tree.map(jnp.asarray, (synthetic.inputs, synthetic.labels))
    targets = LOSSES[recipe.loss][1](labels)
    keys = jax.random.split(key, num_networks)
    state = _start(model, recipe, keys, len(inputs))
    done, chunk = 0, 8
    with Progress(recipe.num_steps, passing=True) as progress:
        while done < recipe.num_steps:
            began = time.monotonic()
            stop = min(done + chunk, recipe.num_steps)
            state = _train(model, recipe, keys, state, inputs, targets, done, stop)
            done = stop
            progress.update(done, {"loss": jnp.mean(state.loss)})  # which waits for it
            if time.monotonic() - began < 0.5:  # grow until a chunk takes about a second: Ctrl-C waits for one chunk
                chunk *= 2
    warn_of_divergence(state.loss)
    return state.variables


def counted(items: Sequence[Any]) -> Iterator[Any]:
    """Yield items, each a training or more, and say how many are done where that takes long."""
    with Progress(len(items), passing=True) as progress:
        for count, item in enumerate(items):
            progress.update(count)
            yield item
        progress.update(len(items))


def warn_of_divergence(last: Array, remedy: str = "lower eval.learning_rate") -> None:
    """Warn where the last losses (n,) of networks, or their sizes, are not all finite."""
    if diverged := int(np.sum(~np.isfinite(last))):
        warnings.warn(f"the training of {diverged} of {len(last)} networks diverged; {remedy}", stacklevel=3)


def trajectory(keys: Key, model: Model, synthetic: Synthetic, recipe: Recipe, every: int) -> Iterator[Variables]:
    """Yield the networks of `train_networks`, one a key, before their first step and after each ``every`` steps.

    The next step overwrites what was yielded: copy what is to stay.
    """
    inputs, labels = jax.tree.map(jnp.asarray, (synthetic.inputs, synthetic.labels))
    targets = LOSSES[recipe.loss][1](labels)
    state = _start(model, recipe, keys, len(inputs))
    yield state.variables
    for done in range(0, recipe.num_steps, every):
        state = _train(model, recipe, keys, state, inputs, targets, done, min(done + every, recipe.num_steps))
        yield state.variables


def test_accuracy(model: Model, variables: Variables, batch: Batch, chunk: int = 256) -> np.ndarray:
    """Return each network's share of correctly classified examples, exactly, in running-statistics mode.

    Args: variables, every leaf (n, ...); batch inputs (N, ...) and labels (N,), on host or device.
    Returns: (n,) float64. Memory: activations of ``chunk`` examples in one network.
    """
    total = len(batch.labels)
    correct = 0
    for start in range(0, total, chunk):
        inputs, labels = batch.inputs[start : start + chunk], batch.labels[start : start + chunk]
        missing = chunk - len(labels) if total > chunk else 0
        inputs = jnp.pad(jnp.asarray(inputs), [(0, missing)] + [(0, 0)] * (np.ndim(inputs) - 1))
        labels = jnp.pad(jnp.asarray(labels), (0, missing), constant_values=-1)  # which no class equals
        correct += np.asarray(_correct(model, variables, inputs, labels), np.int64)
    return correct / total


def forget() -> None:
    """Drop the compiled programs, 20 to 50 MB a network: for callers who go through many networks, each once."""
    for program in (_start, _train, _correct):
        program.clear_cache()


test_accuracy.__test__ = False  # not a test of ours, whatever pytest thinks of the name


@partial(jax.jit, static_argnames=("model", "recipe", "num_rows"))
def _start(model, recipe, keys, num_rows):
    def start(key):
        variables = model.init(key)
        opt_state = OPTIMISERS[recipe.optimiser](recipe).init(variables["params"])
        return State(variables, opt_state, jnp.arange(num_rows), jnp.zeros((), jnp.float32))

    return over_networks(start)(keys)


@partial(jax.jit, static_argnames=("model", "recipe"), donate_argnames="state")
def _train(model, recipe, keys, state, inputs, targets, start, stop):
    """Take steps ``start`` to ``stop`` (traced, so that chunks of any length share one program)."""

    def train(key_and_state):
        key, state = key_and_state
        step = partial(_step, model, recipe, inputs, targets)
        return lax.fori_loop(start, stop, lambda t, state: step(jax.random.fold_in(key, t), t, state), state)

    return over_networks(train)((keys, state))


def _step(model, recipe, inputs, targets, key, t, state):
    key_order, key_augment, key_apply = jax.random.split(key, 3)
    order, rows = _rows(key_order, t, state.order, recipe.batch_size)
    x = augment.find(recipe.augmentation)(key_augment, inputs[rows])
    y = targets[rows]

    optimiser, loss = OPTIMISERS[recipe.optimiser](recipe), LOSSES[recipe.loss][0]
    return learn(model, optimiser, loss, state._replace(order=order), x, y, key_apply)


def learn(
    model: Model,
    optimiser: optax.GradientTransformation,
    loss: Callable,
    state: State,
    x: jax.Array,
    y: PyTree,
    key: Key,
) -> State:
    """Take one step on one batch: ``loss(logits, y)`` of inputs x, the batch statistics included."""
    params = state.variables["params"]
    value, grads, after = training_gradient(model, loss, state.variables, x, y, key)
    updates, opt_state = optimiser.update(grads, state.opt_state, params)
    same = lambda new, old: new.astype(old.dtype)  # in 64-bit mode optax and statistics would change their types
    after, opt_state = jax.tree.map(same, (after, opt_state), (state.variables, state.opt_state))
    variables = {**after, "params": optax.apply_updates(params, updates)}
    return State(variables, opt_state, state.order, value.astype(jnp.float32))


def _rows(key, t, order, batch_size):
    """Return the order of this pass and the rows of step ``t``; all rows, without a draw, where they fit a batch."""
    if len(order) <= batch_size:
        return order, slice(None)
    place = t % (len(order) // batch_size)
    order = lax.cond(place == 0, lambda: jax.random.permutation(key, order), lambda: order)
    return order, lax.dynamic_slice_in_dim(order, place * batch_size, batch_size)


@partial(jax.jit, static_argnames="model")
def _correct(model, variables, inputs, labels):
    """How many rows each network gets right: (n,) int. On a device one network after the other, to bound memory."""

    def count(variables):
        outputs, _ = model.apply(variables, inputs, False, None)
        return jnp.sum(jnp.argmax(outputs.logits, axis=1) == labels)

    return sharding.over_devices(partial(lax.map, count))(variables)
