"""Differentiable training against finite differences, against the recursion by hand, and one mode against another."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from rcig import schedule, unroll
from rcig.errors import UserError
from rcig.lookup import find
from rcig.types import Model, Outputs, Synthetic

T, N, D = 7, 35, 3  # rows enough for two chunks and a rest


def loss(params, batch, key):
    """A small network that is smooth, so that differences are."""
    inputs, targets = batch
    logits = jnp.tanh(inputs @ params["a"]) @ params["b"]
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=1))


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(0), 6)
    params = {"a": jax.random.normal(keys[0], (4, 6)), "b": jax.random.normal(keys[1], (6, 3))}
    inputs, labels = jax.random.normal(keys[2], (N * D, 4)), jax.random.normal(keys[3], (N * D, 3))
    rates = 0.3 + 0.1 * jax.random.uniform(keys[4], (T,))
    real = (jax.random.normal(keys[5], (20, 4)), jax.nn.one_hot(jnp.arange(20) % 3, 3, dtype=float))
    return params, inputs, labels, rates, real


def outer(problem, inputs, labels, rates, rule="sgd", mode="full", window=0):
    params, *_, real = problem
    rule = unroll.direction(rule)
    select = unroll.passes(inputs, labels, D)
    key = jax.random.key(3)
    start = unroll.begin(params, rule)
    if window:
        start = unroll.skip(key, unroll.Loss(loss), rule, start, select, 0.2, jnp.int32(window))
    trained = unroll.train(key, unroll.Loss(loss), rule, start, select, rates, first=window, mode=mode)
    return loss(trained.params, real, None)


@pytest.mark.parametrize("rule", unroll.DIRECTIONS)
def test_gradient_equals_central_differences(problem, rule):
    _, *psi, _ = problem
    value = lambda psi: outer(problem, *psi, rule=rule)
    gradient, value = jax.jit(jax.grad(value))(psi), jax.jit(value)
    rng = np.random.default_rng(0)
    for which in range(3):
        for _ in range(4):
            along = [jnp.asarray(rng.normal(size=p.shape)) * (i == which) for i, p in enumerate(psi)]
            numeric = toy.central_difference(value, psi, along)
            np.testing.assert_allclose(jnp.vdot(gradient[which], along[which]), numeric, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("rule", unroll.DIRECTIONS)
def test_modes_agree(problem, rule):
    _, *psi, _ = problem
    value = lambda mode: jax.jit(jax.value_and_grad(lambda *psi: outer(problem, *psi, rule, mode), (0, 1, 2)))(*psi)
    expected, *others = map(value, unroll.MODES)
    for actual in others:
        for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("mode", ["full", "mix"])
def test_a_weight_that_changes_nothing_leaves_the_gradient_of_adam_finite(problem, mode):
    """As a bias before a normalisation: its gradient is 0, where the root of Adam's second moment has no slope."""
    params, inputs, labels, rates, _ = problem
    rule = unroll.direction("adam")

    def with_idle(params, batch, key):
        return loss(params, batch, key) + jnp.sum(0.0 * (batch[0] @ params["idle"]))

    def after(inputs):
        start, select = unroll.begin({**params, "idle": jnp.ones(4)}, rule), unroll.passes(inputs, labels, D)
        trained = unroll.train(jax.random.key(3), unroll.Loss(with_idle), rule, start, select, rates, mode=mode)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(trained.params))

    assert np.all(np.isfinite(jax.grad(after)(inputs)))


def test_gradient_equals_the_recursion_by_hand(problem):
    """Wang et al.'s reverse recursion: x' += -r (d2L/dx dw)^T v, r' = -<g, v>, v <- v - r H v."""
    params, inputs, labels, rates, real = problem
    flat, rebuild = jax.flatten_util.ravel_pytree(params)
    parts = [(inputs[d::D], labels[d::D]) for d in range(D)]
    g = lambda w, x, y: jax.grad(lambda w: loss(rebuild(w), (x, y), None))(w)
    path = [flat]
    for t in range(T):
        path.append(path[-1] - rates[t] * g(path[-1], *parts[t % D]))
    v = jax.grad(lambda w: loss(rebuild(w), real, None))(path[-1])
    x_bar, rate_bar = [jnp.zeros_like(x) for x, _ in parts], [0.0] * T
    for t in reversed(range(T)):
        _, pull = jax.vjp(g, path[t], *parts[t % D])
        hv, xv, _ = pull(v)
        rate_bar[t] = -jnp.vdot(g(path[t], *parts[t % D]), v)
        x_bar[t % D] -= rates[t] * xv
        v = v - rates[t] * hv
    got_x, got_rates = jax.grad(lambda x, r: outer(problem, x, labels, r), (0, 1))(inputs, rates)
    for d in range(D):
        np.testing.assert_allclose(got_x[d::D], x_bar[d], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got_rates, jnp.stack(rate_bar), rtol=1e-9)


def test_a_window_continues_the_run_and_stops_the_gradient(problem):
    _, inputs, labels, rates, _ = problem
    whole = outer(problem, inputs, labels, jnp.concatenate([jnp.full(4, 0.2), rates[:3]]), "adam")
    cut = outer(problem, inputs, labels, rates[:3], "adam", window=4)
    np.testing.assert_allclose(cut, whole, rtol=1e-12)
    one = jax.grad(lambda x: outer(problem, x, labels, rates[:1], window=3))(inputs)
    assert jnp.all(one[1::D] == 0) and jnp.all(one[2::D] == 0) and jnp.any(one[0::D] != 0)  # step 3 shows part 0


def test_choose_mode_by_the_budget(problem):
    params, inputs, labels, rates, _ = problem
    rule = unroll.direction("sgd")
    batch = unroll.passes(inputs, labels, D)(0, None)
    choose = lambda budget, steps: unroll.choose_mode(
        budget, unroll.Loss(loss), rule, unroll.begin(params, rule), batch, steps
    )
    assert choose(10**9, 10) == "full" and choose(10**3, 10) == "mix"
    assert choose(10**5, 1) == "full" and choose(10**5, 10**5) == "mix"


def test_a_mixed_gradient_keeps_less(problem):
    """What the backward pass holds of a step of a network is a fraction of what plain reverse mode holds."""
    model = find("rcig.models", "dc_convnet").make((16, 16, 3), 10, width=8, depth=1)
    variables = jax.jit(model.init)(jax.random.key(0))
    synthetic = Synthetic(jnp.ones((40, 16, 16, 3)), jnp.eye(10).repeat(4, 0), jnp.full((12, 2), 0.1))

    def bytes_of(mode):
        after = lambda s: schedule.learn(jax.random.key(0), model, variables, s, mode=mode)["params"]["head"]["bias"]
        gradient = jax.jit(jax.grad(lambda s: jnp.sum(jnp.square(after(s)))))
        return gradient.lower(synthetic).compile().memory_analysis().temp_size_in_bytes

    full = bytes_of("full")
    assert bytes_of("mix") < full / 3 and bytes_of("remat") < full / 3 and bytes_of("block") < full / 3


def network(name):
    """Return a network with more than parameters, or with dropout, and a set for it."""
    rng = np.random.default_rng(0)
    if name == "batch norm":
        model, shape = find("rcig.models", "convnet").make((8, 8, 1), 3, width=3, depth=1, norm="batch"), (8, 8, 1)
    else:
        options = {"transformer": dict(depth=1, num_heads=2), "dropout": {}}[name]
        plugin = {"transformer": "text_transformer", "dropout": "text_convnet"}[name]
        model, shape = find("rcig.models", plugin).make((6, 8), 3, **options), (6, 8)
    inputs, labels = rng.normal(size=(6, *shape)), np.eye(3).repeat(2, 0)
    return model, Synthetic(jnp.asarray(inputs), jnp.asarray(labels), jnp.full((2, 2), 0.1))


@pytest.mark.parametrize(
    "name, modes",
    [
        ("batch norm", ["mix"]),
        pytest.param("transformer", ["mix"], marks=pytest.mark.slow),
        ("dropout", ["mix", "block"]),
    ],
)
def test_modes_agree_for_networks_with_more_than_parameters(name, modes):
    """As methods call them, inside jit, for several networks; every mode sees the same statistics and dropout."""
    model, synthetic = network(name)
    networks = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 2))

    @partial(jax.jit, static_argnames="mode")
    def gradient(networks, synthetic, mode):
        def of(variables):
            learn = lambda s: schedule.learn(jax.random.key(1), model, variables, s, mode=mode)["params"]
            return jax.grad(lambda s: sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(learn(s))))(synthetic)

        return jax.lax.map(of, networks)

    expected, *others = (gradient(networks, synthetic, each) for each in ("full", *modes))
    rtol, atol = (1e-4, 1e-6) if name == "transformer" else (1e-8, 1e-11)  # parts of flax's attention are float32
    for actual in others:
        for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    assert np.abs(expected.inputs).max() > 1e-6


@pytest.mark.parametrize("label_softmax", [False, True])
def test_the_inner_loss_takes_labels_as_they_are_or_their_softmax(label_softmax):
    model, synthetic = network("batch norm")
    variables, logits = model.init(jax.random.key(0)), np.random.default_rng(1).normal(size=(6, 3))
    told = Model(model.init, lambda *_: (Outputs(jnp.asarray(logits), None), variables))
    labels = 3 * np.random.default_rng(2).normal(size=(6, 3))
    loss = schedule.inner_loss(told, variables, label_softmax)
    found = loss.fn(variables["params"], (synthetic.inputs, jnp.asarray(labels)), None, *loss.constants)
    targets = np.exp(labels) / np.exp(labels).sum(1, keepdims=True) if label_softmax else labels
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(found, -np.mean(np.sum(targets * log_p, 1)), rtol=1e-10)


def test_the_schedule_is_plain_gradient_descent():
    def apply(variables, inputs, train, key):
        features = inputs.reshape(len(inputs), -1)
        head = variables["params"]["head"]
        return Outputs(features @ head["kernel"] + head["bias"][None], features), variables

    model = Model(lambda key: {"params": {"head": {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}}}, apply)
    inputs, labels = jax.random.normal(jax.random.key(0), (6, 4)), jnp.eye(2).repeat(3, 0)
    rates = jnp.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    got = schedule.learn(jax.random.key(1), model, model.init(None), Synthetic(inputs, labels, rates))
    kernel, bias, rates = np.zeros((4, 2)), np.zeros(2), np.asarray(rates)
    for e in range(2):
        for d in range(3):
            x, y = np.asarray(inputs[d::3]), np.asarray(labels[d::3])
            logits = x @ kernel + bias
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            kernel, bias = kernel - rates[e, d] * x.T @ (p - y) / 2, bias - rates[e, d] * (p - y).mean(0)
    np.testing.assert_allclose(got["params"]["head"]["kernel"], kernel, rtol=1e-9)
    np.testing.assert_allclose(got["params"]["head"]["bias"], bias, rtol=1e-9)


def test_mistakes():
    with pytest.raises(UserError, match="split into equal steps, not 4"):
        unroll.passes(jnp.zeros((10, 2)), jnp.zeros((10, 3)), 4)
    with pytest.raises(UserError, match="did you mean|momentum"):
        unroll.direction("momentun")
    with pytest.raises(UserError, match="no learning rates"):
        schedule.learn(None, None, None, Synthetic(jnp.zeros((2, 2)), jnp.zeros((2, 2))))
