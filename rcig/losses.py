"""Losses and targets that distillation and evaluation share. B rows, K classes; every result is a scalar mean."""

import jax
import jax.numpy as jnp

REGRESSION = ("mse", "platt")  # what is asked of a kernel regression's predictions: the targets, or the classes


def centred_targets(labels: jax.Array, num_classes: int) -> jax.Array:
    """Return one-hot labels minus 1/K, so that every row sums to zero (KIP, FRePo, RCIG).

    Args: labels (B,) int in [0, K).
    Returns: (B, K) float32.
    """
    return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32) - 1 / num_classes


def mse(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return half the mean squared error: sum_{i,k} (f_ik - y_ik)^2 / (2 B K), RCIG's normalisation.

    Args: logits, targets (B, K); targets may be any real numbers.
    """
    return jnp.mean(jnp.square(logits - targets)) / 2


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the cross-entropy -1/B sum_{i,k} y_ik log softmax(f_i)_k.

    Args: logits (B, K); targets (B, K), one-hot for hard labels; raw numbers where they are learned.
    """
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return `soft_cross_entropy` with hard labels. Args: logits (B, K); labels (B,) int in [0, K)."""
    return soft_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype))


def platt(log_temperature: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the "Platt" loss, `cross_entropy` of e^log_temperature f_i, the temperature learned (RFAD, RCIG).

    Args: log_temperature (); logits (B, K); labels (B,) int in [0, K).
    """
    return cross_entropy(jnp.exp(log_temperature) * logits, labels)


def kl_divergence(teacher: jax.Array, logits: jax.Array) -> jax.Array:
    """Return KL(softmax(t) || softmax(f)) = 1/B sum_{i,k} softmax(t_i)_k (log softmax(t_i)_k - log softmax(f_i)_k).

    Args: teacher t, logits f (B, K), both over the temperature where there is one.
    """
    log_t, log_f = jax.nn.log_softmax(teacher), jax.nn.log_softmax(logits)
    return jnp.mean(jnp.sum(jnp.exp(log_t) * (log_t - log_f), axis=-1))


def label_margin(labels: jax.Array, cap: float) -> jax.Array:
    """Return how far each label row favours one class, up to a cap: 1/M sum_j min(y_j^(1) - y_j^(2), cap).

    y_j^(1), y_j^(2) are the two largest entries of row j. Distillation subtracts this from its loss so that learned
    labels keep a winner (FRePo: cap 1/K, RCIG: cap 1/(2K)).

    Args: labels (M, K) with K >= 2; cap > 0.
    """
    top = jax.lax.top_k(labels, 2)[0]  # (M, 2)
    return jnp.mean(jnp.minimum(top[:, 0] - top[:, 1], cap))


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the share of rows whose largest logit is the label's (of equal logits the first counts).

    Args: logits (B, K); labels (B,) int.
    Returns: float32 in [0, 1].
    """
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=jnp.float32)
