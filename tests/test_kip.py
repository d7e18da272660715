"""KIP and label solve against their formulas and finite differences; the kernel protocol by hand."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from data_files import real_data_dir

from kernels import infinite, ridge
from methods.kip import KIP
from methods.label_solve import LabelSolve
from rcig import data
from rcig.errors import UserError
from rcig.evaluation import kernel as protocol
from rcig.lookup import find
from rcig.types import Batch, Synthetic

MODEL = toy.model()


@pytest.fixture(scope="module")
def batch():
    return Batch(*(jnp.asarray(a[:60]) for a in toy.dataset().train))


def regression(synthetic, inputs, relative_ridge):
    """Predict by the textbook formula."""
    k_ss, k_ts = (np.asarray(infinite.fully_connected(1)(x, synthetic.inputs)[1]) for x in (synthetic.inputs, inputs))
    strength = relative_ridge * np.trace(k_ss) / len(k_ss)
    return k_ts @ np.linalg.solve(k_ss + strength * np.eye(len(k_ss)), np.asarray(synthetic.labels))


def test_the_loss_of_kip_by_hand_and_its_gradient(batch):
    start, method = toy.synthetic(2), KIP(MODEL, ridge=1e-2)
    psi = Synthetic(start.inputs, start.labels)
    targets = np.eye(3)[np.asarray(batch.labels)] - 1 / 3
    expected = np.mean((regression(start, batch.inputs, 1e-2) - targets) ** 2) / 2
    loss = jax.jit(lambda psi: method.loss(psi, batch)[0])
    np.testing.assert_allclose(loss(psi), expected, rtol=1e-6)
    along = Synthetic(jax.random.normal(jax.random.key(1), start.inputs.shape), jnp.ones_like(start.labels))
    gradient = jax.grad(loss)(psi)
    inner = jnp.vdot(gradient.inputs, along.inputs) + jnp.vdot(gradient.labels, along.labels)
    np.testing.assert_allclose(inner, toy.central_difference(loss, psi, along), rtol=1e-5)


def test_kip_learns_images_and_labels_or_images_alone(batch):
    for learn_labels in (False, True):
        method = KIP(MODEL, learn_labels=learn_labels)
        state = first = method.init(jax.random.key(0), toy.synthetic(1), batch)
        losses, step = [], jax.jit(method.step)
        for _ in range(20):
            state, metrics = step(jax.random.key(0), state, batch)
            losses.append(float(metrics["loss"]))
        assert losses[-1] < 0.9 * losses[0]
        assert bool(jnp.any(state.psi.labels != first.psi.labels)) is learn_labels


def test_solved_labels_are_the_least_squares_solution(batch):
    method = LabelSolve(MODEL, ridge=1e-3, batch_size=60)
    state = method.init(jax.random.key(0), toy.synthetic(2), batch)
    solved, metrics = method.step(jax.random.key(0), state, batch)
    a = regression(Synthetic(state.inputs, np.eye(6)), batch.inputs, 1e-3)
    targets = np.eye(3)[np.asarray(batch.labels)] - 1 / 3
    expected, *_ = np.linalg.lstsq(a, targets, rcond=None)
    np.testing.assert_allclose(solved.labels, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(metrics["loss"], np.mean((a @ expected - targets) ** 2) / 2, rtol=1e-4)


@pytest.mark.parametrize(
    "name, rows, pool", [("digits", 60, 2), pytest.param("mnist", 1000, 4, marks=pytest.mark.slow)]
)
def test_the_convnets_kernel_knows_images_and_better_by_solved_labels(name, rows, pool):
    """Of one real image a class, of means of ``pool`` x ``pool`` pixels: the cost is the fourth power of the side."""
    dataset = data.load(name, data_dir=real_data_dir(name) if name == "mnist" else None)
    small = lambda x: x.reshape(len(x), -1, pool, x.shape[2] // pool, pool, 1).mean((2, 4)).astype(np.float64)
    train, test = (Batch(small(part.inputs[:rows]), part.labels[:rows]) for part in (dataset.train, dataset.test))
    first = [np.flatnonzero(train.labels == label)[0] for label in range(10)]
    start = Synthetic(jnp.asarray(train.inputs[first]), jnp.eye(10) - 0.1)
    method = LabelSolve(MODEL, kernel="convnet", depth=1)
    solved, _ = jax.jit(method.step)(None, method.init(None, start, train), train)
    few, options = dataclasses.replace(dataset, train=train, test=test), protocol.KernelRegression("convnet", 1)
    hard, soft = (
        protocol.evaluate(jax.random.key(0), labelled, few, None, options).accuracy
        for labelled in (start, method.synthetic(solved))
    )
    assert soft > max(hard, 0.5)


@pytest.mark.parametrize("flip", [False, True])
def test_the_protocol_is_kernel_regression(flip):
    dataset, synthetic = toy.dataset(), toy.synthetic(2)
    options = protocol.KernelRegression(ridge=1e-2, test_chunk=50, flip=flip)
    result = protocol.evaluate(jax.random.key(0), synthetic, dataset, None, options)
    if flip:
        pairs = (synthetic.inputs, synthetic.inputs[:, :, ::-1]), (synthetic.labels, synthetic.labels)
        synthetic = Synthetic(*map(np.concatenate, pairs))
    predicted = np.argmax(regression(synthetic, jnp.asarray(dataset.test.inputs), 1e-2), 1)
    assert result.accuracy == np.mean(predicted == dataset.test.labels) and result.n == 1


def rows_of_jacobian(model, variables, inputs):
    """Return what the parameters do to every output of every example, (N K, P)."""
    outputs = lambda params: model.apply({"params": params}, jnp.asarray(inputs), False, None)[0].logits.reshape(-1)
    blocks = jax.tree.leaves(jax.jit(jax.jacobian(outputs))(variables["params"]))
    return np.concatenate([block.reshape(len(block), -1) for block in blocks], 1)


def features_of(model, variables, inputs):
    return np.asarray(model.apply(variables, jnp.asarray(inputs), False, None)[0].features)


@pytest.mark.parametrize("name, rows", [("empirical_ntk", rows_of_jacobian), ("empirical_nngp", features_of)])
def test_an_empirical_kernel_is_regression_on_what_the_network_makes_of_an_example(name, rows):
    model, dataset, synthetic = toy.model(), toy.dataset(num_test=60), toy.synthetic(1)
    options = protocol.KernelRegression(name, ridge=1e-3, num_networks=2, test_chunk=32, trained_networks=1)
    result = protocol.evaluate(jax.random.key(3), synthetic, dataset, model, options)
    expected = []
    for key in jax.random.split(jax.random.split(jax.random.key(3))[0], 2):
        variables = model.init(key)
        of_set, of_test = (rows(model, variables, x) for x in (synthetic.inputs, dataset.test.inputs))
        k_ss = of_set @ of_set.T
        alpha = np.linalg.solve(
            k_ss + 1e-3 * np.mean(np.diag(k_ss)) * np.eye(len(k_ss)),
            np.asarray(synthetic.labels).reshape(len(k_ss), -1),
        )
        predicted = np.argmax((of_test @ of_set.T @ alpha).reshape(60, 3), 1)
        expected.append(np.mean(predicted == dataset.test.labels))
    np.testing.assert_array_equal(result.accuracies, expected)
    table = result.details["measures"]
    assert table["accuracy, kernel"]["mean"] == result.accuracy and table["accuracy, trained networks"]["mean"] > 0


def test_a_singular_kernel_matrix_raises_the_ridge_and_says_so(batch):
    """In float32 the kernel of a repeated image is indefinite by more than the ridge."""
    start, options = toy.synthetic(1), {"ridge": 1e-9}
    twice = Synthetic(*(jnp.concatenate(100 * [a]).astype(jnp.float32) for a in start[:2]))
    data = toy.dataset(num_test=30)
    with jax.enable_x64(False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for make in (KIP, LabelSolve):
            method = make(MODEL, **options)
            state, metrics = jax.jit(method.step)(
                jax.random.key(0), method.init(jax.random.key(0), twice, batch), batch
            )
            assert metrics["ridge_raised"] >= 10
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((state, metrics)))
        result = protocol.evaluate(jax.random.key(0), twice, data, None, protocol.KernelRegression(**options))
        jax.effects_barrier()
    assert result.details["ridge_raised"] >= 10
    told = [str(warning.message) for warning in caught if "condition number" in str(warning.message)]
    assert len(told) == 3 and "eval.ridge 1e-09" in told[-1] and "--config.x64=True" in told[0]


def test_the_matrix_of_a_set_is_made_once(monkeypatch):
    made, ntk = [], infinite.ntk
    monkeypatch.setattr(infinite, "ntk", lambda *given: made.append((len(given[2]), len(given[3]))) or ntk(*given))
    few = Synthetic(*(jnp.asarray(a, jnp.float32) for a in toy.synthetic(2)[:2]))
    with jax.enable_x64(False):
        protocol.evaluate(jax.random.key(0), few, toy.dataset(num_test=30), None, protocol.KernelRegression())
    assert made.count((6, 6)) == 1


def test_a_sound_kernel_matrix_is_left_alone(batch):
    method = KIP(MODEL, ridge=1e-2)
    _, metrics = jax.jit(method.step)(jax.random.key(0), method.init(None, toy.synthetic(2), batch), batch)
    assert metrics["ridge_raised"] == 1


def test_a_kernel_that_leaves_no_pixels_is_refused(batch):
    """It would be NaN, whose largest class is always the first."""
    options = {"kernel": "convnet", "depth": 4}
    with pytest.raises(UserError, match="eval.kernel .* does not fit examples .*no pixels are left"):
        protocol.evaluate(
            jax.random.key(0), toy.synthetic(1), toy.dataset(), None, protocol.KernelRegression(**options)
        )
    for make in (KIP, LabelSolve):
        with pytest.raises(UserError, match="method.kernel .* does not fit examples"):
            jax.eval_shape(make(MODEL, **options).init, jax.random.key(0), toy.synthetic(1), batch)


def test_in_64_bit_mode_the_matrix_of_a_narrow_network_is_solved_in_64_bits():
    """More rows than features: in float32 only a raised ridge has a factor."""
    dataset, many = toy.dataset(num_test=30), toy.synthetic(40)
    model = find("rcig.models", "convnet").make(dataset.example_shape, 3, width=4, depth=1)
    many = Synthetic(*(jnp.asarray(a, jnp.float32) for a in many[:2]))
    options = protocol.KernelRegression("empirical_nngp", num_networks=1, ridge=1e-9)
    raised = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            details = protocol.evaluate(jax.random.key(0), many, dataset, model, options).details
            raised.append(details["ridge_raised"])
    assert raised[0] > 1 == raised[1]


def test_condition_number():
    k = jnp.diag(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(ridge.condition(k, 0.5), (3 + 1) / (1 + 1))
    assert ridge.condition(k - 2 * jnp.eye(3), 0.0) == jnp.inf


@pytest.mark.parametrize(
    "options",
    [{"kernel": "conv"}, {"kernel": "empirical"}, {"depth": 0}, {"kernel": "myrtle", "depth": 6}, {"ridge": 0.0}],
)
def test_mistakes(options):
    for make in (protocol.KernelRegression, lambda **o: KIP(MODEL, **o), lambda **o: LabelSolve(MODEL, **o)):
        with pytest.raises(UserError):
            make(**options)
