"""k nearest neighbours by hand, baselines beside a set, and sets of fewer groups than classes, end to end."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from rcig import artefact, experiment, formats, measure, report
from rcig import config as configs
from rcig.card import check_card, new_card, stamp
from rcig.errors import UserError
from rcig.evaluation.nearest import PRESETS, Nearest, evaluate
from rcig.lookup import find
from rcig.types import Batch, Dataset, Synthetic


def plane(test, labels, num_classes=2, shape=(2,)) -> Dataset:
    batch = Batch(np.asarray(test, np.float32).reshape(-1, *shape), np.asarray(labels, np.int32))
    return Dataset("plane", batch, batch, num_classes, tuple("abc"[:num_classes]), lambda x: x, {"kind": "none"})


def judge(synthetic, dataset, **options):
    return evaluate(jax.random.key(0), synthetic, dataset, None, Nearest(**options))


def test_votes_and_norms_by_hand():
    learned = np.array([[3.1, -1.2], [0.2, 0.1], [-1, 0], [0, 0.1]], np.float32)  # classes 0, 0, 1, 1
    synthetic = Synthetic(np.array([[0, 0], [1, 1], [1.6, 0], [4, 4]], np.float32), learned)
    dataset = plane([[1.6, 0.1], [3, 3], [0.1, 0], [0, 0.1]], [1, 1, 0, 1])
    result = judge(synthetic, dataset)
    assert (result.accuracy, result.std, result.n) == (0.75, 0.0, 1)
    assert judge(synthetic, dataset, k=3).accuracy == 0.5  # votes 0, 1, 0, 0
    corner = plane([[0, 0]], [0])
    two = Synthetic(np.array([[1.2, 1.2], [2, 0]], np.float32), np.eye(2, dtype=np.float32))  # p=1: 2.4, 2; p=2: 1.7, 2
    assert [judge(two, corner, p=p).accuracy for p in (1, 2)] == [0, 1]


def test_chunks_change_nothing_and_mirror_images_count():
    rng = np.random.default_rng(0)
    synthetic = Synthetic(rng.normal(size=(6, 3, 4, 1)).astype(np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 3])
    dataset = plane(rng.normal(size=(50, 12)), rng.integers(0, 2, 50), shape=(3, 4, 1))
    results = {judge(synthetic, dataset, test_chunk=chunk).accuracy for chunk in (1, 7, 50, 1024)}
    assert len(results) == 1
    mirror = plane(np.asarray(synthetic.inputs)[:, :, ::-1], [0, 1] * 3, shape=(3, 4, 1))
    assert judge(synthetic, mirror, flip=True).accuracy == 1 > judge(synthetic, mirror).accuracy


def test_bad_options_and_sets():
    synthetic = Synthetic(np.zeros((2, 2), np.float32), np.eye(2, dtype=np.float32))
    dataset = plane([[0, 0]], [0])
    for options, message in (
        ({"k": 0}, "k 0, p 2.0 and test_chunk 1024 must be at least 1"),
        ({"p": 0.5}, "p 0.5"),
        ({"k": 3}, "k 3 is more than the set's 2 examples"),
        ({"flip": True}, "want images"),
    ):
        with pytest.raises(UserError, match=message):
            judge(synthetic, dataset, **options)
    with pytest.raises(UserError, match="the set has examples"):
        judge(synthetic._replace(inputs=np.zeros((2, 3))), dataset)


@pytest.mark.parametrize("protocol", ["nas", "soft_labels"])
def test_a_protocol_that_wants_images_says_so_itself(protocol):
    synthetic = Synthetic(np.zeros((2, 2), np.float32), np.eye(2, dtype=np.float32))
    module = find("rcig.evaluation", protocol)
    with pytest.raises(UserError, match=rf"protocol {protocol} wants images .*, not \(2,\); use --protocol=standard"):
        module.evaluate(jax.random.key(0), synthetic, plane([[0, 0]], [0]), None, module.make())


# ---------------------------------------------------------------- a set of fewer groups than classes, and its baselines

OVERRIDES = ["--config.init_labels=7,3", "--config.ipc=2", "--config.labels.name=one_hot", "--config.eval.flip=False"]


@pytest.fixture(scope="module")
def digits():
    return experiment.load_dataset(configs.load("quickstart"))


@pytest.fixture
def few(digits):
    """Four rows of digits 7 and 3, sealed with the card of a run."""
    config = configs.load("quickstart", [*OVERRIDES, "--config.eval.protocol=nearest"])
    return experiment.seal(
        experiment.make_start(config, digits), experiment.make_card(config, digits, config.num_steps)
    )


def test_a_set_of_two_groups_travels_and_is_compared_with_its_like(few, digits, tmp_path):
    assert few.card["init_labels"] == few.classes == [7, 3] and few.inputs.shape == (4, 8, 8, 1)
    artefact.save(tmp_path / "distilled", few.synthetic, few.card)
    formats.export(few, tmp_path / "set.npz")
    for again in (artefact.load(tmp_path), formats.read(tmp_path / "set.npz", "npz", 10)):
        assert again.classes == [7, 3]
        result = measure.evaluate(again, dataset=digits, compare=("real", "average", "kmeans", "noise", "optimised"))
        assert 0.15 < result["accuracy"] <= 0.21 and result["n"] == 1  # two of ten classes can be known
        for name in ("random", "average", "kmeans"):
            assert 0.15 < result[f"baseline_{name}"] <= 0.21
        assert result["baseline_random_std"] > 0 == result["baseline_average_std"]  # of several draws, and of one set
        assert result["baseline_noise"] < result["baseline_kmeans"]
        json.dumps(result)
    lines = report.table(result).splitlines()
    assert [line.split("  ")[1] for line in lines[2:]] == [
        *("distilled", "random real examples, 5 draws", "class averages", "k-means centres"),
        *("best of 20 random real sets", "noise"),
    ]
    assert result["baseline_optimised"] >= result["baseline_random"] - 0.02


def test_the_set_of_an_unfinished_run_says_so(few, digits):
    with pytest.warns(UserWarning, match="the set is that of step 5 of 1000"):
        measure.evaluate(dataclasses.replace(few, card=few.card | {"step": 5}), dataset=digits)


def test_what_the_judge_leaves_out_or_guesses_is_said(few, digits):
    found = few.synthetic._replace(labels=few.labels + 0.1 * np.arange(4)[:, None], learning_rates=np.full((1, 1), 0.2))
    strange = experiment.seal(found, few.card | {"pixel_space": "unknown", "method": "mtt"})
    judge = {"eval.protocol": "standard", "eval.preset": "dc", "eval.num_steps": 1, "eval.num_networks": 1}
    config = configs.change(configs.from_dict(few.card["config"]), judge | {"eval.model.width": 4})
    with pytest.warns(UserWarning) as caught:
        measure.evaluate(strange, config, digits, compare=())
    told = [str(one.message) for one in caught]
    assert len(told) == 3 and "in which pixel space" in told[0] and "takes the largest of each row" in told[1]
    assert "learned rate 0.2 is not used: eval.learning_rate is 0.01, and 0 takes it" in told[2]


@pytest.mark.parametrize("method, steps, told", [("mtt", 1, True), ("mtt", 2, False), ("bptt", 1, False)])
def test_a_rate_that_is_no_schedule_is_told_of(few, digits, method, steps, told):
    rated = experiment.seal(few.synthetic._replace(learning_rates=np.full((1, steps), 0.2)), few.card)
    rated = dataclasses.replace(rated, card=rated.card | {"method": method})
    config = configs.change(configs.from_dict(few.card["config"]), {"eval.protocol": "bptt"})
    doubts = list(measure._doubts(rated, config, digits))
    assert ["0.2 is a rate, not a schedule" in doubt for doubt in doubts] == [True] * told


@pytest.mark.parametrize(
    "protocol, baseline, message",
    [
        ("nearest", "kmaens", "unknown baseline 'kmaens'; did you mean 'kmeans'"),
        ("nas", "optimised", "baseline optimised is chosen by its accuracy.*; leave it out of --baselines"),
    ],
)
def test_a_baseline_that_cannot_be_is_said_before_anything_is_measured(
    few, digits, monkeypatch, protocol, baseline, message
):
    def never(*args, **options):
        raise AssertionError("measured")

    monkeypatch.setattr(experiment, "make_judge", lambda *args: never)
    config = configs.change(configs.from_dict(few.card["config"]), {"eval.protocol": protocol})
    with pytest.raises(UserError, match=message):
        measure.evaluate(few, config, digits, compare=(baseline,))


@pytest.mark.parametrize(
    "protocol, options, draws",
    [
        ("standard", {"num_networks": 20}, 5),
        ("standard", {"num_networks": 2}, 2),
        ("nearest", {}, 5),
        ("bptt", {"networks": "fixed", "attack": (), "num_networks": 20}, 5),
        ("bptt", {"networks": "random", "attack": (0, 1), "num_networks": 20}, 1),
        ("bptt", {"networks": "runs/pool", "attack": (), "num_networks": 20}, 1),
        ("kernel", {"trained_networks": 0, "num_networks": 5}, 5),
        ("kernel", {"trained_networks": 3, "num_networks": 5}, 1),
        ("kernel", {"kernel": "empirical_ntk", "num_networks": 5}, 5),
        ("kernel", {"kernel": "fully_connected", "num_networks": 5}, 5),
        ("kernel", {"kernel": "convnet3", "num_networks": 5}, 1),
        ("kernel", {"kernel": "stax_myrtle", "num_networks": 5}, 1),
        ("cross_arch", {"num_networks": 5}, 1),
    ],
)
def test_random_examples_are_drawn_anew_where_a_set_is_its_accuracy(protocol, options, draws):
    assert measure._num_draws(ConfigDict({"protocol": protocol} | options)) == draws


def test_by_default_only_random_examples_are_compared(few, digits):
    result = measure.evaluate(few, dataset=digits, full_data_steps=1)
    names = [f"baseline_random{part}" for part in ("", "_std", "_draws")]
    assert [name for name in result if name.startswith("baseline")] == names
    assert result["full_data"] > 0.95
    assert not [name for name in measure.evaluate(few, dataset=digits, compare=()) if name.startswith("baseline")]
    assert PRESETS.keys() == {"nearest"}


def make_card(**changes):
    card = new_card(
        **(dict(method="m", config={}, dataset="d", ipc=1, num_classes=3, class_names=list("abc"), preprocessing={})),
        **(dict(pixel_space="none", seed=0, step=0) | changes),
    )
    rows = 3 if not card["init_labels"] else len(card["init_labels"])
    shapes = {"inputs": [rows, 2], "labels": [rows, 3]}
    return card | {"arrays": {k: {"shape": v, "dtype": "float32", "sha256": "0"} for k, v in shapes.items()}}


def test_a_card_without_the_field_means_every_class():
    card = make_card()
    check_card(stamp(card), "new")
    del card["init_labels"]
    check_card(stamp(card), "old")
    check_card(stamp(make_card(init_labels=(2, 0))), "fewer")


@pytest.mark.parametrize(
    "groups, message",
    [
        ([3], r"init_labels must be a list of classes 0..2"),
        ([-1], "must be a list of classes"),
        ([True], "must be a list of classes"),
        ("ab", "must be a list of classes"),
        ([1, 1], r"must name each class once, not \[1, 1\]"),
    ],
)
def test_a_card_with_groups_that_are_no_classes(groups, message):
    with pytest.raises(UserError, match=message):
        check_card(stamp(make_card() | {"init_labels": groups}), "bad")
    with pytest.raises(UserError, match="must have ipc"):
        check_card(stamp(make_card() | {"init_labels": [1, 2]}), "bad")  # the arrays have three rows


def test_a_set_without_card_tells_its_groups_by_its_labels(tmp_path):
    def read(classes):
        np.savez(tmp_path / "set.npz", images=np.ones((len(classes), 4, 4, 1), np.float32), labels=np.array(classes))
        return formats.read(tmp_path / "set.npz", "npz", 3)

    few = read([2, 2, 0, 0])
    assert few.classes == [0, 2] and few.card["ipc"] == 2 and np.argmax(few.labels, 1).tolist() == [0, 0, 2, 2]
    assert read([2]).classes == [2] and read([0, 1, 2]).classes == [0, 1, 2] and read([1, 1, 1]).classes == [1]
    assert np.argmax(read([0, 1, 0, 1]).labels, 1).tolist() == [0, 0, 1, 1]
    for classes in ([0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1]):
        with pytest.raises(UserError, match="as many of each class"):
            read(classes)
