"""Coresets: closed forms on points of the plane, sets of real rows, and the rows of a table of baselines."""

import dataclasses

import jax
import numpy as np
import pytest
import toy

from rcig import baselines, coreset, label_starts, report
from rcig.errors import UserError
from rcig.evaluation.standard import Result
from rcig.types import Batch, Dataset

KEY = jax.random.key(0)


def test_herding_begins_at_the_mean_and_keeps_it():
    points = np.array([[0.0, 0.0], [4.0, 0.0], [2.1, 0.0], [-2.0, 0.0], [5.9, 0.0]])  # mean (2, 0)
    assert coreset.herd(points, 1).tolist() == [2]
    # then nearest to 2 * 2 - 2.1 = 1.9: 0 (1.9 away) before 4 (2.1 away); then to 6 - 2.1 = 3.9: 4; then to 8 - 6.1
    assert coreset.herd(points, 5).tolist() == [2, 0, 1, 3, 4]


def test_herding_approximates_the_mean_better_than_chance():
    points = np.random.default_rng(0).normal(size=(200, 5))
    off = lambda rows: np.linalg.norm(points[rows].mean(0) - points.mean(0))
    by_chance = [off(np.random.default_rng(seed).permutation(200)[:20]) for seed in range(20)]
    assert off(coreset.herd(points, 20)) < 0.3 * min(by_chance)
    assert sorted(coreset.herd(points, 200)) == list(range(200))  # without replacement


def test_k_center_begins_at_the_mean_and_goes_far():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 9.0], [-6.0, 0.0], [0.0, -8.0], [0.4, 0.3]])  # mean (-0.77, 0.22)
    assert coreset.cover(points, 4).tolist() == [0, 2, 4, 3]
    assert sorted(coreset.cover(np.zeros((4, 2)), 4)) == [0, 1, 2, 3]  # equal points are chosen once each


def test_events_are_counted_from_right_to_wrong():
    learned = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 0]], bool)
    assert coreset.forgotten(learned).tolist() == [1, 0, 1, 2]
    assert coreset.forgotten(np.array([[1, 0], [1, 0]], bool)).tolist() == [0, 3]  # never learned: most of all


def points_of(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Dataset:
    split = Batch(features.astype(np.float32), labels.astype(np.int32))
    names = tuple("abc"[:num_classes])
    return Dataset("points", split, split, num_classes, names, lambda x: x, {"kind": "none"})


@pytest.mark.parametrize("name", coreset.SELECTIONS)
def test_rows_are_real_different_class_major_and_repeatable(name):
    dataset = toy.dataset(num_train=60)
    observed = coreset.Observed(lambda inputs: np.asarray(inputs).reshape(len(inputs), -1), np.arange(60) % 4)
    made = coreset.select(name, KEY, dataset, 5, (2, 0), observed)
    assert made.inputs.dtype == made.labels.dtype == np.float32 and made.inputs.shape == (10, 8, 8, 1)
    np.testing.assert_array_equal(np.argmax(made.labels, 1), np.repeat([2, 0], 5))
    real = np.asarray(dataset.train.inputs, np.float32)
    rows = [int(np.flatnonzero((real == np.asarray(image)).all((1, 2, 3)))[0]) for image in made.inputs]
    assert len(set(rows)) == 10
    np.testing.assert_array_equal(dataset.train.labels[rows], np.repeat([2, 0], 5))
    np.testing.assert_array_equal(coreset.select(name, KEY, dataset, 5, (2, 0), observed).inputs, made.inputs)


def test_the_space_is_the_networks():
    points = np.array([[0.0, 100.0], [1.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    dataset = points_of(points, np.zeros(4), 1)
    second = coreset.Observed(lambda inputs: inputs[:, 1:], np.zeros(4))
    assert coreset.select("k_center", KEY, dataset, 2, (), second).inputs.tolist() == [[1, 0], [0, 100]]


def test_forgetting_draws_among_equals_by_the_key_only():
    dataset = points_of(np.arange(20.0)[:, None], np.zeros(20), 1)
    observed = coreset.Observed(lambda inputs: inputs, np.array([7, 0] * 10))
    draws = [coreset.select("forgetting", jax.random.key(k), dataset, 3, (), observed).inputs.ravel() for k in range(4)]
    assert all(value % 2 == 0 for draw in draws for value in draw) and len({tuple(map(float, d)) for d in draws}) > 1


def test_an_example_with_a_wrong_label_is_the_most_forgotten():
    dataset = toy.dataset(num_train=180)
    labels = np.array(dataset.train.labels)
    wrong = int(np.flatnonzero(labels == 1)[0])
    labels[wrong] = 2
    dataset = dataclasses.replace(dataset, train=Batch(dataset.train.inputs, labels))
    observed = coreset.observe(KEY, toy.model(depth=1, width=8), dataset, epochs=30)
    assert observed.events[wrong] == observed.events.max() and np.median(observed.events) <= 1
    assert observed.embed(dataset.train.inputs[:7]).shape[0] == 7
    count = int(np.sum(observed.events == observed.events.max()))
    chosen = coreset.select("forgetting", KEY, dataset, count, (2,), observed)
    assert (np.asarray(chosen.inputs) == np.asarray(dataset.train.inputs[wrong], np.float32)).all((1, 2, 3)).any()


def test_baselines_share_one_network(monkeypatch):
    dataset, trained = toy.dataset(num_train=60), []
    observe = coreset.observe
    monkeypatch.setattr(coreset, "observe", lambda *args: trained.append(1) or observe(*args, epochs=1))
    judge_on = lambda dataset: lambda key, synthetic: Result(np.zeros(1))
    arguments = (KEY, dataset, 2, (0, 1, 2), label_starts.LabelStart(), toy.model(), judge_on)
    make = lambda *names, **options: baselines.make(names, *arguments, **options)
    made = make("herding", "k_center", "forgetting")
    assert list(made) == ["real", "herding", "k_center", "forgetting"] and len(trained) == 1
    assert len(make("average")["average"]) == 1 and len(trained) == 1
    draws = make("noise", draws=3)["real"]
    assert len({draw.inputs.tobytes() for draw in draws}) == 3
    assert set(coreset.SELECTIONS) < set(baselines.NAMES)
    assert {*baselines.NAMES} - {"real"} == {*report.BASELINES} - {"random"}  # what is measured is shown


def test_a_baseline_that_a_small_class_lacks_is_left_out_with_a_warning():
    judge_on = lambda dataset: lambda key, synthetic: Result(np.zeros(1))
    arguments = (KEY, toy.dataset(num_train=60), 21, (0, 1, 2), label_starts.LabelStart(), toy.model(), judge_on)
    with pytest.warns(UserWarning, match="no baseline real: ipc 21 is more than class 'blob 0'"):
        assert list(baselines.make(("real", "noise"), *arguments)) == ["noise"]


def test_mistakes_say_the_rule():
    dataset = toy.dataset(num_train=60)
    with pytest.raises(UserError, match="ipc 21 is more than class 'blob 0'"):
        coreset.select("herding", KEY, dataset, 21, (), None)
    with pytest.raises(UserError, match="unknown coreset 'kcenter'; did you mean 'k_center'"):
        coreset.select("kcenter", KEY, dataset, 1, (), None)


@pytest.mark.parametrize("attack", [False, True])
def test_the_best_of_many_real_sets_is_best_at_what_it_is_for(attack):
    """A judge for whom sets are good by their first number; attacks that succeed leave the accuracy low."""

    def judge_on(dataset):
        assert len(dataset.test.labels) == 7

        def judge(key, synthetic):
            value = float(synthetic)
            told = {"measures": {"accuracy, modified labels": {"mean": value}}} if attack else {}
            return Result(np.array([1 - value if attack else value]), details=told)

        return judge

    train = Batch(np.zeros((7, 2), np.float32), np.arange(7) % 2)
    dataset = Dataset("seven", train, train, 2, ("a", "b"), lambda x: x, {})
    values = iter(np.random.default_rng(0).permutation(baselines.CANDIDATES) / baselines.CANDIDATES)
    best = baselines._optimised(jax.random.key(0), dataset, lambda name, key: next(values), judge_on)
    assert best == (baselines.CANDIDATES - 1) / baselines.CANDIDATES
