"""Students of soft labels: the loss by hand, the schedule's numbers, what is drawn, and the protocol as a whole."""

import dataclasses
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from rcig import artefact, config, experiment, measure
from rcig.checkpoint import Checkpoints
from rcig.errors import UserError
from rcig.evaluation import _students
from rcig.evaluation._students import draws, grouped, train_students
from rcig.evaluation.soft_labels import PRESETS, SoftLabels
from rcig.initialize import initialize
from rcig.lookup import find
from rcig.losses import kl_divergence
from rcig.relabel import relabel
from rcig.soft_labels import LabelPool
from rcig.types import Model, Outputs
from rcig.views import Labelling, apply_view

KEY = jax.random.key(0)
SPEC = Labelling(epochs=8, batch_size=10, min_scale=0.5)


def linear(bias=True):
    def init(key):
        head = {"kernel": 0.1 * jax.random.normal(key, (64, 10), jnp.float32), "bias": jnp.ones(10, jnp.float32)}
        return {"params": {"head": head}}

    def apply(variables, inputs, train, key):
        head, x = variables["params"]["head"], inputs.reshape(len(inputs), -1)
        return Outputs(jnp.matmul(x, head["kernel"], precision="highest") + head["bias"][None], x), variables

    return Model(init, apply)


LINEAR = linear()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir with a teacher, a set and its pool."""
    workdir = tmp_path_factory.mktemp("run")
    options = ["--config.model.name=mlp", "--config.model.width=8", "--config.ipc=2", "--config.dataset=digits"]
    options += ["--config.eval.protocol=soft_labels", "--config.eval.preset=small", "--config.eval.num_epochs=4"]
    said = config.load("quickstart", [*options, "--config.eval.num_networks=2"])
    dataset = experiment.load_dataset(said)
    model = experiment.make_model(said.model, dataset)
    variables = jax.jit(model.init)(KEY)
    with Checkpoints(workdir / "teacher") as checkpoints:
        checkpoints.save(1, {"variables": variables, "test_accuracy": 0.5})
    synthetic = initialize("real", jax.random.key(1), dataset, 2, ())
    artefact.save(workdir / "distilled", synthetic, experiment.make_card(said, dataset, said.num_steps))
    relabel(KEY, workdir / "soft_labels", synthetic.inputs, model, variables, SPEC, dataset.class_names)
    return workdir


@pytest.fixture(scope="module")
def pool(run):
    return LabelPool.open(run / "soft_labels")


@pytest.fixture(scope="module")
def inputs(run):
    return artefact.load(run).inputs


def test_kl_by_hand():
    rng = np.random.default_rng(0)
    teacher, logits = rng.normal(size=(2, 6, 5))
    wanted = rel_entr(softmax(teacher, axis=1), softmax(logits, axis=1)).sum(1).mean()
    np.testing.assert_allclose(kl_divergence(jnp.asarray(teacher), jnp.asarray(logits)), wanted, rtol=1e-12)
    assert abs(kl_divergence(jnp.asarray(teacher), jnp.asarray(teacher))) < 1e-15


def task(pool, num_steps=40, **options):
    return _students._Task(LINEAR, SoftLabels(**options), pool.spec.mix, options.get("num_epochs") or 8, num_steps)


def test_temperature_and_scale(pool):
    rng = np.random.default_rng(1)
    teacher, logits = rng.normal(size=(2, 6, 5))

    def kl(t, s):
        return rel_entr(softmax(teacher / t, axis=1), softmax(logits / s, axis=1)).sum(1).mean()

    found = task(pool).loss(jnp.asarray(logits), jnp.asarray(teacher))
    np.testing.assert_allclose(found, kl(20, 20), rtol=1e-9)
    found = task(pool, **PRESETS["tiny"]).loss(jnp.asarray(logits), jnp.asarray(teacher))
    np.testing.assert_allclose(found, 400 * kl(20, 20), rtol=1e-9)
    found = task(pool, **PRESETS["imagenet21k"]).loss(jnp.asarray(logits), jnp.asarray(teacher))
    np.testing.assert_allclose(found, kl(25, 20), rtol=1e-9)


def test_rates_by_pseudo_epoch(pool):
    assert pool.batches == 2
    tiny = task(pool, 200, **PRESETS["tiny"])
    wanted = [0.2 * (0.01 + 0.198 * e) for e in range(5)]
    wanted += [0.1 * (1 + math.cos(math.pi * (e - 5) / 95)) for e in range(5, 100)]
    found = jax.vmap(tiny.rate)(jnp.arange(200))
    np.testing.assert_allclose(found, np.repeat(wanted, 2), rtol=1e-5, atol=1e-9)
    plain = task(pool, 200, num_epochs=100, learning_rate=1e-3, cosine_stretch=2.0)
    np.testing.assert_allclose(plain.rate(jnp.int32(199)), 5e-4 * (1 + math.cos(math.pi * 99 / 200)), rtol=1e-5)
    few = task(pool, 50, **PRESETS["tiny"])  # fewer steps than pseudo-epochs: the same curve
    np.testing.assert_allclose(jax.vmap(few.rate)(jnp.arange(50)), wanted[::2], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_step_by_hand(pool, inputs, optimiser):
    """Two steps in order; weight decay reaches the kernel alone."""
    protocol = SoftLabels(
        num_steps=2,
        num_epochs=1,
        num_networks=2,
        optimiser=optimiser,
        learning_rate=0.1,
        weight_decay=0.3,
        loss_scale=0,
    )
    found = train_students(KEY, LINEAR, inputs, pool, protocol)["params"]["head"]
    key = jax.random.split(KEY, 2)[1]
    params = jax.tree.map(np.asarray, LINEAR.init(jax.random.fold_in(key, 0)))["params"]["head"]
    moments, squares = (jax.tree.map(np.zeros_like, params) for _ in range(2))
    for step in range(2):
        view, logits = pool.read(np.array(step))
        x = np.asarray(apply_view(jnp.asarray(inputs), view, "cutmix")).reshape(10, -1)
        error = softmax((x @ params["kernel"] + params["bias"]) / 20, axis=1) - softmax(
            logits.astype(float) / 20, axis=1
        )
        grads = {"kernel": x.T @ error, "bias": error.sum(0)}
        for name, gradient in grads.items():
            gradient, decay = 400 / 20 / 10 * gradient, 0.3 * params[name] * (name == "kernel")
            if optimiser == "sgd":
                moments[name] = 0.9 * moments[name] + gradient + decay
                update = moments[name]
            else:
                moments[name] = 0.9 * moments[name] + 0.1 * gradient
                squares[name] = 0.999 * squares[name] + 0.001 * gradient**2
                unbiased = moments[name] / (1 - 0.9 ** (step + 1)), squares[name] / (1 - 0.999 ** (step + 1))
                update = unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8) + decay
            params[name] = params[name] - 0.1 * update  # one pseudo-epoch: the cosine has not begun
    for name in params:
        np.testing.assert_allclose(found[name][1], params[name], rtol=2e-3, atol=2e-4)


def test_dispatches_do_not_matter(pool, inputs, monkeypatch):
    protocol = SoftLabels(num_steps=7, num_networks=2, draw="with_replacement")
    at_once = train_students(KEY, LINEAR, inputs, pool, protocol)
    monkeypatch.setattr(_students, "_DISPATCHED", 30)
    again = train_students(KEY, LINEAR, inputs, pool, protocol)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), at_once, again)
    assert not np.array_equal(at_once["params"]["head"]["kernel"][0], at_once["params"]["head"]["kernel"][1])


def test_draws(pool):
    assert list(draws(KEY, pool, SoftLabels(), 20)) == [*range(16), 0, 1, 2, 3]  # whole: in order, then again
    pruned = pool.prune(0.5)
    drawn = draws(KEY, pruned, SoftLabels(pruning_ratio=0.5), 4000)
    assert abs(np.bincount(drawn, minlength=8) - 500).max() < 100
    assert not np.array_equal(drawn, draws(jax.random.key(1), pruned, SoftLabels(pruning_ratio=0.5), 4000))
    epochs = pool.prune(0.5, granularity="epoch")
    drawn = draws(KEY, epochs, SoftLabels(granularity="epoch"), 401)
    assert len(drawn) == 401 and np.all(drawn[:400:2] % 2 == 0) and np.all(drawn[1:400:2] == drawn[:400:2] + 1)
    with pytest.raises(UserError, match="1 records hold no epoch of 2"):
        draws(KEY, pool.first(1), SoftLabels(granularity="epoch"), 4)
    assert list(draws(KEY, pruned, SoftLabels(draw="in_order"), 9)) == [*range(8), 0]


def test_groups_of_batch_norm():
    module = find("rcig.models", "convnet")
    model = module.make((8, 8, 1), 3, width=4, depth=1, norm="batch")
    variables = jax.jit(model.init)(KEY)
    x = jax.random.normal(KEY, (8, 8, 8, 1), jnp.float32)
    outputs, after = grouped(model, 4).apply(variables, x, True, None)
    halves = [model.apply(variables, x[rows], True, None) for rows in (slice(4), slice(4, 8))]
    logits = jnp.concatenate([half[0].logits for half in halves])
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after, halves[0][1])
    assert not np.allclose(outputs.logits, model.apply(variables, x, True, None)[0].logits, atol=1e-4)


def test_groups_have_dropout_of_their_own():
    def apply(variables, x, train, key):
        return Outputs(jax.random.uniform(key, (len(x), 1)), x), {}

    outputs, _ = grouped(Model(None, apply), 4).apply({}, jnp.zeros((8, 2)), True, KEY)
    assert len(np.unique(outputs.logits)) == 8


def test_students_that_diverge_are_named(pool, inputs):
    with pytest.warns(UserWarning, match="training of 2 of 2 networks diverged"):
        train_students(
            KEY, LINEAR, inputs, pool, SoftLabels(num_networks=2, num_steps=20, learning_rate=1e30, optimiser="sgd")
        )


def test_options_are_checked(pool, inputs):
    for options in (
        {"order": "entropy"},
        {"optimiser": "lion"},
        {"temperature": 0.0},
        {"flip": True},
        {"bn_group": -1},
    ):
        with pytest.raises(UserError):
            SoftLabels(**options)
    with pytest.raises(UserError, match=r"must lie in \[0, 1\)"):
        SoftLabels(pruning_ratio=1.0)
    with pytest.raises(UserError, match="must divide the 10 rows"):
        train_students(KEY, LINEAR, inputs, pool, SoftLabels(bn_group=3, num_steps=1))


def test_evaluate_finds_the_pool_and_labels_the_baseline(run):
    distilled = artefact.load(run)
    assert distilled.folder == run / "distilled"
    whole = measure.evaluate(distilled)
    assert (whole["n"], whole["records"], whole["pruning_ratio"]) == (2, 16, 0.0)
    assert 0 <= whole["accuracy"] <= 1 and whole["baseline_random"] != whole["accuracy"]
    pruned = measure.evaluate(distilled, pruning_ratio=0.75)
    assert pruned["records"] == 4 and pruned["label_bytes"] * 4 == whole["label_bytes"]
    assert pruned["image_bytes"] == 20 * 64
    everything = measure.evaluate(distilled, compare=(), full_data_steps=3, pruning_ratio=0.75, granularity="epoch")
    assert everything["records"] == 4 and 0 <= everything["full_data"] <= 1
    assert str(run) not in str(pruned)


def test_a_larger_set_has_as_many_labels_not_as_large_a_share(run, monkeypatch):
    made, used = [], []
    monkeypatch.setattr("rcig.relabel.relabel", lambda *args: made.append(relabel(*args)) or made[-1])
    train = lambda *args: used.append((len(args[2]), len(args[3]))) or train_students(*args)
    monkeypatch.setattr("rcig.evaluation.soft_labels.train_students", train)
    measure.evaluate(artefact.load(run), full_data_steps=2, pruning_ratio=0.75)
    assert [rows for rows, _ in used[:2]] == [20, 20] and used[2][0] > 1000
    assert [records for _, records in used] == [4, 4, 4]
    assert [len(pool) for pool in made] == [4, 4]  # no more are made than are wanted


def test_labels_that_were_not_ended_are_said(run, tmp_path):
    copied = shutil.copytree(run / "soft_labels", tmp_path / "soft_labels")
    meta = json.loads((copied / "meta.json").read_text())
    (copied / "meta.json").write_text(json.dumps(meta | {"count": 3}))
    with pytest.warns(UserWarning, match="holds 3 of 16 records: its labelling was stopped"):
        result = measure.evaluate(artefact.load(run), compare=(), label_pool=str(copied), num_steps=2)
    assert result["records"] == 3


def test_what_is_missing_is_said_at_once(run, tmp_path, monkeypatch):
    distilled = artefact.load(run)
    monkeypatch.setattr("rcig.coreset.observe", lambda *args: pytest.fail("a coreset's network was trained first"))
    with pytest.raises(UserError, match="wants the pool that was made with the set"):
        measure.evaluate(dataclasses.replace(distilled, folder=None), compare=("herding",))
    artefact.save(tmp_path / "distilled", distilled.synthetic, distilled.card)
    (tmp_path / "soft_labels").symlink_to(run / "soft_labels")
    with pytest.warns(UserWarning, match="no baseline_random: .* of a run with a teacher, and holds none"):
        assert measure.evaluate(artefact.load(tmp_path))["accuracy"] > 0  # what is known of the set itself is not lost
    said = config.from_dict(distilled.card["config"])
    model = experiment.make_model(said.model, experiment.load_dataset(said))
    with Checkpoints(tmp_path / "teacher") as checkpoints:
        checkpoints.save(1, {"variables": jax.jit(model.init)(jax.random.key(5)), "test_accuracy": 0.5})
    with pytest.warns(UserWarning, match="no baseline_random: .*did not make the pool"):
        measure.evaluate(artefact.load(tmp_path))
