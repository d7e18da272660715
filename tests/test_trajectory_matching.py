"""MTT: its loss and gradients, TESLA's, what is drawn, and experts that survive whatever happens to their files."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from methods.trajectory_matching import Learned, TrajectoryMatching
from rcig import training, trajectories
from rcig.config import load
from rcig.errors import UserError
from rcig.evaluation.standard import PRESETS, Standard
from rcig.initialize import everything
from rcig.models import mlp
from rcig.trajectories import Expert
from rcig.types import Batch

MODEL = toy.in_float64(mlp.make(toy.SHAPE, toy.NUM_CLASSES, width=6, depth=1))  # compiles in no time
PLAIN = {"augmentation": "none", "student_steps": 3, "inner_rate": 0.1, "recorded_epochs": 3}
EXPERT = Expert(2, 64, 0.05, "none")
KEY = jax.random.key(3)


def started(ipc=1, **options):
    """Return a method, what it learns at first, and a pair of parameter vectors."""
    method = TrajectoryMatching(MODEL, **(PLAIN | options))
    learned = method.init(KEY, toy.synthetic(ipc), None).learned
    pair = jnp.stack([trajectories.flatten(MODEL.init(jax.random.key(i))["params"]) for i in (1, 2)])
    return method, learned, pair


@functools.cache
def written_out(detached):
    """Return loss and gradient of a student that takes three steps on the whole set, the weights detached or not."""
    method, learned, pair = started()
    return jax.jit(jax.value_and_grad(lambda learned: by_hand(method, learned, pair, detached)))(learned)


def by_hand(method, learned, pair, detached):
    params, tree = jax.tree.flatten(trajectories.unflatten(MODEL)(pair[0]))
    targets = jnp.repeat(jnp.eye(3), len(learned.inputs) // 3, 0)

    def cross_entropy(params):
        logits = MODEL.apply({"params": tree.unflatten(params)}, learned.inputs, True, None)[0].logits
        return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), 1))

    for _ in range(method.student_steps):
        at = jax.lax.stop_gradient(params) if detached else params
        params = [p - learned.rate * g for p, g in zip(params, jax.grad(cross_entropy)(at), strict=True)]
    student = jnp.concatenate([jnp.ravel(p) for p in params])
    return jnp.sum((student - pair[1]) ** 2) / jnp.sum((pair[0] - pair[1]) ** 2)


def assert_close(a, b, rtol=1e-9):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("mode", ["full", "remat", "block", "mix"])
def test_loss_and_gradient_are_those_written_out(mode):
    method, learned, pair = started(mode=mode)
    (loss, _), gradient = jax.jit(method.gradient)(KEY, learned, pair)
    wanted, slope = written_out(detached=False)
    np.testing.assert_allclose(loss, wanted, rtol=1e-12)
    assert_close(gradient, slope)
    assert float(jnp.max(jnp.abs(gradient.inputs))) > 1e-4 and abs(float(gradient.rate)) > 1e-4


def test_teslas_gradient_leaves_out_what_flows_through_the_students_weights():
    method, learned, pair = started(mode="tesla")
    (loss, _), gradient = jax.jit(method.gradient)(KEY, learned, pair)
    wanted, slope = written_out(detached=True)
    np.testing.assert_allclose(loss, wanted, rtol=1e-12)
    assert_close(gradient, slope)
    assert not np.allclose(gradient.inputs, written_out(detached=False)[1].inputs, rtol=1e-3)


def test_teslas_gradient_of_one_step_is_exact():
    (_, ours), (_, exact) = (
        jax.jit(method.gradient)(KEY, learned, pair)
        for method, learned, pair in (started(student_steps=1, mode=mode) for mode in ("tesla", "full"))
    )
    assert_close(ours, exact)


def test_teslas_memory_does_not_grow_with_the_students_steps():
    def temporary(mode, student_steps):
        method, learned, pair = started(mode=mode, student_steps=student_steps)
        return jax.jit(method.gradient).lower(KEY, learned, pair).compile().memory_analysis().temp_size_in_bytes

    assert temporary("tesla", 200) < temporary("tesla", 4) + 200 * 8 * 8  # the rates and their like
    assert temporary("mix", 200) > temporary("mix", 4) + 190 * 8 * started()[2].shape[1]


def test_gradient_equals_central_differences_with_augmentation_minibatches_and_learned_labels():
    options = {"augmentation": "dsa:crop_scale", "minibatch": 4, "label_learning_rate": 1.0, "mode": "mix"}
    method, learned, pair = started(ipc=3, **options)
    loss = jax.jit(lambda learned: method.loss(KEY, learned, pair)[0])
    gradient = jax.grad(loss)(learned)
    keys = jax.random.split(KEY, 3)
    along = Learned(*(jax.random.normal(k, a.shape) for k, a in zip(keys, jax.tree.leaves(learned), strict=True)))
    slope = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True))
    np.testing.assert_allclose(slope, toy.central_difference(loss, learned, along), rtol=1e-5)
    assert np.any(np.asarray(gradient.labels))


def test_a_pass_of_minibatches_goes_through_the_set_once():
    method, learned, _ = started(ipc=4, minibatch=4)
    select = method._select(KEY, learned.replace(inputs=jnp.arange(12.0)))
    passes = [[float(x) for n in range(3 * p, 3 * p + 3) for x in select(n, KEY)[0]] for p in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(12)) and passes[0] != passes[1]


def test_rows_are_pairs_of_one_expert_so_many_epochs_apart():
    method, _, _ = started(segments=40, max_start_epoch=2, expert_epochs=2)
    epochs = np.tile(np.arange(4), 5)
    rows = np.asarray(method.rows(KEY, jnp.asarray(epochs))).reshape(40, 2)
    assert set(epochs[rows[:, 0]]) == {0, 1} and set(rows[:, 0] // 4) == set(range(5))
    np.testing.assert_array_equal(rows[:, 1] - rows[:, 0], 2)


def test_a_step_is_momentum_on_each_part_at_its_own_rate_and_the_rate_comes_out():
    options = {"learning_rate": 3.0, "label_learning_rate": 2.0, "rate_learning_rate": 0.01, "mode": "full"}
    method, learned, pair = started(**options)
    step, state = jax.jit(method.step), method.init(KEY, toy.synthetic(1), None)
    batch = Batch(pair, jnp.zeros(2, jnp.int32))
    np.testing.assert_allclose(method.synthetic(state).learning_rates, [[0.1]])
    once, _ = step(KEY, state, batch)
    twice, metrics = step(KEY, once, batch)
    gradients = [jax.jit(method.gradient)(KEY, each.learned, pair)[1] for each in (state, once)]
    rates = Learned(3.0, 2.0, 0.01)
    moved = jax.tree.map(lambda x, r, g, h: x - r * g - r * (0.5 * g + h), learned, rates, *gradients)
    assert_close(twice.learned, moved)
    np.testing.assert_allclose(method.synthetic(twice).learning_rates, metrics["rate"][None, None])
    fast = dataclasses.replace(method, rate_learning_rate=1e6)
    rate = float(jax.jit(fast.step)(KEY, state, batch)[0].learned.rate)
    assert rate == pytest.approx(0.001) or rate > 0.1  # it may leap up, not below a hundredth


def test_experts_are_what_the_evaluations_training_loop_makes(tmp_path):
    experts = trajectories.record(KEY, MODEL, toy.dataset(), EXPERT, 2, tmp_path)
    assert experts.shape == (2, 3, sum(leaf.size for leaf in jax.tree.leaves(MODEL.init(KEY)["params"])))
    assert experts.dtype == np.float64
    recipe = training.Recipe(2 * 3, 64, "cross_entropy", "plain_sgd", 0.05)
    keys = jnp.stack([jax.random.fold_in(KEY, 1)])
    *_, last = training.trajectory(keys, MODEL, everything(toy.dataset()), recipe, 6)
    unflatten = trajectories.unflatten(MODEL)
    assert_close(unflatten(jnp.asarray(experts[1, -1])), jax.tree.map(lambda a: a[0], last["params"]))
    assert float(np.abs(experts[:, 1] - experts[:, 0]).max()) > 1e-3


def test_recording_goes_on_where_it_stopped_bit_for_bit(tmp_path):
    def record(folder, count, key=KEY):
        return np.array(trajectories.record(key, MODEL, toy.dataset(), EXPERT, count, tmp_path / folder))

    whole, _ = record("a", 3), record("b", 2)
    np.testing.assert_array_equal(record("b", 3, jax.random.key(9)), whole)  # the folder's key, not the run's
    np.testing.assert_array_equal(record("b", 1), whole[:1])
    # a kill while an expert is written; a file that was cut; a bit that has turned
    path, notes = tmp_path / "b" / "snapshots.bin", tmp_path / "b" / "experts.json"
    path.write_bytes(path.read_bytes()[:-5])
    np.testing.assert_array_equal(record("b", 3), whole)
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    before = (tmp_path / "a" / "snapshots.bin").stat().st_mtime_ns
    np.testing.assert_array_equal(record("b", 3), whole)
    np.testing.assert_array_equal(record("a", 3), whole)
    assert (tmp_path / "a" / "snapshots.bin").stat().st_mtime_ns == before  # what is whole is not recorded again
    said = json.loads(notes.read_text())
    del said["sha256"]["2"]
    notes.write_text(json.dumps(said))
    np.testing.assert_array_equal(record("b", 3), whole)


def test_folders_of_other_experts_and_of_none_are_refused(tmp_path):
    trajectories.record(KEY, MODEL, toy.dataset(), EXPERT, 1, tmp_path)
    for model, dataset, expert, message in (
        (toy.model("mlp", depth=1), toy.dataset(), EXPERT, "another network"),
        (MODEL, toy.dataset(200), EXPERT, "another dataset: toy, 240 rows there and toy, 200 rows here"),
        (MODEL, toy.dataset(), dataclasses.replace(EXPERT, learning_rate=0.1), "another expert"),
    ):
        with pytest.raises(UserError, match=message):
            trajectories.record(KEY, model, dataset, expert, 1, tmp_path)
    said = json.loads((tmp_path / "experts.json").read_text())
    for text in ('{"half', *(json.dumps(said | {"key": key}) for key in ([1], [-1, 0], "key", None))):
        (tmp_path / "experts.json").write_text(text)
        with pytest.raises(UserError, match="must hold expert trajectories"):
            trajectories.record(KEY, MODEL, toy.dataset(), EXPERT, 1, tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_start_epoch": 9}, "record more epochs"),
        ({"mode": "tessla"}, "did you mean 'tesla'"),
        ({"student_steps": 0}, "method.student_steps must be positive"),
        ({"minibatch": -1}, "must not be negative"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(UserError, match=message):
        TrajectoryMatching(MODEL, **(PLAIN | options))


def test_segments_that_do_not_divide_over_the_devices_are_refused_before_experts_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)  # of one process's cores fewer would be taken
    method, _, _ = started()
    with pytest.raises(UserError, match=r"batch of 2 examples is not divisible by 8 devices; .*method\.segments"):
        method.prepare(KEY, toy.dataset(), toy.synthetic(1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_segment_that_two_devices_share_is_refused():
    method, learned, pair = started()
    with pytest.raises(UserError, match="a multiple of their number"):
        method.step(KEY, method.init(KEY, toy.synthetic(1), None), Batch(pair[:1], jnp.zeros(1, jnp.int32)))


def test_the_loss_falls_on_real_experts(tmp_path):
    options = {"num_experts": 2, "batch_size": 32, "expert_learning_rate": 0.1, "learning_rate": 10.0}
    method, _, _ = started(student_steps=6, **options)
    method, drawn, start = method.prepare(KEY, toy.dataset(), toy.synthetic(1), tmp_path)
    train = Batch(jnp.asarray(drawn.train.inputs), jnp.asarray(drawn.train.labels))

    def step(state, key):
        rows = method.rows(key, train.labels)
        return method.step(key, state, Batch(train.inputs[rows], train.labels[rows]))

    state = method.init(KEY, start, train)
    _, metrics = jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(KEY, 40)))(state)
    losses = np.asarray(metrics["loss"])
    assert losses[-10:].mean() < 0.6 * losses[:10].mean()
    shutil.rmtree(tmp_path / "experts")  # the same come back, others would be another run
    method.prepare(KEY, toy.dataset(), toy.synthetic(1), tmp_path)
    shutil.rmtree(tmp_path / "experts")
    with pytest.raises(UserError, match="holds other experts than those with which the run in .* began"):
        method.prepare(jax.random.key(7), toy.dataset(), toy.synthetic(1), tmp_path)


def test_a_set_is_judged_at_its_own_rate():
    protocol = Standard(**PRESETS["mtt"])
    assert protocol.recipe(10, "", 0.03).learning_rate == 0.03
    assert protocol.recipe(10, "").learning_rate == 0.01
    assert Standard(**PRESETS["dsa"], num_steps=0).recipe(10, "", 0.03).learning_rate == 0.01


@pytest.mark.parametrize(
    "cell, options, whitened",
    [  # student steps, expert epochs, starts below, image rate, rate of the rate, first rate, minibatch
        ("cifar10_ipc1", (50, 2, 2, 100, 1e-7, 0.01, 0), True),
        ("cifar10_ipc10", (30, 2, 20, 100, 1e-5, 0.001, 0), True),
        ("cifar10_ipc50", (30, 2, 40, 1000, 1e-5, 0.001, 0), False),
        ("cifar100_ipc1", (20, 3, 20, 1000, 1e-5, 0.01, 0), True),
        ("cifar100_ipc10", (20, 2, 20, 1000, 1e-5, 0.01, 0), False),
        ("cifar100_ipc50", (80, 2, 40, 1000, 1e-5, 0.01, 125), True),
        ("tiny_imagenet_ipc1", (10, 2, 10, 1e4, 1e-4, 0.01, 0), False),
        ("tiny_imagenet_ipc10", (20, 2, 40, 1e4, 1e-4, 0.01, 200), False),
        ("tiny_imagenet_ipc50", (20, 2, 40, 1e4, 1e-4, 0.01, 300), False),
    ],
)
def test_the_cells_have_the_published_settings(cell, options, whitened):
    config = load(f"configs/mtt.py:{cell}")
    method = config.method
    found = (method.student_steps, method.expert_epochs, method.max_start_epoch, method.learning_rate)
    found += (method.rate_learning_rate, method.inner_rate, method.minibatch)
    assert found == options and (method.expert_learning_rate, method.batch_size) == (0.01, 256)
    plain = "mtt_standard" if cell.startswith("cifar100") else "dc_standard"
    assert config.preprocessing == ("mtt_zca" if whitened else plain)
    assert method.num_experts == 100 and config.num_steps == 5000 and config.model.width == 128
