"""LPLD, SRe2L and RDED: class statistics, recovery, choice, the pipeline's resumption, what is refused; diversity."""

import json
from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import linen as nn

from methods import rded
from methods.lpld import LPLD, pixels, recover, squeeze
from methods.lpld.taught import classes_of
from methods.lpld.teaching import teach
from methods.lpld.views import Views
from rcig import artefact, diversity, experiment, loop
from rcig import config as configs
from rcig.augment.crops import crop
from rcig.errors import UserError
from rcig.models._batch_norm_statistics import layers, statistics
from rcig.models._layers import as_model, outputs
from rcig.training import Recipe
from rcig.types import Batch, Synthetic

KEY = jax.random.key(0)
TINY = ("teacher_steps=5", "label_epochs=2", "label_batch_size=10", "jitter=1", "jitter_back=1")


class TwoNorms(nn.Module):
    """A network whose batch norms can be followed by hand; the second is made first."""

    @nn.compact
    def __call__(self, x, train):
        second = nn.BatchNorm(use_running_average=not train, name="a_second")
        x = nn.BatchNorm(use_running_average=not train, name="stem")(x)
        return outputs(nn.relu(second(nn.Dense(2, use_bias=False)(x))), toy.NUM_CLASSES)


@pytest.fixture(scope="module")
def two_norms():
    model = toy.in_float64(as_model(TwoNorms(), toy.SHAPE))
    return model, model.init(KEY)


@pytest.fixture(scope="module")
def by_hand(two_norms):
    """What the two norms see of every toy image: (N, pixels, F) each."""
    first = toy.dataset().train.inputs.reshape(240, 64, 1)
    kernel = np.asarray(two_norms[1]["params"]["Dense_0"]["kernel"])
    return {"stem": first, "a_second": first / np.sqrt(1 + 1e-5) @ kernel}


def test_batch_norms_are_measured_in_groups_and_in_the_images_order(two_norms, by_hand):
    model, variables = two_norms
    inputs = jnp.asarray(toy.dataset().train.inputs)
    out, seen = jax.jit(partial(statistics, model.apply, num_groups=4))(variables, inputs)
    assert layers(model.apply, variables, inputs) == ("stem", "a_second")
    np.testing.assert_allclose(out.logits, model.apply(variables, inputs, False, None)[0].logits)
    for name, x in by_hand.items():
        x = x.reshape(4, -1, x.shape[-1])
        np.testing.assert_allclose(seen[name].mean, x.mean(1), rtol=1e-6)
        np.testing.assert_allclose(seen[name].var, x.var(1), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [7, 240])
def test_exact_class_statistics_are_those_of_the_whole_class_however_it_is_split(two_norms, by_hand, batch_size):
    dataset = toy.dataset()
    seen = squeeze.measure(KEY, *two_norms, dataset, "exact", batch_size)
    for name, x in by_hand.items():
        for label in range(toy.NUM_CLASSES):
            mine = x[dataset.train.labels == label].reshape(-1, x.shape[-1])
            np.testing.assert_allclose(seen[name].mean[label], mine.mean(0), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(seen[name].var[label], mine.var(0), rtol=1e-5)


def test_running_class_statistics_move_a_tenth_a_batch(two_norms, by_hand):
    dataset = toy.dataset()
    seen = squeeze.measure(KEY, *two_norms, dataset, "ema", 5)
    order = np.asarray(jax.random.permutation(jax.random.split(KEY)[0], 240))
    mean, var = np.zeros(toy.NUM_CLASSES), np.ones(toy.NUM_CLASSES)
    for rows in order.reshape(-1, 5):
        for label in set(dataset.train.labels[rows].tolist()):
            mine = by_hand["stem"][rows][dataset.train.labels[rows] == label]
            mean[label], var[label] = 0.9 * mean[label] + 0.1 * mine.mean(), 0.9 * var[label] + 0.1 * mine.var()
    np.testing.assert_allclose(seen["stem"].mean[:, 0], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen["stem"].var[:, 0], var, rtol=1e-5)


def stage(supervision="class_statistics", ipc=2, images_at_once=100, **options):
    """Return (recover stage, its state, a batch), in float64, with a fixed teacher."""
    model, dataset = toy.model(norm="batch", activation="softplus"), toy.dataset()
    variables = model.init(KEY)
    method = LPLD(model, supervision=supervision, jitter=1, jitter_back=1, min_scale=0.5, **options)
    one_class = supervision != "global"
    targets = squeeze.global_moments(variables, squeeze.layers_of(model, dataset))
    if supervision == "class_statistics":
        targets = squeeze.measure(KEY, model, variables, dataset, "exact")
    targets = jax.tree.map(lambda a: np.asarray(a, np.float64), targets)
    parts = (variables, targets, pixels.of(dataset), method._views(), ipc, one_class)
    made = recover.Recover(model, *parts, method.decay_steps, method.learning_rate, 0.05, 10.0, images_at_once)
    batch = Batch(jnp.zeros((1, 1)), jnp.arange(1))
    return made, made.init(KEY, toy.synthetic(ipc), batch), batch


def test_the_loss_is_the_papers_and_its_gradient_that_of_differences():
    made, state, _ = stage()
    images, direction = state.images[1], jax.random.normal(KEY, state.images[1].shape)
    targets = jax.tree.map(lambda a: a[1], state.targets)
    loss = lambda x: made.loss(x, KEY, jnp.int32(0), state.classes[1], targets, state.variables)[0]
    both = jax.jit(jax.value_and_grad(loss))
    value, gradient = both(images)
    slope = toy.central_difference(lambda x: both(x)[0], images, direction)
    np.testing.assert_allclose(jnp.vdot(gradient, direction), slope, rtol=1e-6)

    @jax.jit
    def look(images):
        views = made.views.apply(KEY, images, 0.0)
        return views, *statistics(made.model.apply, state.variables, views, 1)

    views, out, seen = look(images)
    expected = -np.mean(jax.nn.log_softmax(out.logits)[:, 1])
    for weight, name in zip((10.0, 1.0), layers(made.model.apply, state.variables, views), strict=True):
        for now, target in zip(seen[name], targets[name], strict=True):
            expected += 0.05 * weight * np.linalg.norm(now[0] - target)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


@pytest.mark.parametrize("supervision", ["class_statistics", "class_batches", "global"])
def test_images_of_a_group_see_each_other_and_no_others(supervision):
    made, state, batch = stage(supervision)
    other = state.replace(images=state.images.at[0, 0].add(1.0))
    step = jax.jit(made.step)
    gradients, changed = (step(KEY, s, batch)[0].opt_state.mu for s in (state, other))  # (G, n, ...)
    affected = jnp.any(gradients != changed, (2, 3, 4))
    assert np.all(affected[0]) and not np.any(affected[1:])
    classes = state.classes.tolist()
    assert classes == ([[0, 1, 2]] * 2 if supervision == "global" else [[0, 0], [1, 1], [2, 2]])
    assert np.argmax(made.synthetic(state).labels, 1).tolist() == [0, 0, 1, 1, 2, 2]
    assert len(jax.tree.leaves(state.targets)[0]) == (3 if supervision == "class_statistics" else 1)


@pytest.mark.parametrize("supervision", ["class_statistics", "global"])
def test_groups_one_after_the_other_are_those_taken_at_once_and_every_image_stays_displayable(supervision):
    def two_steps(images_at_once):
        made, state, batch = stage(supervision, images_at_once=images_at_once, learning_rate=5.0)
        step = jax.jit(made.step)
        return state, step(KEY, step(KEY, state, batch)[0], batch)

    (start, (state, metrics)), (_, together) = two_steps(1), two_steps(100)
    chex.assert_trees_all_close((state, metrics), together, rtol=1e-9)
    shown = np.asarray(state.images) * 0.4 + 0.2
    assert shown.min() > -1e-6 and shown.max() < 1 + 1e-6 and np.any(state.images != start.images)


def test_what_is_recovered_survives_eight_bits():
    made, state, _ = stage()
    synthetic = made.synthetic(state)
    assert synthetic.labels.tolist() == np.repeat(np.eye(3), 2, 0).tolist()
    levels = (np.asarray(synthetic.inputs) * 0.4 + 0.2) * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    np.testing.assert_allclose(made.pixels.rounded(synthetic.inputs), synthetic.inputs, atol=1e-12)


def test_views_are_shared_or_not_and_roll_within_their_range():
    images = jnp.arange(2 * 64.0).reshape(2, 8, 8, 1)
    still = Views(min_scale=1.0, flip=False, jitter=2, jitter_back=1)
    apply = jax.jit(still.apply)
    seen = set()
    for number in range(40):
        first, second = apply(jax.random.key(number), images, 0.0)
        np.testing.assert_allclose(second - first, 64.0, atol=1e-4)  # the same view of both
        corner = int(jnp.argmin(first))
        rolls = [(corner // 8 + 4) % 8 - 4, (corner % 8 + 4) % 8 - 4]
        np.testing.assert_allclose(first, np.roll(images[0], rolls, (0, 1)), atol=1e-4)
        seen |= set(rolls)
    assert seen == {-1, 0, 1, 2}
    own = replace(still, shared=False)
    apart = [own.apply(jax.random.key(n), images, 0.0) for n in range(5)]
    assert any(np.any(np.abs(b - a - 64) > 1e-3) for a, b in apart)


def test_the_curricula_of_cda():
    at = lambda name, milestone=1.0: [float(Views(0.1, name, milestone).scale(jnp.float64(u))) for u in (0, 0.5, 1)]
    np.testing.assert_allclose(at("none"), [0.1, 0.1, 0.1])
    np.testing.assert_allclose(at("cosine"), [1, 0.55, 0.1])
    np.testing.assert_allclose(at("linear", 0.75), [1, 0.4, 0.1])
    np.testing.assert_allclose(at("step", 0.6), [1, 1, 0.1])


def test_rded_takes_what_the_teacher_doubts_least_and_stitches_row_by_row():
    model, dataset = toy.model(norm="batch"), toy.dataset()
    variables = model.init(KEY)
    whole = rded.RDED(model, crop_scale=1.0, pieces=1, crops_per_image=1)
    chosen = whole._choose(KEY, dataset, variables, 2, 5)
    mine = dataset.train.inputs[dataset.train.labels == 2]
    logits = model.apply(variables, jnp.asarray(mine), False, None)[0].logits
    least = np.argsort(-np.asarray(jax.nn.log_softmax(logits))[:, 2])[:5]
    np.testing.assert_allclose(chosen, mine[least], atol=1e-6)
    small = np.asarray(crop(jnp.asarray(mine), jnp.array([0, 0, 8, 8]), 4))
    logits = model.apply(variables, np.pad(small, ((0, 0), (2, 2), (2, 2), (0, 0))), False, None)[0].logits
    least = np.argsort(-np.asarray(jax.nn.log_softmax(logits))[:, 2])[:4]
    quarters = replace(whole, pieces=2)._choose(KEY, dataset, variables, 2, 1)
    np.testing.assert_allclose(quarters, rded.stitched(small[least], 2), atol=1e-6)
    patches = np.arange(8.0).reshape(8, 1, 1, 1) * np.ones((1, 3, 3, 1))
    image = rded.stitched(patches, 2)[1, ::3, ::3, 0]
    assert image.tolist() == [[1, 3], [5, 7]]


def config_of(name, *overrides):
    small = (
        *(f"config.method.{o}" for o in TINY if "jitter" not in o or "rded" not in name),
        "config.model.width=4",
        "config.model.stages=1",
    )
    steps = ("config.num_steps=6", "config.steps_per_dispatch=2", "config.checkpoint_every=2")
    steps = ("config.method.batch_size=16",) if "rded" in name else steps
    return configs.load(name, [*small, *steps, "config.ipc=2", *overrides])


def logits_of(workdir):
    from rcig.soft_labels import LabelPool

    pool = LabelPool.open(workdir / "soft_labels")
    return pool.read(np.arange(len(pool)))[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the whole pipeline."""
    workdir = tmp_path_factory.mktemp("lpld")
    experiment.distill(config_of("lpld_digits"), workdir)
    return workdir


class Killed(BaseException):
    pass


def kill_at(number, do):
    """Return ``do`` that, called for the so manieth time, kills instead."""
    calls = []

    def kill(*args, **options):
        calls.append(args)
        if len(calls) == number:
            raise Killed
        return do(*args, **options)

    return kill


@pytest.mark.parametrize("kind", [pytest.param(loop._Resident, marks=pytest.mark.slow), loop._Streamed])
def test_a_teacher_goes_on_within_its_training_and_learns_from_the_host_too(kind, tmp_path, monkeypatch):
    recipe = Recipe(25, 16, "cross_entropy", "adam", 1e-2, augmentation="dsa:crop")
    train = partial(teach, KEY, toy.model(norm="batch"), toy.dataset(), recipe)
    other = train(tmp_path / "resident")
    if kind is loop._Streamed:
        monkeypatch.setattr(loop.Layout, "memory", 0)
    whole = train(tmp_path / "whole")
    with monkeypatch.context() as fatal, pytest.raises(Killed):
        fatal.setattr(kind, "advance", kill_at(3, kind.advance))
        train(tmp_path / "killed")
    assert [path for path in (tmp_path / "killed" / "checkpoints").glob("[0-9]*") if path.name in ("10", "20")]
    jax.tree.map(np.testing.assert_array_equal, whole, train(tmp_path / "killed"))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8), other, whole)  # streamed: two programs


def test_a_pipeline_that_is_killed_in_every_stage_ends_as_one_that_is_not(run, tmp_path, monkeypatch):
    distill = partial(experiment.distill, config_of("lpld_digits"), tmp_path)
    for module, name, fatal in ((squeeze, "class_moments", 1), (artefact, "save", 2)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(module, name, kill_at(fatal, getattr(module, name)))
            distill()
    distill()
    whole, killed = (artefact.load(workdir) for workdir in (run, tmp_path))
    assert np.array_equal(whole.inputs, killed.inputs)
    np.testing.assert_array_equal(logits_of(run), logits_of(tmp_path))
    before = (tmp_path / "soft_labels").stat().st_mtime_ns
    artefact.add_result(tmp_path, {"accuracy": 0.5}, killed.card["arrays"])
    assert np.array_equal(distill().inputs, whole.inputs) and len(artefact.load(tmp_path).card["accuracies"]) == 1
    assert (tmp_path / "soft_labels").stat().st_mtime_ns == before


def test_arms_share_a_teacher_and_diversity_compares_them(run, tmp_path):
    few = ("config.method.candidates=8", "config.method.crops_per_image=2", f"config.method.teacher={run}")
    experiment.distill(config_of("rded_digits", *few), tmp_path)
    assert (tmp_path / "teacher.json").read_text() == (run / "teacher.json").read_text()
    rows = diversity.report([run, tmp_path])
    assert list(rows) == [run.name, tmp_path.name, "random real", "all real"]
    assert abs(rows["all real"]["mmd"]) < 1e-9 and rows[run.name]["mmd"] > rows["random real"]["mmd"] > 0
    with pytest.raises(UserError, match="must differ in their last names"):
        diversity.report([run, run])
    assert diversity.table(rows).count("\n") == 4 and len(diversity.bars(rows).axes) == 4


def test_diversity_of_the_same_and_of_the_orthogonal():
    same, apart = np.ones((4, 5)), np.eye(4)
    assert diversity.cosine(same) == pytest.approx(1) and diversity.cosine(apart) == pytest.approx(0)
    assert diversity.effective_rank(same) == 1 and diversity.effective_rank(apart) == pytest.approx(3)
    rng = np.random.default_rng(0)
    real = rng.normal(size=(50, 5))
    assert diversity.mmd(real, real) == pytest.approx(0, abs=1e-12)
    assert diversity.mmd(real + 3, real) > 0.5 > diversity.mmd(real[:25], real) > 0


def test_what_cannot_be_recovered_is_refused(tmp_path):
    model, dataset, start = toy.model(norm="batch"), toy.dataset(), toy.synthetic(1)
    few = {"label_batch_size": 3}
    prepare = lambda model, dataset, **options: LPLD(model, **few | options).prepare(KEY, dataset, start, tmp_path)
    with pytest.raises(UserError, match="no batch norm.*set model.norm to batch"):
        prepare(toy.model(), dataset)
    train = dataset.train
    keep = train.labels != 1
    with pytest.raises(UserError, match="class 'blob 1' of toy has no training image"):
        prepare(model, replace(dataset, train=Batch(train.inputs[keep], train.labels[keep])))
    with pytest.raises(UserError, match="pixel space 'zca'.*preprocessing=standard"):
        prepare(model, replace(dataset, preprocessing={"kind": "zca", "zca": {}, "mean": [0], "std": [1]}))
    with pytest.raises(UserError, match="batch_size 4 of labels must be at most the 3 images"):
        prepare(model, dataset, label_batch_size=4)
    with pytest.raises(UserError, match="leaves none of 2 records"):
        prepare(model, dataset, label_epochs=2, pruning_ratio=0.6)
    with pytest.raises(UserError, match="must be the workdir of a run with a teacher"):
        prepare(model, dataset, teacher=str(tmp_path / "none"))
    with pytest.raises(UserError, match="as many starting rows of every class"):
        classes_of(Synthetic(start.inputs, jnp.asarray([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])))
    with pytest.raises(UserError, match="'blob 0' gives 3 crops.*want 4"):
        rded.RDED(model, pieces=2, candidates=3, **few).prepare(KEY, dataset, start, tmp_path)
    assert not (tmp_path / "teaching").exists()  # all is said before the teacher is trained
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "teacher.json").write_text(json.dumps({"test_accuracy": 0.9, "dataset": "mnist"}))
    with pytest.raises(UserError, match="other learned other data: dataset mnist, not toy"):
        squeeze._check_lender(tmp_path / "other" / "teacher.json", {"dataset": "toy", "pixels": "standard"})
    squeeze._check_lender(tmp_path / "older" / "teacher.json", {"dataset": "toy"})  # a run that kept no such note


@pytest.mark.parametrize(
    "options, message",
    [
        ({"supervision": "clas"}, "did you mean 'class_"),
        ({"class_statistics": "mean"}, "known: ema, exact"),
        ({"curriculum": "cos"}, "did you mean 'cosine'"),
        ({"min_scale": 0.0}, r"method.min_scale must lie in \(0, 1\]"),
        ({"statistics_weight": 0.0}, "statistics_weight must be positive"),
        ({"teacher_steps": 0}, "teacher_steps must be positive"),
        ({"teacher_optimiser": "lion"}, "unknown optimiser 'lion'"),
        ({"pruning_ratio": 1.0}, "pruning ratio"),
        ({"mix": "cutmx"}, "did you mean 'cutmix'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        LPLD(toy.model(norm="batch"), **options)
