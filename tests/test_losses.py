"""Losses against formulas written out with numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig.losses import accuracy, centred_targets, label_margin, mse, platt, soft_cross_entropy


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 4)), rng.normal(size=(7, 4))


def test_centred_targets():
    targets = centred_targets(jnp.array([2, 0]), 4)
    np.testing.assert_allclose(targets, [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]])
    assert targets.dtype == jnp.float32


def test_mse_is_half_the_sum_over_rows_times_classes(pair):
    logits, targets = pair
    expected = 0.5 * np.sum((logits - targets) ** 2) / (7 * 4)
    np.testing.assert_allclose(mse(jnp.asarray(logits), jnp.asarray(targets)), expected, rtol=1e-12)


def test_soft_cross_entropy(pair):
    logits, raw = pair
    targets = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -np.mean([np.dot(t, p) for t, p in zip(targets, log_probabilities, strict=True)])
    value, grad = jax.value_and_grad(soft_cross_entropy)(jnp.asarray(logits), jnp.asarray(targets))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(grad, (np.exp(log_probabilities) - targets) / 7, atol=1e-12)


def test_soft_cross_entropy_survives_large_logits():
    assert soft_cross_entropy(jnp.array([[1e4, -1e4]]), jnp.array([[0.0, 1.0]])) == 2e4


def test_platt_is_cross_entropy_at_the_temperature_that_is_learned(pair):
    logits, labels = pair[0], np.array([0, 3, 1, 2, 2, 0, 1])
    scaled = 1.5 * logits
    probabilities = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    expected = -np.mean(np.log(probabilities[np.arange(7), labels]))
    value, grad = jax.value_and_grad(platt)(jnp.log(1.5), jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(grad, np.mean(np.sum((probabilities - np.eye(4)[labels]) * scaled, 1)), rtol=1e-12)


def test_label_margin_is_capped_and_pushes_only_the_two_largest():
    labels = jnp.array([[0.9, 0.1, 0.85], [0.2, 0.0, 3.0]])
    value, grad = jax.value_and_grad(label_margin)(labels, 0.5)
    np.testing.assert_allclose(value, (0.05 + 0.5) / 2, rtol=1e-12)
    np.testing.assert_allclose(grad, [[0.5, 0, -0.5], [0, 0, 0]])


def test_accuracy():
    logits = jnp.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(accuracy(logits, jnp.array([1, 1, 1])), 2 / 3, rtol=1e-6)
