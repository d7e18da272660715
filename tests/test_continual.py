"""Continual learning: orders of classes, the memory at each step, the curve, and its table and picture."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import toy

from rcig import config as configs
from rcig import experiment, measure, render_chart, report
from rcig.errors import UserError
from rcig.evaluation import standard
from rcig.evaluation.continual import PRESETS, Continual, class_order, evaluate, seen_classes
from rcig.evaluation.standard import Result, Standard
from rcig.initialize import everything
from rcig.lookup import find
from rcig.types import Batch, Synthetic

FEW = {"num_networks": 2, "num_steps": 15, "learning_rate": 0.01}
TINY = FEW | {"steps": 2, "orders": 3, "test_chunk": 16}
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def few():
    """Two real examples of each blob, not class-major, and a network."""
    dataset = toy.dataset(24, 60)
    inputs, labels = np.asarray(dataset.train.inputs[:6], np.float32), dataset.train.labels[:6]
    return (
        Synthetic(inputs, np.eye(3, dtype=np.float32)[labels]),
        dataset,
        find("rcig.models", "mlp").make((8, 8, 1), 3),
    )


def test_the_order_of_classes_is_the_papers_and_a_function_of_the_seed():
    for seed in range(5):
        np.random.seed(seed)
        want = np.random.permutation(100)
        np.testing.assert_array_equal(class_order(seed, 100), want)
        np.testing.assert_array_equal(class_order(seed, 100), want)  # whatever the global generator did
        for steps in (5, 10):
            seen = seen_classes(seed, 100, steps)
            assert [len(group) for group in seen] == [100 // steps * (step + 1) for step in range(steps)]
            for group in seen:
                np.testing.assert_array_equal(group, want[: len(group)])
    assert [len(group) for group in seen_classes(0, 10, 3)] == [4, 7, 10]


def test_every_step_is_a_standard_evaluation_of_the_classes_seen(few):
    synthetic, dataset, model = few
    result = evaluate(KEY, *few, Continual(**TINY))
    curve, orders = result.details["curve"], result.details["class_orders"]
    assert orders == [class_order(seed, 3).tolist() for seed in range(3)]
    assert [point["classes"] for point in curve] == [2, 3] and [point["n"] for point in curve] == [6, 6]
    assert result.n == 6 and curve[-1]["accuracy"] == result.accuracy and curve[-1]["std"] == result.std
    wanted = []
    for seed, order in enumerate(orders):
        key = jax.random.fold_in(jax.random.fold_in(KEY, seed), 0)
        rows = [row for row in range(6) if np.argmax(synthetic.labels[row]) in order[:2]]
        asked = [row for row in range(60) if dataset.test.labels[row] in order[:2]]
        memory = Synthetic(synthetic.inputs[rows], synthetic.labels[rows])
        test = Batch(dataset.test.inputs[asked], dataset.test.labels[asked])
        about = dataclasses.replace(dataset, test=test)
        wanted += standard.evaluate(key, memory, about, model, Standard(**FEW, plain=False)).accuracies.tolist()
        assert len(rows) == 4 and len(asked) == 40
    assert curve[0]["accuracy"] == pytest.approx(np.mean(wanted)) and curve[0]["std"] == pytest.approx(np.std(wanted))
    again = evaluate(KEY, *few, Continual(**TINY))
    assert json.dumps(again.details) == json.dumps(result.details)


def test_all_steps_of_a_curve_train_equally_long(few, monkeypatch):
    told = []

    def judge(key, memory, dataset, model, protocol):
        told.append(protocol.recipe(len(memory.inputs), "").num_steps)
        return Result(np.zeros(protocol.num_networks))

    monkeypatch.setattr(standard, "evaluate", judge)
    evaluate(KEY, everything(toy.dataset(10, 60)), *few[1:], Continual(**TINY | {"num_steps": 0}))
    assert told == [1000] * 6  # as ten examples have, also where four are seen


def test_bad_options_and_sets(few):
    synthetic, dataset, model = few
    for options, message in (
        ({"steps": 0}, "eval.steps must be positive, not 0"),
        ({"orders": 0}, "eval.orders must be positive"),
        ({"num_networks": 0}, "num_networks must be positive"),
        ({"plain": True}, "eval.plain must be False"),
        ({"steps": 4}, "eval.steps 4 is more than the 3 classes"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(KEY, *few, Continual(**TINY | options))
    with pytest.raises(UserError, match="wants rows of every class, the set has none of 'blob 1'"):
        evaluate(KEY, synthetic._replace(labels=np.eye(3)[[0, 0, 2, 2, 0, 2]]), dataset, model, Continual(**TINY))
    lonely = Batch(dataset.test.inputs[:20], np.full(20, 1))
    with pytest.raises(UserError, match="the test split has no example of classes .*; choose fewer eval.steps"):
        evaluate(KEY, synthetic, dataclasses.replace(dataset, test=lonely), model, Continual(**TINY))
    with pytest.raises(UserError, match="the set has examples"):
        evaluate(KEY, synthetic._replace(inputs=np.zeros((6, 2))), dataset, model, Continual(**TINY))


def test_presets_are_the_standard_ones_with_three_networks():
    assert PRESETS.keys() == standard.PRESETS.keys()
    section = configs.load("quickstart", ["--config.eval.protocol=continual", "--config.eval.preset=dsa"]).eval
    assert (section.num_networks, section.steps, section.orders) == (3, 5, 5)
    assert section.augmentation.startswith("dsa:") and section.augmented_epochs == 1000 and not section.plain


def test_end_to_end_with_table_and_picture(tmp_path):
    options = TINY | {"num_steps": 2, "num_networks": 1, "orders": 1, "model.name": "mlp", "model.width": 8}
    overrides = [f"--config.eval.{name}={value}" for name, value in options.items()]
    config = configs.load("quickstart", ["--config.eval.protocol=continual", *overrides])
    dataset = experiment.load_dataset(config)
    distilled = experiment.seal(
        experiment.make_start(config, dataset), experiment.make_card(config, dataset, config.num_steps)
    )
    result = json.loads(json.dumps(measure.evaluate(distilled, config, dataset, compare=("real", "average"))))
    rows = report.table(result).splitlines()[-4:]
    cells = [cell.strip() for cell in rows[0].split("  ") if cell.strip()]
    assert cells == ["distilled", "random real examples", "class averages"]
    assert [row.split("  ")[1] for row in rows[1:]] == [
        *("accuracy, 5 classes seen", "accuracy, 10 classes seen", "accuracy, mean over steps")
    ]
    shown = report.by_set(result, "chart")
    assert list(shown) == ["distilled", "random real examples", "class averages"]
    (axes,) = render_chart.figure(shown).axes
    assert [line.get_label() for line in axes.lines] == list(shown)
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [5, 10])
    assert axes.lines[0].get_ydata()[-1] == result["accuracy"]


def test_panels_without_a_name_are_of_one_set_and_named_ones_are_shared():
    one, two = {"x": [1], "mean": [0.1]}, {"x": [1], "mean": [0.2]}
    charts = {name: {"panels": {"": {"a": each}, "both": {"": each}}} for name, each in (("s", one), ("t", two))}
    assert render_chart.collect(charts) == {"s": {"a": one}, "both": {"s": one, "t": two}, "t": {"a": two}}
