"""Every method in ``methods/`` keeps the contract: a new file is tested the moment it exists."""

import functools
import tempfile
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax import export

from rcig import lookup, sharding
from rcig.errors import UserError
from rcig.types import Batch, Synthetic

TEACHER = {"teacher_steps": 2, "label_batch_size": 3}
# options that make a method small and fast on the toy data; a method may have several
SMALL = {
    "bptt": [
        {"batch_size": 48, "steps": 1, "inner_rate": 0.1, "num_networks": 2, "learn_labels": True, "mode": "mix"},
    ],
    "distribution_matching": [
        {"batch_size": 16, "augmentation": "dsa:color_crop_cutout_scale_rotate", "learning_rate": 0.3},
    ],
    "frepo": [
        {"batch_size": 48, "pool_size": 2, "pool_max_age": 3, "learning_rate": 0.02},
        {"batch_size": 48, "pool_size": 2, "pool_rows": 2, "flip": True, "decay_steps": 10, "learn_labels": False},
        {"batch_size": 48, "pool_size": 2, "loss": "platt", "learning_rate": 0.02},
    ],
    "gradient_matching": [
        {"batch_size": 16, "match_steps": 3, "network_epochs": 2, "learning_rate": 0.3},
        {"batch_size": 16, "augmentation": "dsa:flip_rotate", "distance": "cos"},
    ],
    "kip": [{"batch_size": 16, "learn_labels": True}],
    "label_solve": [{"batch_size": 48}],
    "lpld": [
        {"images_at_once": 2, "jitter": 1, "class_statistics": "ema", "curriculum": "cosine"} | TEACHER,
        {"supervision": "global", "shared_augmentation": False, "recover_flip": True} | TEACHER,
    ],
    "rat_bptt": [
        {"batch_size": 48, "window": 2, "horizon": 4, "augmentation": "dsa:flip_crop", "learn_labels": True}
        | {"paired_augmentation": True},
    ],
    "rded": [{"candidates": 20, "crops_per_image": 2, "batch_size": 8} | TEACHER],
    "rfad": [
        {"batch_size": 48, "num_networks": 2},
        {"batch_size": 48, "num_networks": 2, "loss": "mse", "transform_learning_rate": 0.0},
    ],
    "rcig": [
        {"batch_size": 48, "pool_size": 2, "pool_max_steps": 2, "pool_max_age": 3, "learning_rate": 0.02},
        {"batch_size": 48, "pool_size": 2, "pool_max_steps": 2, "solver": "adam", "solver_steps": 4, "flip": True},
    ],
    "trajectory_matching": [
        {"num_experts": 2, "recorded_epochs": 2, "expert_epochs": 1, "segments": 8, "student_steps": 2}
        | {"augmentation": "dsa:flip_crop", "mode": mode}
        for mode in ("mix", "tesla")
    ],
}
TEACHERS = ("lpld", "rded")  # want batch norm
CASES = [(name, number) for name in lookup.names("methods") for number in range(len(SMALL.get(name, [{}])))]
# pmap is the same function under another transformation: one method of every kind in the fast suite
FAST_PMAP = [("rcig", 0), ("distribution_matching", 0), ("lpld", 1)]
# other options that share their work out over devices as the first ones do
AS_FIRST = [("frepo", 1), ("frepo", 2), ("gradient_matching", 1), ("rcig", 1), ("rfad", 1), ("trajectory_matching", 1)]
LAYOUTS = [pytest.param(case, "jit", marks=[pytest.mark.slow] * (case in AS_FIRST)) for case in CASES] + [
    pytest.param(case, "pmap", marks=[] if case in FAST_PMAP or case[0] not in SMALL else pytest.mark.slow)
    for case in CASES
]


@functools.cache
def build(name, number):
    """Return (method, data, initial state, start)."""
    options = SMALL.get(name, [{}])[number]
    network = {"norm": "batch"} if name in TEACHERS else {}
    method = lookup.find("methods", name).make(toy.model(activation="softplus", **network), **options)
    train, start = toy.dataset().train, toy.synthetic(1)
    if hasattr(method, "prepare"):
        with tempfile.TemporaryDirectory() as folder:  # what is mapped from its files stays
            method, drawn, start = method.prepare(jax.random.key(2), toy.dataset(), start, Path(folder))
        train = drawn.train
    state = jax.jit(method.init)(jax.random.key(0), start, Batch(*(jnp.asarray(a[:48]) for a in train)))
    return method, Batch(*map(jnp.asarray, train)), state, start


@functools.cache
def compiled(name, number, parallel, num_devices):
    """Return the compiled ``(state, steps, data) -> (state, metrics)``, its layout, and the list of its traces."""
    method, *_ = build(name, number)
    layout, traces = sharding.layout(parallel, num_devices), []

    def body(data, state, step):
        key = jax.random.fold_in(jax.random.key(1), step)
        rows = method.rows(key, data.labels)
        return method.step(key, state, layout.split(jax.tree.map(lambda a: a[rows], data)))

    def run(state, steps, data):
        traces.append(1)
        return jax.lax.scan(functools.partial(body, data), state, steps)

    return layout.compile(run), layout, traces


def run(name, number, parallel="jit", num_devices=1, num_calls=2):
    """Take 2 steps a call; return the states before and after each call, and the metrics."""
    _, data, state, _ = build(name, number)
    step, layout, _ = compiled(name, number, parallel, num_devices)
    state, data = layout.replicate(sharding.fetch((state, data)))
    states, metrics = [sharding.fetch(state)], []
    for call in range(num_calls):
        state, trace = step(state, 2 * call + np.arange(2, dtype=np.int32), data)
        states.append(sharding.fetch(state))
        metrics.append(sharding.fetch(trace))
    return states, metrics


@functools.cache
def two_calls(name, number):
    """Return what `run` does on one device; kept where the test of accelerators has cleared the compiled steps."""
    return run(name, number)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_step_keeps_structure_shapes_and_dtypes(case):
    states, _ = two_calls(*case)
    chex.assert_trees_all_equal_shapes_and_dtypes(states[0], states[-1])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_are_finite_and_compile_once(case):
    states, metrics = two_calls(*case)
    chex.assert_tree_all_finite((states, metrics))
    assert len(compiled(*case, "jit", 1)[2]) == 1
    assert "loss" in metrics[0] and ("accuracy" in metrics[0] or case[0] not in SMALL)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_are_deterministic(case):
    chex.assert_trees_all_equal(two_calls(*case), run(*case))


@pytest.mark.parametrize("case, parallel", LAYOUTS, ids=str)
def test_eight_devices_equal_one(case, parallel):
    one, many = two_calls(*case)[0][1], run(*case, parallel, 8, 1)[0][1]
    chex.assert_trees_all_close(one, many, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_synthetic_set_has_the_starts_shape_and_is_the_start_at_step_zero(case):
    method, _, state, start = build(*case)
    now = method.synthetic(state)
    assert isinstance(now, Synthetic) and now.labels.dtype == start.labels.dtype
    np.testing.assert_allclose(now.inputs, start.inputs, atol=1e-12)
    np.testing.assert_allclose(now.labels, start.labels, atol=1e-12)
    if case[0] == "rded":
        return  # which chooses its images before the loop
    moved = method.synthetic(jax.tree.map(jnp.asarray, two_calls(*case)[0][-1]))
    assert moved.inputs.shape == start.inputs.shape and moved.labels.shape == start.labels.shape
    assert max(np.max(np.abs(moved.inputs - start.inputs)), np.max(np.abs(moved.labels - start.labels))) > 1e-4


@pytest.mark.parametrize("case", [("gradient_matching", 0), ("rcig", 0)], ids=str)
def test_the_loss_falls(case):
    _, metrics = run(*case, "jit", 1, 12)
    losses = np.concatenate([trace["loss"] for trace in metrics])
    assert losses[-6:].mean() < losses[:6].mean() - 0.05


def test_a_network_pool_ages_and_renews():
    states, _ = run("rcig", 0, "jit", 1, 12)
    ages = np.array([state.pool.age for state in states])  # (calls + 1, P)
    assert np.all(ages[0] == 0) and ages.max() < 3
    assert np.any(ages[1:] > 0) and np.any(np.diff(ages, axis=0) < 0)


def test_the_rates_of_adam_fit_their_problem():
    _, _, state, _ = build("rcig", 1)
    assert 1e-5 < float(state.rates.inner) < 10 and 5e-5 < float(state.rates.inverse_hvp) < 1e3
    _, metrics = run("rcig", 1)
    assert np.all(metrics[0]["inner_residual"] < 1)


def test_a_rate_of_adam_that_is_given_is_not_searched():
    _, data, searched, start = build("rcig", 1)
    rcig, batch = lookup.find("methods", "rcig"), jax.tree.map(lambda a: a[:48], data)
    for name, given, other in (("inner_rate", "inner", "inverse_hvp"), ("inverse_hvp_rate", "inverse_hvp", "inner")):
        method = rcig.make(toy.model(activation="softplus"), **SMALL["rcig"][1] | {name: 0.03})
        rates = jax.jit(method.init)(jax.random.key(0), start, batch).rates
        assert getattr(rates, given) == np.float32(0.03) and getattr(rates, other) > 0
    assert rates.inner == searched.rates.inner


@pytest.mark.parametrize("name", ["rcig", "frepo"])
def test_what_is_no_image_has_no_mirror_image(name):
    method = lookup.find("methods", name).make(toy.model("mlp"), flip=True, pool_size=1, batch_size=4)
    state = method.init(jax.random.key(0), toy.synthetic(1), Batch(*(a[:4] for a in toy.dataset().train)))
    flat = state.psi._replace(inputs=state.psi.inputs.reshape(3, -1))
    with pytest.raises(UserError, match="flip mirrors images .H, W, C., not examples .64,.; set it to False"):
        method.step(jax.random.key(1), state.replace(psi=flat), Batch(jnp.zeros((4, 64)), jnp.zeros(4, jnp.int32)))


# bptt's unroll, rcig's features, lpld's teacher
LIKE_ANOTHER = ("rat_bptt", "trajectory_matching", "frepo", "rfad", "rded")
ALL = [pytest.param(name, marks=[pytest.mark.slow] * (name in LIKE_ANOTHER)) for name in lookup.names("methods")]


@pytest.mark.parametrize("name", ALL)
def test_what_an_accelerator_runs_gives_the_same_numbers(name, monkeypatch):
    _, data, state, _ = build(name, 0)
    want = two_calls(name, 0)[0][1]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # XLA's convolution, all rows at once
    jax.clear_caches()
    step, layout, _ = compiled.__wrapped__(name, 0, "jit", 1)
    state, data = layout.replicate(sharding.fetch((state, data)))
    arguments = state, np.arange(2, dtype=np.int32), data
    assert export.export(step, platforms=("cuda", "tpu"))(*arguments).mlir_module_serialized  # nothing lacks there
    got, _ = step(*arguments)
    jax.clear_caches()
    chex.assert_trees_all_close(want, sharding.fetch(got), rtol=1e-9, atol=1e-9)
