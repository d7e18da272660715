"""Train a network the way a distilled set says: its rows in order, its own learning rate for every step.

Used by BPTT's inner loop, differentiated, and by its evaluation: the two cannot drift apart.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rcig import losses, unroll
from rcig.errors import UserError
from rcig.types import Array, Key, Model, Synthetic, Variables

NETWORKS = ("random", "fixed")  # `draw`n; any other name is the folder of a pool


@partial(jax.jit, static_argnums=(1, 2, 3, 4))  # of many networks: what makes them must not be kept beside them
def draw(key: Key, model: Model, networks: str, seed: int, count: int) -> Variables:
    """Return ``count`` networks before their first step, leaves (count, ...): ``random``, or ``fixed`` by ``seed``."""
    key = jax.random.key(seed) if networks == "fixed" else key
    return jax.vmap(model.init)(jax.random.split(key, count))


def check_attack(section: str, attack: tuple[int, ...], num_classes: int = 0) -> None:
    """Raise UserError unless ``attack`` is empty or (attacked class, target class), of ``num_classes`` if known."""
    known_classes = all(type(k) is int and 0 <= k < (num_classes or k + 1) for k in attack)
    if attack and not (len(attack) == len(set(attack)) == 2 and known_classes):
        known = f" of 0..{num_classes - 1}" if num_classes else ""
        raise UserError(f"{section}.attack must be two different classes{known}, attacked and target, not {attack}")


def check_norm(variables: Variables) -> None:
    """Raise UserError for networks with batch norm: no schedule moves the running statistics that tests would use."""
    if "batch_stats" in variables:
        raise UserError("a schedule moves no running statistics of batch norm; set model.norm to instance or none")


def check_targets(labels: Array) -> None:
    """Raise UserError for rows that do not sum to more than 0: their cross-entropy has no minimum.

    Of centred labels its gradient by the logits is -y, wherever the network is.
    """
    labels = np.asarray(labels)
    if (labels.sum(1) <= 1e-3 * np.abs(labels).sum(1)).any():
        raise UserError("labels that stay must sum to 1, and some sum to 0 or less; set config.labels.name=one_hot")


def modified(labels: Array, attack: tuple[int, ...]) -> Array:
    """Return labels (...) as an attack wants them: the attacked class's are the target's; unchanged without one."""
    return jnp.where(labels == attack[0], attack[1], labels) if attack else labels


def inner_loss(model: Model, variables: Variables, label_softmax: bool = False) -> unroll.Loss:
    """Return ``(params, (x, y), key, *) -> mean -sum_k y_k log softmax(f(x))_k``; y are raw numbers, or softmax(y)."""

    def loss(params, batch, key, variables):
        inputs, labels = batch
        targets = jax.nn.softmax(labels) if label_softmax else labels
        outputs, _ = model.apply({**variables, "params": params}, inputs, True, key)
        return losses.soft_cross_entropy(outputs.logits, targets)

    others = {name: leaves for name, leaves in variables.items() if name != "params"}
    return unroll.Loss(loss, "batch_stats" not in variables, (others,))


def learn(
    key: Key,
    model: Model,
    variables: Variables,
    synthetic: Synthetic,
    label_softmax: bool = False,
    mode: str = "full",
) -> Variables:
    """Return the network after the set's whole schedule: E passes over D minibatches, plain SGD at rate (e, d).

    Differentiable in the set and its rates. Running statistics, where a network has them, stay as they are.
    Raises: UserError when the set has no learning rates or its rows do not split into D parts.
    """
    if synthetic.learning_rates is None:
        raise UserError("the set has no learning rates, which protocol 'bptt' follows; use --protocol=standard")
    rates = synthetic.learning_rates
    select = unroll.passes(synthetic.inputs, synthetic.labels, rates.shape[1])
    rule = unroll.direction("sgd")
    loss = inner_loss(model, variables, label_softmax)
    start = unroll.begin(variables["params"], rule)
    trained = unroll.train(key, loss, rule, start, select, rates.reshape(-1), mode=mode)
    return {**variables, "params": trained.params}
