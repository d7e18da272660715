"""Evaluation by fresh networks: the training loop against numpy, exact accuracy, the protocol's rules."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax import lax
from ml_collections import ConfigDict

from rcig import experiment, lookup, measure, metrics, sharding
from rcig import training as train
from rcig.augment import mirrored
from rcig.errors import UserError
from rcig.evaluation.standard import (
    PRESETS,
    Result,
    Standard,
    evaluate,
)
from rcig.initialize import everything, real
from rcig.training import Recipe, test_accuracy, train_networks
from rcig.types import Batch, Dataset, Model, Outputs, Synthetic

SHAPE, CLASSES = (4, 4, 1), 3


def mlp(hidden=8, dtype=jnp.float32):
    def init(key):
        key_body, key_head = jax.random.split(key)
        features = int(np.prod(SHAPE))
        body = jax.random.normal(key_body, (features, hidden), dtype) / features**0.5
        head = {"kernel": jax.random.normal(key_head, (hidden, CLASSES), dtype) / hidden**0.5}
        return {"params": {"body": body, "head": head | {"bias": jnp.zeros(CLASSES, dtype)}}}

    def apply(variables, inputs, train, key):
        params = variables["params"]
        features = jax.nn.relu(inputs.reshape(len(inputs), -1) @ params["body"])
        return Outputs(features @ params["head"]["kernel"] + params["head"]["bias"][None], features), variables

    return Model(init, apply)


MLP = mlp()


@pytest.fixture(scope="module")
def dataset():
    """Three classes at three noisy centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, *SHAPE))

    def split(n):
        labels = rng.integers(0, CLASSES, n).astype(np.int32)
        return Batch((centres[labels] + 0.7 * rng.normal(size=(n, *SHAPE))).astype(np.float32), labels)

    return Dataset("toy", split(90), split(101), CLASSES, ("a", "b", "c"), lambda x: x, {})


@pytest.fixture
def linear():
    """A linear network and a set in float64, with its numpy gradient."""
    rng = np.random.default_rng(1)
    x, y, kernel, bias = (rng.normal(size=shape) for shape in ((6, 5), (6, 3), (5, 3), (3,)))

    def apply(variables, inputs, train, key):
        head = variables["params"]["head"]
        return Outputs(inputs @ head["kernel"] + head["bias"][None], inputs), variables

    def gradient(params):
        error = (x @ params[0] + params[1] - y) / y.size
        return [x.T @ error, error.sum(0)]

    model = Model(lambda key: {"params": {"head": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}}, apply)
    return model, Synthetic(x, y), [kernel, bias], gradient


def assert_params(variables, expected, rtol):
    head = variables["params"]["head"]
    np.testing.assert_allclose(head["kernel"][0], expected[0], rtol=rtol)
    np.testing.assert_allclose(head["bias"][0], expected[1], rtol=rtol)


def test_sgd_equals_numpy_through_the_drop(linear):
    """Momentum 0.9 and decay on all parameters; from step 4 on a tenth of the rate and a momentum begun anew."""
    model, synthetic, params, gradient = linear
    velocity = [0.0, 0.0]
    for step in range(9):
        if step == 4:
            velocity = [0.0, 0.0]
        grads = [g + 0.01 * p for g, p in zip(gradient(params), params, strict=True)]
        velocity = [0.9 * v + g for v, g in zip(velocity, grads, strict=True)]
        rate = 0.5 if step < 4 else 0.05
        params = [p - rate * v for p, v in zip(params, velocity, strict=True)]
    recipe = Recipe(9, 6, "mse", "sgd", 0.5, drop_step=4, weight_decay=0.01)
    assert_params(train_networks(jax.random.key(0), model, synthetic, recipe, 1), params, 1e-9)


def test_adam_equals_numpy_through_warmup_and_cosine(linear):
    model, synthetic, params, gradient = linear
    first, second = [0.0, 0.0], [0.0, 0.0]
    for step in range(12):
        fraction = (step - 4) / 8
        scale = step / 4 if step < 4 else 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * fraction))
        for i, g in enumerate(gradient(params)):
            first[i], second[i] = 0.9 * first[i] + 0.1 * g, 0.999 * second[i] + 0.001 * g**2
            mean, square = first[i] / (1 - 0.9 ** (step + 1)), second[i] / (1 - 0.999 ** (step + 1))
            params[i] = params[i] - 0.3 * scale * mean / (np.sqrt(square) + 1e-8)
    recipe = Recipe(12, 6, "mse", "adam", 0.3, warmup_steps=4)
    variables = train_networks(jax.random.key(0), model, synthetic, recipe, 1)
    assert_params(variables, params, 1e-6)  # optax's schedules are float32


@pytest.mark.parametrize("optimiser", ["plain_sgd", "plain_momentum", "plain_adam"])
def test_plain_optimisers_keep_their_rate(linear, optimiser):
    model, synthetic, params, gradient = linear
    first, second = [0.0, 0.0], [0.0, 0.0]
    decay = {"plain_sgd": 0.0, "plain_momentum": 0.9, "plain_adam": 0.9}[optimiser]
    for step in range(7):
        for i, g in enumerate(gradient(params)):
            first[i], second[i] = decay * first[i] + g, 0.999 * second[i] + 0.001 * g**2
            adam = 0.1 * first[i] / (1 - 0.9 ** (step + 1)) / (np.sqrt(second[i] / (1 - 0.999 ** (step + 1))) + 1e-8)
            params[i] = params[i] - 0.2 * (adam if optimiser == "plain_adam" else first[i])
    recipe = Recipe(7, 6, "mse", optimiser, 0.2, drop_step=3)  # which they do not heed
    assert_params(train_networks(jax.random.key(0), model, synthetic, recipe, 1), params, 1e-6)


def test_networks_are_the_same_however_they_are_mapped(monkeypatch, dataset):
    synthetic = real(jax.random.key(0), dataset, 3)
    recipe = Recipe(20, 4, "mse", "adam", 1e-2, augmentation="flip_rotate")
    results = []
    in_turn, spread = lambda fn: lambda tree: lax.map(fn, tree), sharding.over_devices
    for map_networks, over_devices in ((in_turn, spread), (jax.vmap, spread), (in_turn, lambda fn: fn)):
        monkeypatch.setattr(train, "map_networks", map_networks)  # and a new model, to compile anew
        monkeypatch.setattr(sharding, "over_devices", over_devices)
        results.append(train_networks(jax.random.key(0), mlp(dtype=jnp.float64), synthetic, recipe, 3))
    for other in results[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), results[0], other)
    body = results[0]["params"]["body"]
    assert body.shape[0] == 3 and not np.allclose(body[0], body[1])


@pytest.mark.parametrize("count, each", [(1, 1), (3, 1), (8, 1), (9, 2), (16, 2), (17, 3)])
def test_networks_are_spread_over_the_eight_devices(count, each):
    sizes, offset = [], jnp.arange(2.0)

    def double(parts):
        sizes.append(len(parts["x"]))
        return {"y": lax.map(lambda x: 2 * x + offset, parts["x"])}

    x = jnp.arange(2.0 * count).reshape(count, 2)
    np.testing.assert_array_equal(jax.jit(sharding.over_devices(double))({"x": x})["y"], 2 * x + offset[None])
    assert set(sizes) == {each}


def test_steps_do_not_depend_on_how_they_are_dispatched(dataset):
    """Two dispatches of 7 and 13 steps give exactly what one of 20 gives, with one compiled program."""
    synthetic, keys = real(jax.random.key(0), dataset, 3), jax.random.split(jax.random.key(1), 2)
    recipe = Recipe(20, 4, "mse", "adam", 1e-2, augmentation="color_cutout")
    before = train._train._cache_size()

    def run(*stops):
        state, start = train._start(MLP, recipe, keys, 9), 0
        for stop in stops:
            state = train._train(MLP, recipe, keys, state, synthetic.inputs, synthetic.labels, start, stop)
            start = stop
        return state

    jax.tree.map(np.testing.assert_array_equal, run(20), run(7, 20))
    assert train._train._cache_size() == before + 1


def test_rows_of_a_pass_are_distinct_and_passes_differ():
    order, passes, take = jnp.arange(11), [], jax.jit(train._rows, static_argnums=3)
    for t in range(9):  # three passes of 3 batches of 3; two rows wait
        order, rows = take(jax.random.key(t), t, order, 3)
        passes = [*passes, []] if t % 3 == 0 else passes
        passes[-1].extend(np.asarray(rows))
    assert all(len(set(rows)) == 9 and set(rows) < set(range(11)) for rows in passes)
    assert passes[0] != passes[1] != passes[2]


def test_a_set_that_fits_the_batch_is_taken_whole():
    _, rows = train._rows(jax.random.key(0), 0, jnp.arange(5), 5)
    np.testing.assert_array_equal(np.arange(5)[rows], np.arange(5))


def test_running_statistics_are_carried(dataset):
    """A network that counts its training steps in its batch statistics."""
    model = Model(
        lambda key: MLP.init(key) | {"batch_stats": {"count": jnp.zeros((), jnp.int32)}},
        lambda variables, inputs, train, key: (
            MLP.apply(variables, inputs, train, key)[0],
            variables | {"batch_stats": {"count": variables["batch_stats"]["count"] + train}},
        ),
    )
    recipe = Recipe(13, 100, "mse", "adam", 1e-2)
    variables = train_networks(jax.random.key(0), model, real(jax.random.key(0), dataset, 2), recipe, 2)
    np.testing.assert_array_equal(variables["batch_stats"]["count"], [13, 13])
    test_accuracy(model, variables, dataset.test)


@pytest.mark.parametrize("silence", [0.0, 600.0])
def test_a_long_training_says_how_far_it_is(dataset, monkeypatch, capsys, silence):
    monkeypatch.setattr(metrics, "_SILENCE", silence)
    recipe = Recipe(300, 100, "cross_entropy", "adam", 1e-2)
    train_networks(jax.random.key(0), MLP, real(jax.random.key(0), dataset, 2), recipe, 2)
    lines = capsys.readouterr().err.splitlines()
    if silence:
        assert not lines
    else:
        assert lines[0].startswith("step 8/300") and lines[-1].startswith("step 300/300 (100 %)")
        assert float(lines[-1].split("loss ")[1]) < float(lines[0].split("loss ")[1])


@pytest.mark.parametrize("silence", [0.0, 600.0])
def test_many_trainings_are_counted(monkeypatch, capsys, silence):
    monkeypatch.setattr(metrics, "_SILENCE", silence)
    assert list(train.counted("abc")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert not lines if silence else lines[0].startswith("step 0/3") and lines[-1].startswith("step 3/3 (100 %)")


@pytest.mark.parametrize("chunk", [7, 101, 1000])
def test_accuracy_is_exact_whatever_the_chunk(dataset, chunk):
    variables = jax.vmap(MLP.init)(jax.random.split(jax.random.key(0), 4))
    expected = []
    for n in range(4):
        params = jax.tree.map(lambda leaf, n=n: np.asarray(leaf[n]), variables["params"])
        features = np.maximum(dataset.test.inputs.reshape(101, -1) @ params["body"], 0)
        expected.append(np.mean(np.argmax(features @ params["head"]["kernel"], 1) == dataset.test.labels))
    result = test_accuracy(MLP, variables, dataset.test, chunk)
    assert result.shape == (4,)
    np.testing.assert_array_equal(result, expected)


def test_targets_of_each_loss():
    labels = jnp.array([[0.2, 1.5, -3.0], [4.0, 3.9, 0.0]])
    np.testing.assert_array_equal(train.LOSSES["mse"][1](labels), labels)
    np.testing.assert_array_equal(train.LOSSES["cross_entropy"][1](labels), [[0, 1, 0], [1, 0, 0]])
    with pytest.raises(UserError, match="distributions"):
        train.LOSSES["soft_cross_entropy"][1](labels)
    soft = jax.nn.softmax(labels)
    np.testing.assert_array_equal(train.LOSSES["soft_cross_entropy"][1](soft), soft)


@pytest.mark.parametrize(
    "options, size, augmentation, expected",
    [
        ({}, 10, "", {"num_steps": 1000, "batch_size": 10, "warmup_steps": 500}),
        ({"flip": True}, 10, "", {"num_steps": 1000, "batch_size": 20}),
        ({}, 100, "", {"num_steps": 2000, "batch_size": 100, "warmup_steps": 500}),
        ({"flip": True}, 256, "", {"num_steps": 2000, "batch_size": 512}),
        ({"flip": True}, 257, "", {"num_steps": 2000, "batch_size": 256}),
        ({"num_steps": 60}, 10, "", {"num_steps": 60, "warmup_steps": 30}),
        (PRESETS["dc"], 10, "", {"num_steps": 301, "drop_step": 152, "batch_size": 10}),
        (PRESETS["dc"], 500, "", {"num_steps": 602, "drop_step": 304, "batch_size": 256}),
        (PRESETS["dc"], 10, "flip", {"num_steps": 1001, "drop_step": 502}),
        ({"num_epochs": 9}, 10, "flip", {"num_steps": 10}),  # epochs for either run, where the other's are not given
        (PRESETS["dc"] | {"num_steps": 50}, 10, "", {"num_steps": 50, "drop_step": 25}),
    ],
)
def test_rules_of_the_presets(options, size, augmentation, expected):
    recipe = dataclasses.asdict(Standard(**options).recipe(size, augmentation))
    assert expected.items() <= recipe.items()


def test_presets():
    rcig, dc = Standard(**PRESETS["rcig"]), Standard(**PRESETS["dc"])
    assert (rcig.num_networks, rcig.loss, rcig.optimiser, rcig.learning_rate) == (5, "mse", "adam", 1e-4)
    assert (dc.num_networks, dc.loss, dc.optimiser, dc.learning_rate) == (20, "cross_entropy", "sgd", 0.01)
    assert dc.weight_decay == 5e-4


QUICK = Standard(num_networks=3, num_steps=150, learning_rate=0.01)


def test_evaluate_learns_is_reproducible_and_compiles_once(dataset):
    synthetic = real(jax.random.key(0), dataset, 5)
    first = evaluate(jax.random.key(1), synthetic, dataset, MLP, QUICK)
    compiled = train._train._cache_size()
    second = evaluate(jax.random.key(1), synthetic, dataset, MLP, Standard(**dataclasses.asdict(QUICK)))
    assert train._train._cache_size() == compiled
    np.testing.assert_array_equal(first.accuracies, second.accuracies)
    assert first.n == 3 and first.accuracy > 0.8 and first.augmented is None
    assert first.accuracy == np.mean(first.accuracies) and first.std == np.std(first.accuracies)


def test_networks_that_diverge_are_told_of(dataset):
    protocol = Standard(num_networks=2, num_steps=30, learning_rate=1e30, optimiser="sgd", warmup_steps=0)
    with pytest.warns(UserWarning, match="the training of 2 of 2 networks diverged; lower eval.learning_rate"):
        evaluate(jax.random.key(0), real(jax.random.key(0), dataset, 5), dataset, MLP, protocol)


def test_evaluate_reports_both_runs_and_the_plain_one_does_not_change(dataset):
    synthetic = real(jax.random.key(0), dataset, 5)
    both = evaluate(jax.random.key(1), synthetic, dataset, MLP, dataclasses.replace(QUICK, augmentation="color_cutout"))
    plain = evaluate(jax.random.key(1), synthetic, dataset, MLP, QUICK)
    np.testing.assert_array_equal(both.accuracies, plain.accuracies)
    assert both.augmentation == "" and both.augmented.augmentation == "color_cutout"
    assert not np.array_equal(both.augmented.accuracies, both.accuracies)
    report = json.loads(json.dumps(both.summary()))
    assert report["accuracy_augmented"] == both.augmented.accuracy and report["n"] == 3


def test_the_judges_key_is_none_of_the_runs():
    keys = [jax.random.fold_in(jax.random.key(0), stream) for stream in range(8)]
    keys += [*jax.random.split(experiment.judges_key(0), 4), experiment.judges_key(0, 1), experiment.judges_key(1)]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == len(keys)


def test_evaluate_with_augmentation_only(dataset):
    protocol = dataclasses.replace(QUICK, augmentation="flip", plain=False, num_steps=20)
    result = evaluate(jax.random.key(1), real(jax.random.key(0), dataset, 2), dataset, MLP, protocol)
    assert result.augmentation == "flip" and result.augmented is None and "accuracy_augmented" not in result.summary()


def test_hard_labels_under_dc(dataset):
    protocol = Standard(**PRESETS["dc"] | {"num_networks": 2, "num_steps": 200, "learning_rate": 0.1})
    assert evaluate(jax.random.key(1), real(jax.random.key(0), dataset, 5), dataset, MLP, protocol).accuracy > 0.8


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs_on_float32_networks_in_64_bit_mode(preset):
    data, model = toy.dataset(), lookup.find("rcig.models", "dc_convnet").make(toy.SHAPE, 3, width=4, depth=2)
    few = {"num_networks": 1, "num_steps": 3, "augmentation": "", "plain": True}
    assert 0 <= evaluate(jax.random.key(0), toy.synthetic(1), data, model, Standard(**PRESETS[preset] | few)).accuracy


def test_flip_appends_mirror_images(dataset):
    synthetic = real(jax.random.key(0), dataset, 2)
    doubled = Synthetic(*mirrored(synthetic.inputs, synthetic.labels))
    np.testing.assert_array_equal(doubled.inputs[:6], synthetic.inputs)
    np.testing.assert_array_equal(doubled.inputs[6:], np.asarray(synthetic.inputs)[:, :, ::-1])
    np.testing.assert_array_equal(doubled.labels, np.concatenate([synthetic.labels] * 2))
    flipped = evaluate(jax.random.key(1), synthetic, dataset, MLP, dataclasses.replace(QUICK, flip=True))
    explicit = evaluate(jax.random.key(1), doubled, dataset, MLP, QUICK)
    np.testing.assert_array_equal(flipped.accuracies, explicit.accuracies)


def test_baseline_and_full_data(dataset):
    protocol = dataclasses.replace(QUICK, batch_size=16)
    one = evaluate(jax.random.key(0), real(jax.random.key(1), dataset, 1), dataset, MLP, protocol)
    whole = evaluate(jax.random.key(0), everything(dataset), dataset, MLP, protocol)
    assert 1 / 3 < one.accuracy < whole.accuracy
    assert whole.accuracy > 0.9


def test_convnet_with_batch_norm_learns(dataset):
    model = lookup.find("rcig.models", "convnet").make(SHAPE, CLASSES, width=8, depth=1, norm="batch")
    protocol = Standard(num_networks=2, num_steps=60, learning_rate=0.01)
    assert evaluate(jax.random.key(1), real(jax.random.key(0), dataset, 5), dataset, model, protocol).accuracy > 0.7


def test_result_is_a_population_statistic():
    assert Result(np.array([0.0, 1.0])).std == 0.5


def test_results_pool_into_one_with_all_their_networks():
    one = Result(np.array([0.1, 0.3]), augmented=Result(np.array([0.5]), "crop"), details={"records": 1})
    both = Result.pooled([one, Result(np.array([0.5]), augmented=Result(np.array([0.9]), "crop"))])
    assert both.accuracies.tolist() == [0.1, 0.3, 0.5] and both.details == {}
    assert both.summary() == pytest.approx(
        {"accuracy": 0.3, "std": np.std([0.1, 0.3, 0.5]), "n": 3, "accuracy_augmented": 0.7, "std_augmented": 0.2}
    )
    assert Result.pooled([Result(np.array([0.5]), "crop")]).augmentation == "crop"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"loss": "msee"}, "unknown loss 'msee'; did you mean 'mse'"),
        ({"optimiser": "adamw"}, "unknown optimiser 'adamw'.*sgd"),
        ({"augmentation": "flop"}, "unknown augmentation 'flop'"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"num_networks": 0}, "num_networks must be positive"),
        ({"num_steps": -1}, "must not be negative"),
    ],
)
def test_options_are_checked_at_once(options, message):
    with pytest.raises(UserError, match=message):
        Standard(**options)


@pytest.mark.parametrize(
    "inputs, labels, message",
    [
        (np.zeros((3, 5, 5, 1)), np.zeros((3, 3)), r"examples \(5, 5, 1\) .* wants \(4, 4, 1\)"),
        (np.zeros((3, *SHAPE)), np.zeros((3, 4)), r"labels \(3, 4\)"),
        (np.full((3, *SHAPE), np.nan), np.zeros((3, 3)), "NaN"),
    ],
)
def test_sets_are_checked_against_the_data(dataset, inputs, labels, message):
    with pytest.raises(UserError, match=message):
        evaluate(jax.random.key(0), Synthetic(inputs, labels), dataset, MLP, QUICK)


@pytest.mark.parametrize("rate", [0.0, -0.02])
def test_a_learned_rate_that_is_not_positive_is_said_to_be_the_sets(dataset, rate):
    synthetic = real(jax.random.key(0), dataset, 1)._replace(learning_rates=np.full((1, 1), rate))
    with pytest.raises(UserError, match="the set's own learning rate must be positive.* --config.eval.learning_rate"):
        evaluate(jax.random.key(0), synthetic, dataset, MLP, dataclasses.replace(QUICK, learning_rate=0.0))
    assert QUICK.recipe(3, "", rate).learning_rate == QUICK.learning_rate  # who names one does not ask for it


def test_each_draw_has_its_share_of_the_networks():
    asked = []

    def judge(key, synthetic, **changes):
        asked.append((jax.random.key_data(key).tolist(), synthetic, changes))
        return Result(np.ones(changes.get("num_networks", 1)))

    key, config = jax.random.key(0), ConfigDict({"eval": {"num_networks": 12}})
    assert measure._judge_all(judge, key, ["a"], config).n == 1 and asked == [(asked[0][0], "a", {})]
    assert measure._judge_all(judge, key, list("abcde"), config).n == 15
    assert measure._judge_all(judge, key, list("ab"), ConfigDict({"eval": {}})).n == 2
    assert [changes for *_, changes in asked[1:]] == [{"num_networks": 3}] * 5 + [{}] * 2
    assert "".join(name for _, name, _ in asked) == "aabcdeab" and len({tuple(key) for key, *_ in asked[1:6]}) == 5
