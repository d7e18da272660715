"""RCIG's outer step by hand: the loss, the clip, AdaBelief, the moving average, the pool, the rates, the cells."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from kernels import linearize
from methods import _rates, rcig
from methods._problems import PROBLEMS, Psi, Sampling
from rcig import config as configs
from rcig import pool, sharding
from rcig.errors import UserError
from rcig.implicit import MetaGradient
from rcig.types import Batch

K = toy.NUM_CLASSES


def batch(size=24):
    train = toy.dataset().train
    return Batch(jnp.asarray(train.inputs[:size]), jnp.asarray(train.labels[:size]))


def method(**options):
    small = {"batch_size": 24, "pool_size": 2, "tolerance": 1e-9, "max_products": 50}
    return rcig.make(toy.model(activation="softplus"), **small | options)


@pytest.mark.parametrize("flip", [False, True])
def test_the_outer_loss_is_platts_on_the_regression_less_the_margin_of_the_labels(flip):
    model, strength = toy.model(activation="softplus"), 0.05
    psi = Psi(*toy.synthetic(2)[:2], jnp.array(0.4))
    options = (
        model,
        strength,
        flip,
        jnp.float64,
        Sampling(),
        jax.random.key(0),
        model.init(jax.random.key(7)),
        batch(),
    )
    problem = PROBLEMS["convexified"](*options)
    tau = jax.tree.map(lambda a: 0.05 * jnp.sin(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), problem.base)

    seen = lambda x: map(np.asarray, jax.jit(lambda x: linearize.tangent(problem.network(x), problem.base, tau))(x))
    x, y = psi.inputs, np.asarray(psi.labels)
    if flip:
        x, y = jnp.concatenate([x, x[:, :, ::-1]]), np.concatenate([y, y])
    (d_s, phi_s), (d_t, phi_t) = seen(x), seen(problem.batch.inputs)
    alpha = np.linalg.solve(phi_s @ phi_s.T + strength * 2 * K * np.eye(len(x)), y - d_s)  # 2 K images, flips or not
    logits = np.exp(0.4) * (d_t + phi_t @ phi_s.T @ alpha)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    labels = np.sort(np.asarray(psi.labels), 1)
    margin = np.mean(np.minimum(labels[:, -1] - labels[:, -2], 1 / (2 * K)))
    expected = -np.mean(log_p[np.arange(24), problem.batch.labels]) - margin
    loss, accuracy = jax.jit(problem.outer_loss)(tau, psi)
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    assert accuracy == np.mean(np.argmax(logits, 1) == problem.batch.labels)
    assert 0 < margin < 1 / (2 * K) or np.any(labels[:, -1] - labels[:, -2] < 1 / (2 * K))


@pytest.mark.parametrize("clip, learn_labels", [(True, True), (False, True), (True, False)])
def test_the_implicit_part_is_clipped_leaf_by_leaf_to_the_direct_one(clip, learn_labels):
    direct = Psi(jnp.array([3.0, 4.0]), jnp.array([0.0, 1.0]), jnp.array(2.0))
    implicit = Psi(jnp.array([0.0, 50.0]), jnp.array([0.3, 0.4]), jnp.array(0.0))
    combined = method(clip=clip, learn_labels=learn_labels)._combine(MetaGradient(None, direct, implicit, None))
    np.testing.assert_allclose(combined.inputs, [3.0, 9.0] if clip else [3.0, 54.0])  # to norm 5
    np.testing.assert_allclose(combined.labels, [0.3, 1.4] if learn_labels else [0.0, 0.0])  # shorter: as it is
    assert combined.log_temperature == 2.0  # whose implicit part is 0: no 0 / 0


def test_two_steps_of_adabelief_and_the_moving_average():
    """The set's rate and the temperature's; the average of what came after each step, corrected for its start at 0."""
    mine = method(average_decay=0.9)
    state = jax.jit(mine.init)(jax.random.key(0), toy.synthetic(2), batch())
    psi, moments, history = state.psi, [jnp.zeros(())] * 6, []
    step, meta_gradient = jax.jit(mine.step), jax.jit(mine.meta_gradient)
    for t in (1, 2):
        key = jax.random.key(t)
        key_draw, key_problem, *_ = jax.random.split(key, 4)
        network = pool.take(state.pool, jax.random.randint(key_draw, (), 0, 2))
        _, meta = meta_gradient(key_problem, state.rates, network.variables, psi, batch())
        moved = []
        for i, (leaf, g, rate) in enumerate(zip(psi, mine._combine(meta), (0.0027, 0.0027, 0.027), strict=True)):
            m = 0.9 * moments[2 * i] + 0.1 * g
            v = 0.999 * moments[2 * i + 1] + 0.001 * (g - m) ** 2 + 1e-16
            moments[2 * i : 2 * i + 2] = m, v
            moved.append(leaf - rate * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-16))
        psi = Psi(*moved)
        history.append(psi)
        state, _ = step(key, state, batch())
        for got, want in zip(state.psi, psi, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)
    first, second = history
    for got, a, b in zip(mine.synthetic(state)[:2], first, second, strict=False):
        np.testing.assert_allclose(got, (0.1 * 0.9 * a + 0.1 * b) / (1 - 0.9**2), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("flip", [False, True])
def test_a_pool_network_takes_adams_steps_on_the_set_and_its_mirror_images(flip):
    mine = method(flip=flip, pool_max_steps=1, pool_learning_rate=1e-3)
    psi = Psi(*toy.synthetic(2)[:2], jnp.zeros(()))
    member = pool.fresh(jax.random.key(1), mine.model.init, mine._pool_optimizer())
    params = member.variables["params"]
    x, y = psi.inputs, psi.labels
    if flip:
        x, y = jnp.concatenate([x, x[:, :, ::-1]]), jnp.concatenate([y, y])

    def loss(params):
        return jnp.sum(jnp.square(mine.model.apply({"params": params}, x, True, None)[0].logits - y)) / (2 * y.size)

    gradient, after = jax.grad(loss)(params), mine._train(jax.random.key(2), member, psi)
    for g, old, new in zip(*map(jax.tree.leaves, (gradient, params, after.variables["params"])), strict=True):
        np.testing.assert_allclose(new - old, -1e-3 * g / (np.abs(g) + 1e-8), rtol=1e-4, atol=1e-10)
    assert after.age == 1


def test_the_number_of_pool_steps_is_uniform_from_one_to_the_most():
    assert method().pool_max_steps == 15 and method().pool_max_age == 100 and rcig.RCIG(None).pool_size == 30
    mine = method(pool_max_steps=3)
    psi, member = (
        Psi(*toy.synthetic(1)[:2], jnp.zeros(())),
        pool.fresh(jax.random.key(1), mine.model.init, mine._pool_optimizer()),
    )
    age = jax.jit(lambda key: mine._train(key, member, psi).age)
    counts = np.bincount([int(age(jax.random.key(k))) for k in range(60)], minlength=4)
    assert counts[0] == 0 and counts[1:].min() >= 10 and len(counts) == 4


# ---------------------------------------------------------------- the rates of the paper's Adam (reference 1.8)

FELL, ROSE, NEITHER = np.linspace(2, 1, 20), np.linspace(1, 2, 20), np.array([2.0, 1.0, *np.full(18, 1.5)])


def test_what_counts_as_falling():
    assert _rates.fell(jnp.asarray(FELL)) and not _rates.fell(jnp.asarray(ROSE)) and not _rates.fell(jnp.ones(20))
    assert not _rates.fell(jnp.asarray(NEITHER))


@pytest.mark.parametrize(
    "rose, fell, factor",
    [(15, 0, 0.9), (14, 0, 1.0), (0, 35, 1.05), (0, 34, 1.0), (15, 35, 0.9), (0, 0, 1.0)],
)
def test_the_inner_rate_is_adapted_every_fifty_steps(rose, fell, factor):
    traces = [ROSE] * rose + [FELL] * fell + [NEITHER] * (50 - rose - fell)
    rates, adapt = _rates.constant(0.01, 3.0), jax.jit(_rates.adapt)
    for trace in np.random.default_rng(0).permutation(np.stack(traces)):
        assert rates.inner == np.float32(0.01)
        rates = adapt(rates, jnp.asarray(trace))
    np.testing.assert_allclose(rates.inner, 0.01 * factor, rtol=1e-6)
    assert rates.inverse_hvp == 3.0 and (rates.rose, rates.fell, rates.seen) == (0, 0, 0)


@pytest.mark.parametrize("start", [1e-5, 5e-5])
@pytest.mark.parametrize("fails_at", [1e-6, 3e-4, 0.7])
def test_the_search_ends_at_084_times_the_first_rate_that_fails(start, fails_at):
    energies = lambda rate: jnp.where(rate < fails_at, jnp.asarray(FELL), jnp.asarray(NEITHER))
    grid = start * 1.2 ** np.arange(200)
    np.testing.assert_allclose(_rates.search(energies, start), 0.84 * grid[grid >= fails_at][0], rtol=1e-4)


# ---------------------------------------------------------------- published settings (reference section 4)

DEPTH_3 = dict(ridge=5e-4, activation="softplus", direct_rows=0, target_rows=0, implicit_rows=0, pool_rows=0)
RELU = DEPTH_3 | {"activation": "relu"}
ONE, BIG = RELU | {"target_rows": 400}, RELU | dict(target_rows=256, implicit_rows=500, pool_rows=256)
NETTE = RELU | {"target_rows": 256, "ridge": 5e-2}


@pytest.mark.parametrize(
    "cell, flip, expected, steps",
    [
        *(
            (f"rcig_{name}_ipc{ipc}", False, DEPTH_3, steps)
            for name in ("mnist", "fashion_mnist")
            for ipc, steps in ((1, 10000), (10, 10000), (50, 5000))
        ),
        ("rcig_cifar10_ipc1", True, DEPTH_3, 15000),
        ("rcig_cifar10_ipc10", True, DEPTH_3, 10000),
        ("rcig_cifar10_ipc50", True, DEPTH_3, 5000),
        ("rcig_cifar100_ipc1", True, DEPTH_3, 10000),
        ("rcig_cifar100_ipc10", True, DEPTH_3, 5000),
        ("rcig_cifar100_ipc50", False, DEPTH_3 | dict(pool_rows=2000), 3000),
        ("rcig_tiny_imagenet_ipc1", True, ONE, 5000),
        ("rcig_tiny_imagenet_ipc10", False, BIG, 3000),
        ("rcig_imagenet64_ipc1", False, BIG, 3000),
        ("rcig_imagenet64_ipc2", False, BIG, 3000),
        *((f"rcig_{name}_ipc{ipc}", True, NETTE, 3000) for name in ("imagenette", "imagewoof") for ipc in (1, 10)),
        ("rcig_cub_ipc1", True, DEPTH_3, 10000),
    ],
)
def test_the_cells_have_the_published_settings(cell, flip, expected, steps):
    config = configs.load(cell)
    found = {name: config.method[name] for name in expected if name != "activation"}
    assert found | {"activation": config.model.activation} == expected
    assert (config.method.flip, config.eval.flip, config.num_steps, config.initialization) == (
        flip,
        flip,
        steps,
        "real",
    )
    method, model = config.method, config.model
    assert (method.batch_size, method.pool_size, method.pool_max_steps, method.pool_max_age) == (1024, 30, 15, 100)
    assert (method.learning_rate, method.temperature_learning_rate, method.average_decay) == (0.0027, 0.027, 0.99)
    assert (method.solver_steps, method.pool_learning_rate, method.decay_steps) == (20, 5e-5, 0) and method.clip
    assert (model.width, model.norm, model.beta) == (128, "none", 60.0)
    assert config.eval.augmentation == "flip_color_crop_rotate_translate_cutout" or "mnist" in cell
    assert config.eval.model.activation == "relu" and config.labels.name == "centred"


def test_the_judge_of_a_network_with_batch_norm_has_none():
    assert configs.load("rcig_cifar10_ipc1", ["--config.model.norm=batch"]).eval.model.norm == "none"


def test_rows_drawn_from_the_whole_batch_are_the_same_on_many_devices_and_not_for_pmap():
    mine = method(target_rows=4, direct_rows=2)
    state = sharding.fetch(
        mine.init(jax.random.key(0), toy.synthetic(1), batch())
    )  # as a run's state: no shared leaves

    def run(parallel, num_devices):
        layout = sharding.layout(parallel, num_devices)
        step = layout.compile(lambda state, data: mine.step(jax.random.key(1), state, layout.split(data)))
        return sharding.fetch(step(*layout.replicate((state, batch()))))

    chex.assert_trees_all_close(run("jit", 1), run("jit", 2), rtol=1e-6, atol=1e-6)
    with pytest.raises(UserError, match="method.target_rows .* config.parallel=jit"):
        run("pmap", 2)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"problem": "naive", "clip": False, "target_rows": 4}, "target_rows"),
        ({"problem": "nonlinear", "solve_rows": 4}, "solve_rows"),
    ],
)
def test_rows_that_an_ablation_does_not_draw_are_refused(options, name):
    with pytest.raises(UserError, match=f"method.{name} has no part in problem"):
        method(solver="adam", **options)
