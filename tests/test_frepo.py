"""FRePo and RFAD against numpy, central differences, and the infinitely wide network that RFAD estimates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from kernels import infinite, ridge
from methods import frepo, rfad
from methods._problems import Psi
from methods.frepo import FRePo
from methods.rfad import RFAD
from rcig import chunks, losses, pool
from rcig.errors import UserError
from rcig.lookup import find
from rcig.types import Batch

MODEL = toy.model()
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def batch():
    return Batch(*(jnp.asarray(a[:60]) for a in toy.dataset().train))


def regression(k_ss, k_ts, y_s, relative):
    """Predict by the textbook formula, in numpy."""
    k_ss, k_ts = np.asarray(k_ss), np.asarray(k_ts)
    strength = relative * np.trace(k_ss) / len(k_ss)
    return k_ts @ np.linalg.inv(k_ss + strength * np.eye(len(k_ss))) @ np.asarray(y_s)


def features(variables, *inputs):
    return (np.asarray(MODEL.apply(variables, x, False, None)[0].features) for x in inputs)


def one_hot(batch):
    return np.eye(toy.NUM_CLASSES)[np.asarray(batch.labels)]


def assert_gradient(loss, psi):
    """Compare the gradient along a random direction with central differences."""
    keys = iter(jax.random.split(jax.random.key(5), 9))
    along = jax.tree.map(lambda a: jax.random.normal(next(keys), a.shape), psi)
    inner = sum(map(jnp.vdot, jax.tree.leaves(jax.grad(loss)(psi)), jax.tree.leaves(along)))
    np.testing.assert_allclose(inner, toy.central_difference(loss, psi, along, 1e-6), rtol=1e-5)


def cross_entropy(logits, batch):
    return np.mean(np.log(np.sum(np.exp(logits), 1)) - np.sum(logits * one_hot(batch), 1))


@pytest.mark.parametrize("flip, name", [(False, "mse"), (True, "mse"), (False, "platt")])
def test_the_loss_of_frepo_by_hand_and_its_gradient(batch, flip, name):
    psi, method, variables = toy.synthetic(2), FRePo(MODEL, ridge=1e-3, flip=flip, loss=name), MODEL.init(KEY)
    psi = Psi(psi.inputs, psi.labels, jnp.array(0.7))
    loss = jax.jit(lambda psi: method.outer_loss(psi, variables, batch)[0])
    x_s, y_s = np.asarray(psi.inputs), np.asarray(psi.labels)
    if flip:
        x_s, y_s = np.concatenate([x_s, x_s[:, :, ::-1]]), np.concatenate([y_s, y_s])
    phi_s, phi_t = features(variables, x_s, batch.inputs)
    predicted = regression(phi_s @ phi_s.T, phi_t @ phi_s.T, y_s, 1e-3)
    errors = {
        "mse": np.mean(np.sum((predicted - one_hot(batch) + 1 / 3) ** 2, 1)) / 2,
        "platt": cross_entropy(np.exp(0.7) * predicted, batch),
    }
    two = np.sort(np.asarray(psi.labels))[:, -2:]
    expected = errors[name] - np.mean(np.minimum(two[:, 1] - two[:, 0], 1 / 3))
    np.testing.assert_allclose(loss(psi), expected, rtol=1e-7)  # centred targets are float32
    assert_gradient(loss, psi)


def test_the_pool_of_frepo_is_staggered_takes_one_step_a_visit_and_renews(batch):
    method = FRePo(MODEL, pool_size=4, pool_max_age=8)
    state = method.init(KEY, toy.synthetic(1), batch)
    np.testing.assert_array_equal(state.pool.age, [0, 2, 4, 6])
    kernels = state.pool.variables["params"]["Conv_0"]["kernel"]
    assert not np.allclose(kernels[0], kernels[3])
    step, ages, renewed = jax.jit(method.step), [np.asarray(state.pool.age)], []
    for t in range(40):
        state, _ = step(jax.random.key(t), state, batch)
        ages.append(np.asarray(state.pool.age))
        (visited,) = np.flatnonzero(ages[-1] != ages[-2])
        before, after = ages[-2][visited], ages[-1][visited]
        assert after == (0 if before > 8 else before + 1)
        renewed.append(after == 0)
    assert any(renewed) and np.max(ages) == 9


def test_a_pool_step_is_plain_training_on_the_set_without_flips(batch):
    method = FRePo(MODEL, pool_size=1, flip=True, learning_rate=1e-9)
    start = toy.synthetic(2)
    state = method.init(KEY, start, batch)
    after, _ = jax.jit(method.step)(KEY, state, batch)
    params = jax.tree.map(lambda a: a[0], state.pool.variables)["params"]

    def error(params):
        logits = MODEL.apply({"params": params}, start.inputs, True, None)[0].logits
        return jnp.sum(jnp.square(logits - start.labels)) / 2

    gradient = jax.grad(error)(params)
    moved = jax.tree.map(lambda new, old: new[0] - old, after.pool.variables["params"], params)
    for by, g in zip(jax.tree.leaves(moved), jax.tree.leaves(gradient), strict=True):
        sure = np.abs(g) > 1e-3  # Adam's first step is its rate against the gradient's sign
        np.testing.assert_allclose(by[sure], -3e-4 * np.sign(g)[sure], rtol=1e-3)


def test_a_pool_step_draws_rows_where_there_are_more():
    start, variables = toy.synthetic(2), MODEL.init(KEY)
    learning = functools.partial(pool.learning, MODEL, losses.mse, start.inputs, start.labels)
    gradient = lambda key, rows: learning(rows)(key, variables)[0]["head"]
    whole, few, other = (gradient(jax.random.key(k), rows)["bias"] for k, rows in ((0, 0), (0, 3), (2, 3)))
    np.testing.assert_array_equal(whole, gradient(jax.random.key(1), 6)["bias"])
    assert not np.allclose(few, whole) and not np.allclose(few, other)


@pytest.mark.parametrize("decay_steps, rates", [(0, (1, 1)), (1, (1, 0.1))])
def test_lamb_moves_images_by_their_norm_times_the_rate(batch, decay_steps, rates):
    method = FRePo(MODEL, pool_size=1, learning_rate=1e-3, decay_steps=decay_steps)
    state, step = method.init(KEY, toy.synthetic(1), batch), jax.jit(method.step)
    for t, rate in enumerate(rates):
        before = state.psi
        state, _ = step(jax.random.key(t), state, batch)
        for new, old in zip(state.psi[:2], before[:2], strict=True):
            np.testing.assert_allclose(jnp.linalg.norm(new - old) / jnp.linalg.norm(old), 1e-3 * rate, rtol=1e-6)


def test_labels_asked_for_classes_keep_their_norm(batch):
    """LAMB moves them; the temperature takes what they grow by, so that the loss does not notice."""
    method = FRePo(MODEL, pool_size=1, loss="platt", learning_rate=0.1, temperature_learning_rate=1e-3)
    state, step = method.init(KEY, toy.synthetic(1), batch), jax.jit(method.step)
    norm = jnp.linalg.norm(state.psi.labels)
    for t in range(5):
        state, _ = step(jax.random.key(t), state, batch)
    np.testing.assert_allclose(jnp.linalg.norm(state.psi.labels), norm, rtol=1e-12)
    assert abs(state.psi.log_temperature) > 1e-3 and not np.allclose(state.psi.labels, toy.synthetic(1).labels)
    grown = state.psi._replace(labels=3 * state.psi.labels)
    back = frepo._rescaled(grown, state.psi)
    predicted = [jnp.exp(p.log_temperature) * p.labels for p in (grown, back)]
    np.testing.assert_allclose(*predicted, rtol=1e-12)
    zero = state.psi._replace(labels=0 * state.psi.labels)
    np.testing.assert_array_equal(frepo._rescaled(grown, zero).labels, grown.labels)


@pytest.mark.parametrize("name", ["platt", "mse"])
def test_the_loss_of_rfad_by_hand_and_its_gradient(batch, name):
    start, method = toy.synthetic(2), RFAD(MODEL, num_networks=3, loss=name)
    psi = method.init(KEY, start, batch).psi
    noise = 0.1 * jax.random.normal(jax.random.key(2), psi.transform.shape)
    psi = psi._replace(log_temperature=jnp.array(0.7), transform=psi.transform + noise)
    loss = jax.jit(lambda psi: method.outer_loss(psi, KEY, batch)[0])
    x_s = np.asarray(psi.inputs).reshape(6, -1) @ np.asarray(psi.transform)
    k_ss, k_ts = 0.01, 0.01
    for key in jax.random.split(KEY, 3):
        phi_s, phi_t = features(rfad.draw(key, MODEL), x_s.reshape(psi.inputs.shape), batch.inputs)
        k_ss, k_ts = (k + 2 * phi @ phi_s.T / (3 * phi_s.shape[1]) for k, phi in ((k_ss, phi_s), (k_ts, phi_t)))
    predicted = regression(k_ss, k_ts, psi.labels, 5e-3)
    error = np.mean((predicted - one_hot(batch) + 1 / 3) ** 2) / 2
    expected = {"platt": cross_entropy(np.exp(0.7) * predicted, batch), "mse": error}[name]
    np.testing.assert_allclose(loss(psi), expected, rtol=1e-7)  # centred targets are float32
    assert_gradient(loss, psi)


@pytest.mark.slow
def test_random_features_approach_the_infinite_network(batch):
    """The error of k_ss falls as 1 / sqrt(networks): to a quarter with sixteen times as many."""
    model, x = toy.model("dc_convnet", width=16, depth=1, norm="none"), batch.inputs[:5]
    nngp, _ = infinite.convnet(1, first=False)(x, x)

    def error(networks):
        estimate, errors = jax.jit(RFAD(model, num_networks=networks).kernels), []
        for key in jax.random.split(KEY, 6):
            k_ss, k_ts = estimate(key, x, x[:2])
            np.testing.assert_allclose(k_ss[:2], k_ts, rtol=1e-9)
            errors.append(np.mean(np.square(k_ss - nngp)))
        return np.mean(errors) ** 0.5

    few, many = error(8), error(128)
    assert many < 0.05 * float(jnp.mean(jnp.diag(nngp))) and 2 < few / many < 8


def test_random_networks_are_scaled_and_differ():
    variables = rfad.draw(KEY, toy.model("dc_convnet", width=64, norm="none"))
    layer = variables["params"]["Conv_1"]
    np.testing.assert_allclose(np.std(layer["kernel"]), (2 / (9 * 64)) ** 0.5, rtol=0.02)
    np.testing.assert_allclose(np.std(layer["bias"]), 0.1, rtol=0.3)
    other = rfad.draw(jax.random.key(1), toy.model("dc_convnet", width=64, norm="none"))
    assert not np.allclose(layer["kernel"], other["params"]["Conv_1"]["kernel"])


def test_a_singular_gram_matrix_raises_the_ridge_and_says_so():
    phi = jnp.ones((4, 3), jnp.float32) * jnp.array([[1], [1], [1], [2]], jnp.float32)
    k, y = ridge.gram(phi, phi) - 1e-4 * jnp.eye(4, dtype=jnp.float32), jnp.eye(4, dtype=jnp.float32)
    predictions, times = ridge.predict_raised(k, k, y, 1e-6)
    assert np.all(np.isfinite(predictions)) and 10 <= float(times) <= 1e3
    _, once = ridge.predict_raised(jnp.eye(4), jnp.eye(4), jnp.eye(4), 1e-6)
    assert float(once) == 1


def test_more_rows_than_features_are_said_in_float32():
    model = find("rcig.models", "convnet").make((8, 8, 1), 3, width=4, depth=2)  # 2 x 2 pixels of 8 channels
    inputs = jnp.zeros((20, 8, 8, 1), jnp.float32)
    with jax.enable_x64(False):
        FRePo(model)._warn_of_precision(inputs)
        with pytest.warns(UserWarning, match="40 rows, mirrored ones included, have 32 features only"):
            FRePo(model, flip=True)._warn_of_precision(inputs)
    with jax.enable_x64(True):
        FRePo(model, flip=True)._warn_of_precision(inputs)


def test_features_are_the_networks_own(batch):
    variables = MODEL.init(KEY)
    expected = MODEL.apply(variables, batch.inputs, False, None)[0].features
    np.testing.assert_allclose(chunks.map_features(MODEL, variables, batch.inputs, 7), expected, rtol=1e-12)


@pytest.mark.parametrize("option", ["ridge", "learning_rate", "batch_size"])
def test_mistakes(option):
    for make in (FRePo, RFAD):
        with pytest.raises(UserError, match=f"method.{option} must be positive, not 0"):
            make(MODEL, **{option: 0})
        with pytest.raises(UserError, match="did you mean 'platt'"):
            make(MODEL, loss="plat")
    with pytest.raises(UserError, match="set model.norm to none"):
        rfad.draw(KEY, toy.model("dc_convnet"))
