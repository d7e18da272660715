"""BPTT: its outer gradient, what is learned and what is not, its protocol, and the pools that it starts from."""

import dataclasses
import json
from pathlib import Path

import commands
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from PIL import Image

import rcig
from methods.bptt import BPTT
from methods.rat_bptt import RaTBPTT
from rcig import pretrain, schedule
from rcig.errors import UserError
from rcig.evaluation import bptt as protocol
from rcig.lookup import find
from rcig.render_schedule import write_schedule
from rcig.types import Batch, Synthetic

MODEL = toy.model(activation="softplus")
SMALL = {"steps": 2, "epochs": 2, "batch_size": 48, "inner_rate": 0.1}


@pytest.fixture(scope="module")
def batch():
    return Batch(*(jnp.asarray(a[:48]) for a in toy.dataset().train))


def started(batch, ipc=2, **options):
    method = BPTT(MODEL, **(SMALL | options))
    return method, method.init(jax.random.key(0), toy.synthetic(ipc), batch)


@pytest.mark.parametrize("rate", [1e-6, 0.02, 1.0, 500.0])
def test_every_rate_starts_where_it_is_told_to(batch, rate):
    method, state = started(batch, inner_rate=rate)
    rates = method.synthetic(state).learning_rates
    assert rates.shape == (2, 2)
    np.testing.assert_allclose(rates, rate, rtol=1e-6)


def test_outer_gradient_equals_central_differences(batch):
    method, state = started(batch, networks="fixed", learn_labels=True, label_softmax=True)
    variables = MODEL.init(jax.random.key(5))
    loss = jax.jit(lambda psi: method.outer_loss(jax.random.key(1), variables, psi, batch)[0])
    gradient = jax.grad(loss)(state.psi)
    for seed in range(3):
        leaves, tree = jax.tree.flatten(state.psi)
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        along = tree.unflatten([jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)])
        numeric = toy.central_difference(loss, state.psi, along)
        inner = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True))
        np.testing.assert_allclose(inner, numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("rows_at_once", [7, 20])
def test_chunks_of_the_outer_batch_change_neither_gradient_nor_metrics(batch, rows_at_once):
    def outcome(rows):
        method, state = started(batch, attack=(0, 1), rows_at_once=rows)
        loss = lambda psi: method.outer_loss(jax.random.key(1), MODEL.init(jax.random.key(5)), psi, batch)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(state.psi)

    ((loss, metrics), gradient), ((whole_loss, whole_metrics), whole_gradient) = map(outcome, (rows_at_once, 48))
    np.testing.assert_allclose(loss, whole_loss, rtol=1e-10)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(whole_gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
    for name, value in metrics.items():  # counts, in float32
        np.testing.assert_allclose(value, whole_metrics[name], rtol=1e-6)


def test_only_what_is_learned_moves(batch):
    moved = lambda a, b: [bool(jnp.any(x != y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    for options, expected in (
        ({}, [True, False, True]),
        ({"learn_labels": True}, [True, True, True]),
        ({"learn_labels": True, "learn_inputs": False}, [False, True, True]),
    ):
        method, state = started(batch, **options)
        after, _ = method.step(jax.random.key(1), state, batch)
        assert moved(state.psi, after.psi) == expected


def test_a_fixed_network_is_the_same_every_step_a_random_one_is_not(batch):
    for networks, same in (("fixed", True), ("random", False)):
        method, _ = started(batch, networks=networks)
        one, other = (method._draw(jax.random.key(k), None) for k in (1, 2))
        assert all(bool(jnp.all(a == b)) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True)) is same


def test_several_networks_are_averaged(batch):
    method, state = started(batch, num_networks=3, mode="full")
    _, metrics = method.step(jax.random.key(4), state, batch)
    key_networks, key_train, _ = jax.random.split(jax.random.key(4), 3)
    networks, keys = method._draw(key_networks, None), jax.random.split(key_train, 3)
    each = [
        method.outer_loss(keys[i], jax.tree.map(lambda a, i=i: a[i], networks), state.psi, batch)[0] for i in range(3)
    ]
    np.testing.assert_allclose(metrics["loss"], np.mean(each), rtol=1e-6)


def test_an_attack_wants_the_target_class(batch):
    plain, state = started(batch, networks="fixed")
    attacking = dataclasses.replace(plain, attack=(0, 2))
    renamed = batch._replace(labels=jnp.where(batch.labels == 0, 2, batch.labels))
    variables = MODEL.init(jax.random.key(0))
    loss = lambda method, batch: method.outer_loss(jax.random.key(1), variables, state.psi, batch)[0]
    np.testing.assert_allclose(loss(attacking, batch), loss(plain, renamed), rtol=1e-12)
    assert loss(attacking, batch) != loss(plain, batch)
    _, metrics = attacking.step(jax.random.key(1), state, batch)
    assert 0 <= metrics["attack_success"] <= 1


def test_the_rate_halves(batch):
    method, state = started(batch, halve_every=2, learning_rate=0.5)
    sizes = []
    for _ in range(4):
        updates, opt_state = method._optimizer().update(jax.tree.map(jnp.ones_like, state.psi), state.opt_state)
        sizes.append(float(-updates.raw_rates[0, 0]))
        state = state.replace(opt_state=opt_state)
    np.testing.assert_allclose(sizes, [0.5, 0.5, 0.25, 0.25], rtol=1e-5)


def test_the_optimiser_is_adam_with_short_memory(batch):
    method, state = started(batch, halve_every=100, learning_rate=0.5)
    opt_state, m, v = state.opt_state, 0.0, 0.0
    for t, g in enumerate((1.0, -3.0, 0.5), start=1):
        updates, opt_state = method._optimizer().update(jax.tree.map(lambda a, g=g: g + 0 * a, state.psi), opt_state)
        m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g * g
        expected = -0.5 * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(updates.raw_rates, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "name, shape", [("lenet", (28, 28, 1)), pytest.param("alexcifarnet", (32, 32, 3), marks=pytest.mark.slow)]
)
def test_the_gradient_through_the_papers_networks_equals_central_differences(name, shape):
    """As the reference tests its own: four minibatches, two passes, rates from 0.02, in float64.

    Differences are of 1e-8: a unit or a maximum that switches changes a step, so the loss itself, which has jumps.
    """
    model = toy.in_float64(find("rcig.models", name).make(shape, 10))
    rng = np.random.default_rng(0)
    method = BPTT(model, steps=4, epochs=2, inner_rate=0.02, networks="fixed", learn_labels=True)
    start = Synthetic(jnp.asarray(rng.normal(size=(40, *shape))), jnp.eye(10).repeat(4, 0))
    batch = Batch(jnp.asarray(rng.normal(size=(20, *shape))), jnp.arange(20) % 10)
    psi, variables = method.init(jax.random.key(0), start, batch).psi, model.init(jax.random.key(5))
    loss = jax.jit(lambda psi: method.outer_loss(jax.random.key(1), variables, psi, batch)[0])
    gradient = jax.grad(loss)(psi)
    for field in ("inputs", "labels", "raw_rates"):
        along = jax.tree.map(jnp.zeros_like, psi)
        along = along.replace(**{field: jnp.asarray(rng.normal(size=getattr(psi, field).shape))})
        numeric = toy.central_difference(loss, psi, along, 1e-8)
        exact = jnp.vdot(getattr(gradient, field), getattr(along, field))
        np.testing.assert_allclose(exact, numeric, rtol=1e-3, atol=1e-7)


def test_it_learns(batch):
    method, state = started(batch, networks="fixed", learning_rate=0.05)
    step = jax.jit(method.step)
    history = []
    for t in range(30):
        state, metrics = step(jax.random.key(t), state, batch)
        history.append(float(metrics["loss"]))
    assert history[-1] < 0.7 * history[0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 4}, "split into equal steps"),
        ({"mode": "fast"}, "mode"),
        ({"attack": (0, 3)}, "attack"),
        ({"attack": (0,)}, "attack"),
        ({"learn_inputs": False}, "learn at least one"),
        ({"inner_rate": 0.0}, "inner_rate"),
        ({"networks": "nowhere"}, "finished pool"),
        ({"augmentation": "flop"}, "flop"),
    ],
)
def test_mistakes(batch, options, message):
    with pytest.raises(UserError, match=message):
        started(batch, ipc=3 if "steps" in options else 2, **options)


def test_batch_norm_under_a_schedule_is_refused(batch):
    model = toy.model(norm="batch")
    for make, options in ((BPTT, SMALL), (RaTBPTT, {"window": 1, "horizon": 1, "batch_size": 48})):
        method = make(model, **options)
        state = method.init(jax.random.key(0), toy.synthetic(2), batch)
        with pytest.raises(UserError, match="running statistics of batch norm; set model.norm"):
            method.step(jax.random.key(1), state, batch)


@pytest.mark.parametrize("make, learned", [(BPTT, {"label_softmax": True}), (RaTBPTT, {"learn_labels": True})])
def test_labels_that_stay_and_sum_to_nothing_teach_nothing(make, learned):
    """Of centred labels the gradient by the logits is -y, whatever these are."""
    start = toy.synthetic(1)
    centred = start._replace(labels=jnp.eye(3) - 1 / 3)
    make(MODEL, **learned).check_start(centred)
    make(MODEL).check_start(start._replace(labels=jnp.eye(3)))
    with pytest.raises(UserError, match="set config.labels.name=one_hot"):
        make(MODEL).check_start(centred)


# The window's method.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"placement": "end", "inner": "momentum", "outer": "sgd", "inner_rate": 0.2, "learning_rate": 5.0},
        {"bases": 3},
        {"rows_per_class": 1, "classes_at_once": 2, "learn_labels": True, "augmentation": "dsa:flip_crop"},
        pytest.param({"augmentation": "dsa:rotate", "paired_augmentation": True}, marks=pytest.mark.slow),
    ],
)
def test_windows_learn(batch, options):
    defaults = {"window": 4, "horizon": 8, "inner_rate": 0.01, "batch_size": 48, "learning_rate": 0.05}
    method = RaTBPTT(MODEL, **(defaults | options))
    start = toy.synthetic(2)._replace(labels=jnp.eye(3).repeat(2, 0))
    state = method.init(jax.random.key(0), start, batch)
    step = jax.jit(method.step)
    first = set()
    losses = []
    for t in range(25):
        state, metrics = step(jax.random.key(t), state, batch)
        losses.append(float(metrics["loss"]))
        first.add(int(metrics["first"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert first == {4} if options.get("placement") == "end" else len(first) > 2 and max(first) <= 4
    assert jnp.all(method.synthetic(state).labels >= 0) and method.synthetic(state).inputs.shape == (6, 8, 8, 1)


def test_a_minibatch_has_as_many_rows_of_each_class(batch):
    method = RaTBPTT(MODEL, rows_per_class=2)
    rows = np.asarray(method._minibatch(jax.random.key(0), 5, 3))
    assert len(set(rows)) == 6 and list(np.bincount(rows // 5)) == [2, 2, 2]
    some = np.asarray(dataclasses.replace(method, classes_at_once=2)._minibatch(jax.random.key(0), 5, 3))
    assert sorted(np.bincount(some // 5, minlength=3)) == [0, 2, 2]


def test_the_gradient_is_clipped_to_twice_its_running_norm(batch):
    """Two steps of Adam on it, by optax; the first gradient is its own norm, half of which is let through here."""
    method = RaTBPTT(MODEL, window=2, horizon=2, inner_rate=0.01, batch_size=48, learning_rate=0.05, clip=0.5)
    state, step = method.init(jax.random.key(0), toy.synthetic(2), batch), jax.jit(method.step)
    gradient = jax.jit(
        lambda key, psi: (
            jax.grad(
                lambda psi: method.outer_loss(
                    jax.random.split(key, 3)[2], MODEL.init(jax.random.split(key, 3)[0]), psi, state.shape, batch, 0
                )[0]
            )(psi).inputs
        )
    )
    adam, norm, inputs = optax.adam(0.05), None, state.psi.inputs
    slots = adam.init(inputs)
    for t in range(2):
        g = gradient(jax.random.key(t), state.psi)
        size = np.linalg.norm(g)
        norm = size if norm is None else 0.9 * norm + 0.1 * size
        updates, slots = adam.update(g * min(1, 0.5 * norm / size), slots)
        inputs = inputs + updates
        state, _ = step(jax.random.key(t), state, batch)
        np.testing.assert_allclose(state.psi.inputs, inputs, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(state.norm, norm, rtol=1e-6)
    assert RaTBPTT(MODEL).clip == 2.0


def test_remember_the_past_descends_with_momentum_one_half_and_a_norm_of_two():
    rule = RaTBPTT(MODEL, outer="sgd", learning_rate=0.1)._optimizer()
    g, small = np.array([6.0, 8.0]), np.array([0.3, 0.4])
    slots = rule.init(jnp.asarray(g))
    first, slots = rule.update(jnp.asarray(g), slots)
    second, _ = rule.update(jnp.asarray(small), slots)
    np.testing.assert_allclose(first, -0.1 * g / 5)
    np.testing.assert_allclose(second, -0.1 * (small + 0.5 * g / 5))


# The protocol.


def test_the_protocol_applies_the_learned_schedule():
    dataset, model = toy.dataset(), toy.model()
    synthetic = toy.synthetic(2)._replace(learning_rates=jnp.full((3, 2), 0.05))
    result = protocol.evaluate(
        jax.random.key(0), synthetic, dataset, model, protocol.Bptt(networks="fixed", networks_seed=4)
    )
    variables = jax.jit(model.init)(jax.random.split(jax.random.key(4), 1)[0])
    trained = schedule.learn(jax.random.key(9), model, variables, synthetic)
    logits = model.apply(trained, jnp.asarray(dataset.test.inputs), False, None)[0].logits
    assert result.n == 1
    np.testing.assert_allclose(result.accuracy, np.mean(np.argmax(logits, 1) == dataset.test.labels), rtol=1e-6)
    before = model.apply(variables, jnp.asarray(dataset.test.inputs), False, None)[0].logits
    expected = np.mean(np.argmax(before, 1) == dataset.test.labels)
    np.testing.assert_allclose(result.details["accuracy_before"], expected, rtol=1e-6)


def test_a_set_without_rates_gets_the_best_one_on_training_data():
    dataset = toy.dataset()
    rows = np.concatenate([np.flatnonzero(dataset.train.labels == k)[:4] for k in range(3)])
    real = Synthetic(dataset.train.inputs[rows], np.eye(3).repeat(4, 0) - 1 / 3)
    options = protocol.Bptt(num_networks=3, steps=2, epochs=20, attack=(0, 1))
    result = protocol.evaluate(jax.random.key(0), real, dataset, toy.model(), options)
    assert result.details["attack_success"] > 0.7 > result.details["attack_success_before"]  # zeros labelled as ones
    outcome = {name: value["mean"] for name, value in result.details["measures"].items()}
    names = [f"accuracy, class blob {k}" for k in range(3)]
    assert list(outcome) == ["blob 0 taken for blob 1", "accuracy, modified labels", *names]
    assert outcome["blob 0 taken for blob 1"] == result.details["attack_success"]
    assert outcome["accuracy, modified labels"] > 0.7 and outcome[names[0]] < 0.3 < min(outcome[k] for k in names[1:])
    np.testing.assert_allclose(np.mean([outcome[name] for name in names]), result.accuracy)  # equally many of each
    others = dataset.test.labels != 0
    without = dataclasses.replace(dataset, test=Batch(dataset.test.inputs[others], dataset.test.labels[others]))
    with pytest.raises(UserError, match="wants class blob 0, of which the test split has none"):
        protocol.evaluate(jax.random.key(0), real, without, toy.model(), options)
    options = dataclasses.replace(options, attack=())
    result = protocol.evaluate(jax.random.key(0), real, dataset, toy.model(), options)
    assert result.accuracy > 0.7 > result.details["accuracy_before"] and "measures" not in result.details
    searched = protocol.evaluate(jax.random.key(0), real, dataset, toy.model(), dataclasses.replace(options, epochs=0))
    assert searched.accuracy > 0.7
    with pytest.raises(UserError, match="eval.attack must be two different classes of 0..2"):
        protocol.evaluate(jax.random.key(0), real, dataset, toy.model(), protocol.Bptt(attack=(0, 3)))


def test_networks_that_diverge_are_told_and_are_no_success_of_an_attack():
    synthetic = toy.synthetic(2)._replace(learning_rates=jnp.full((1, 2), 1e200))
    options = protocol.Bptt(num_networks=2, attack=(1, 0))  # argmax of NaN is 0
    with pytest.warns(UserWarning, match="of 2 of 2 networks diverged; lower the set's learning rates"):
        result = protocol.evaluate(jax.random.key(0), synthetic, toy.dataset(), toy.model(), options)
    assert result.details["attack_success"] == 0


def test_sets_without_rates_may_take_more_passes_where_that_serves_them(monkeypatch):
    dataset, seen = toy.dataset(), []
    learn = protocol._learn
    monkeypatch.setattr(protocol, "_learn", lambda *a: seen.append((a[1], a[4].learning_rates.shape)) or learn(*a))
    rows = np.concatenate([np.flatnonzero(dataset.train.labels == k)[:4] for k in range(3)])
    real = Synthetic(dataset.train.inputs[rows], np.eye(3).repeat(4, 0))
    options = protocol.Bptt(num_networks=2, steps=2, label_softmax=True)  # of a set that has learned labels
    protocol.evaluate(jax.random.key(0), real, dataset, toy.model(), options)
    *searched, chosen = (shape for _, shape in seen)
    assert set(searched) == {(epochs, 2) for epochs in protocol.EPOCHS} and chosen[0] in protocol.EPOCHS
    assert not any(label_softmax for label_softmax, _ in seen)  # hard labels are distributions already


@pytest.mark.parametrize(
    "options",
    [{"attack": (1,)}, {"attack": (1, 1)}, {"attack": (0.5, 1)}, {"attack": ("a", 1)}, {"flip": True}, {"steps": 0}],
)
def test_protocol_mistakes(options):
    with pytest.raises(UserError, match="eval."):
        protocol.Bptt(**options)


# Pools.

POOL = (
    "--config=quickstart",
    "--config.method.name=bptt",
    "--config.eval.protocol=bptt",
    "--config.model.width=8",
    "--config.pretrain.num_networks=4",
    "--config.pretrain.group=2",
    "--config.pretrain.num_steps=60",
    "--config.pretrain.batch_size=64",
    "--config.pretrain.learning_rate=0.01",
)


def test_networks_that_diverged_make_no_pool(tmp_path):
    flags = (*POOL, "--config.pretrain.learning_rate=1e30", "--config.pretrain.num_steps=5", f"--workdir={tmp_path}")
    ended = commands.call("rcig.pretrain.__main__", *flags)
    assert ended.status == 2 and "networks 0 to 1 diverged with pretrain.learning_rate 1e+30; lower it" in ended.err
    assert "eval.learning_rate" not in ended.err and not list((tmp_path / "checkpoints").iterdir())


def test_a_pool_is_trained_resumed_and_used(tmp_path, monkeypatch):
    ended = commands.call("rcig.pretrain.__main__", *POOL, f"--workdir={tmp_path}/pool")
    assert ended.status == 0, ended.err
    accuracies = json.loads((tmp_path / "pool" / "pool.json").read_text())["accuracies"]
    assert len(accuracies) == 4 and min(accuracies) > 0.5

    real, calls = pretrain.training.train_networks, []

    def dying(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(pretrain.training, "train_networks", dying)
    assert commands.call("rcig.pretrain.__main__", *POOL, f"--workdir={tmp_path}/again").status == 130
    assert commands.call("rcig.pretrain.__main__", *POOL, f"--workdir={tmp_path}/again").status == 0
    assert len(calls) == 3  # one group, the one that died, and the other group alone
    again = json.loads((tmp_path / "again" / "pool.json").read_text())["accuracies"]
    assert again == accuracies
    (tmp_path / "again" / ".data").write_text("{}")
    ended = commands.call("rcig.pretrain.__main__", *POOL, f"--workdir={tmp_path}/again")
    assert ended.status == 2 and "data set digits has changed since the run in" in ended.err

    adapt = ("--config=quickstart", "--config.model.width=8", "--config.ipc=2", "--config.preprocessing=standard")
    adapt += ("--config.method.name=bptt", "--config.method.steps=2", "--config.method.batch_size=64")
    adapt += (f"--config.method.networks={tmp_path}/pool", "--config.method.num_networks=2", "--config.num_steps=4")
    adapt += ("--config.eval.protocol=bptt", f"--config.eval.networks={tmp_path}/again")
    adapt += ("--config.labels.name=one_hot",)
    ended = commands.call("distill_dataset", *adapt, f"--workdir={tmp_path}/run")
    assert ended.status == 0, ended.err
    ended = commands.call("eval", f"--distilled={tmp_path}/run", "--baselines=")
    assert ended.status == 0, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    assert result["protocol"] == "bptt" and result["n"] == 4 and result["networks"] == "again"
    assert result["accuracy_before"] == pytest.approx(np.mean(accuracies), abs=1e-6)
    assert (tmp_path / "run" / "images" / "rates.png").is_file()
    one = Synthetic(np.zeros((120, 8, 8, 1)), np.eye(3).repeat(40, 0), np.full((1, 1), 0.1))
    write_schedule(tmp_path / "one", one, one.inputs, "abc", 5)  # a single rate has no curve
    assert [path.name for path in (tmp_path / "one/images").iterdir()] == ["step-00.png"]
    with Image.open(tmp_path / "one/images/step-00.png") as picture:
        assert picture.height == 1800  # a hundred images in rows of ten
    for shape in ((8, 8, 2), (1, 20, 1), (1, 1, 3)):
        odd = one._replace(inputs=np.zeros((3, *shape)), labels=np.eye(3))
        write_schedule(tmp_path / "odd", odd, odd.inputs, "abc", 5)

    ended = commands.call("distill_dataset", *adapt, "--config.model.width=4", f"--workdir={tmp_path}/other")
    assert ended.status == 2 and ended.err.startswith(f"error: pool {tmp_path}/pool: ")
    assert ended.err.endswith("; set --config.model as its config.json has it\n") and ended.err.count("\n") == 1


def test_an_unfinished_pool_is_refused(tmp_path):
    with pytest.raises(UserError, match="finished pool"):
        pretrain.load(tmp_path, MODEL)


def test_all_data_have_no_schedule():
    with pytest.raises(UserError, match="--protocol=standard"):
        rcig.evaluate(rcig.load(Path(__file__).parent.parent / "checkpoints/dd_mnist_fixed_10"), full_data_steps=5)
