"""Membership inference: areas under curves in closed form, attacks that should fail and such that should not."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
import toy
from sklearn.metrics import roc_auc_score

from rcig import config as configs
from rcig import metrics
from rcig.errors import UserError
from rcig.evaluation import membership, standard
from rcig.evaluation._ranks import auc
from rcig.evaluation.membership import PRESETS, Membership, attack, draw, evaluate, features, snapshots
from rcig.evaluation.standard import Standard
from rcig.initialize import everything
from rcig.lookup import find
from rcig.types import Batch

TINY = {"num_networks": 2, "num_steps": 12, "learning_rate": 0.01, "points": 2}
ATTACKS = ["threshold", "logistic regression", "k-NN", "MLP", "random forest"]
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def noise():
    """Images of blobs with labels drawn at random: whoever knows them has seen them. And a network."""
    dataset, rng = toy.dataset(240, 240), np.random.default_rng(0)
    forget = lambda batch: Batch(batch.inputs.astype(np.float32), rng.integers(0, 3, len(batch.labels), np.int32))
    dataset = dataclasses.replace(dataset, train=forget(dataset.train), test=forget(dataset.test))
    return dataset, find("rcig.models", "mlp").make((8, 8, 1), 3, width=64)


def test_areas_in_closed_form():
    assert auc([2, 3], [0, 1]) == 1 and auc([0, 1], [2, 3]) == 0 and auc([1, 1], [1, 1, 1]) == 0.5
    assert auc([1, 3], [2]) == 0.5 and auc([1, 2, 3], [2]) == 0.5 and auc([2, 3, 3], [1, 2]) == pytest.approx(5.5 / 6)
    rng = np.random.default_rng(0)
    for d in (0.0, 0.5, 2.0):  # of two unit normals a distance d apart: P = Phi(d / sqrt(2))
        shifted = auc(rng.normal(d, 1, 40000), rng.normal(0, 1, 40000))
        assert shifted == pytest.approx((1 + math.erf(d / 2)) / 2, abs=0.006)
    truth, scores = rng.integers(0, 2, 300), rng.integers(0, 9, 300)
    assert auc(scores[truth == 1], scores[truth == 0]) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_attacks_on_features_made_by_hand():
    rng = np.random.default_rng(1)
    same = attack(rng.normal(size=(800, 4)), rng.normal(size=(800, 4)), 0.5, 0)
    assert list(same) == ATTACKS
    assert all(0.42 < area < 0.58 for area in same.values())
    small_loss = attack(rng.normal(0, 1, (200, 4)) - [0, 0, 0, 3], rng.normal(0, 1, (200, 4)), 0.5, 0)
    assert all(area > 0.93 for area in small_loss.values())
    logits = attack(rng.normal(0, 1, (200, 4)) + [3, 0, 0, 0], rng.normal(0, 1, (200, 4)), 0.5, 0)
    assert abs(logits.pop("threshold") - 0.5) < 0.15 and all(area > 0.93 for area in logits.values())
    a, b = rng.normal(0.3, 1, (2, 60, 4))
    assert attack(a, b, 0.5, 5) == attack(a, b, 0.5, 5)
    assert attack(a, b, 0.5, 0)["threshold"] == auc(-a[30:, -1], -b[30:, -1])


def test_few_examples_are_attacked_too():
    rng = np.random.default_rng(0)
    areas = attack(rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), share=0.5, seed=0)
    assert len(areas) == 5 and all(0 <= area <= 1 for area in areas.values())


def test_a_network_that_learned_the_members_by_heart_is_found_out_and_another_is_not(noise):
    dataset, model = noise
    protocol = Membership(num_networks=1, num_steps=200, learning_rate=0.01, points=1)
    overfitted = evaluate(KEY, everything(dataset), dataset, model, protocol).details
    assert list(overfitted["auc"]) == ATTACKS
    assert overfitted["auc"]["threshold"]["mean"] > 0.9
    assert all(area["mean"] > 0.7 for area in overfitted["auc"].values())
    other = everything(dataclasses.replace(dataset, train=toy.dataset(60, 60).test))
    leakless = evaluate(KEY, other, dataset, model, protocol).details
    areas = [area["mean"] for area in leakless["auc"].values()]
    assert all(0.3 < area < 0.7 for area in areas) and 0.4 < np.mean(areas) < 0.6


def test_the_curve_and_accuracies_of_the_standard_protocol(noise, monkeypatch, capsys):
    dataset, model = noise
    synthetic = everything(dataset)
    monkeypatch.setattr(metrics, "_SILENCE", 0.0)
    result = evaluate(KEY, synthetic, dataset, model, Membership(**TINY))
    told = capsys.readouterr().err.splitlines()  # of two networks at two points
    assert told[0].startswith("step 1/4") and told[-1].startswith("step 4/4 (100 %)")
    curve = result.details["curve"]
    assert [point["step"] for point in curve] == [6, 12] and result.n == 2
    assert (curve[-1]["accuracy"], curve[-1]["std"]) == (result.accuracy, result.std)
    assert all(point["auc"].keys() == set(ATTACKS) for point in curve) and curve[-1]["auc"] == result.details["auc"]
    same = {name: value for name, value in TINY.items() if name != "points"}
    plain, _ = jax.random.split(KEY)  # the standard protocol's run without augmentation
    want = standard.evaluate(KEY, synthetic, dataset, model, Standard(**same))
    again = evaluate(plain, synthetic, dataset, model, Membership(**TINY | {"points": 1}))
    np.testing.assert_array_equal(again.accuracies, want.accuracies)
    (panel,) = result.details["chart"]["panels"].values()
    assert list(panel) == [*ATTACKS, "test accuracy"] and panel["MLP"]["x"] == [6, 12]
    json.dumps(dict(result.details))


def test_networks_that_diverge_are_told_of_and_tell_nothing(noise):
    dataset, model = noise
    wild = Membership(**TINY | {"learning_rate": 1e6, "optimiser": "plain_sgd"})
    with pytest.warns(UserWarning, match="training of 2 of 2 networks diverged; lower eval.learning_rate"):
        result = evaluate(KEY, everything(dataset), dataset, model, wild)
    assert result.details["auc"] == {name: {"mean": 0.5, "std": 0.0} for name in ATTACKS}


def test_members_and_others_are_rows_of_the_splits_by_seed():
    dataset = toy.dataset(40, 30)
    numbered = dataclasses.replace(
        dataset, train=Batch(np.arange(40), np.arange(40)), test=Batch(np.arange(100, 130), np.arange(30))
    )
    members, others = draw(numbered, 100, 0)
    assert len(members.labels) == len(others.labels) == 30 and len(set(members.inputs)) == len(set(others.inputs)) == 30
    assert max(members.inputs) < 40 and min(others.inputs) >= 100
    np.testing.assert_array_equal(others.inputs, others.labels + 100)
    np.testing.assert_array_equal(draw(numbered, 100, 0)[0].inputs, members.inputs)
    assert list(draw(numbered, 100, 1)[0].inputs) != list(members.inputs)
    assert len(draw(numbered, 5, 0)[1].labels) == 5


def test_features_are_logits_and_loss(noise):
    dataset, model = noise
    batch = dataset.test
    variables = jax.vmap(model.init)(jax.random.split(KEY, 2))
    seen = features(model, variables, batch)
    assert seen.shape == (2, 240, 4)
    for n in range(2):
        of = jax.tree.map(lambda leaf, n=n: leaf[n], variables)
        logits = np.asarray(model.apply(of, batch.inputs, False, None)[0].logits)
        loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(240), batch.labels]
        np.testing.assert_allclose(seen[n], np.column_stack([logits, loss]), atol=1e-5)


@pytest.mark.parametrize(
    "num_steps, points, every, steps",
    [
        (16, 5, 1, [1, 2, 4, 8, 16]),
        (1000, 5, 62, [62, 124, 248, 496, 1000]),
        (100, 1, 100, [100]),
        (3, 5, 1, [1, 2, 3]),
        (1, 3, 1, [1]),
    ],
)
def test_snapshots(num_steps, points, every, steps):
    assert snapshots(num_steps, points) == (every, steps)
    assert all(step % every == 0 or step == num_steps for step in steps)


def test_bad_options_and_sets(noise):
    for options, message in (
        ({"points": 0}, "eval.points must be positive, not 0"),
        ({"examples": 3}, "eval.examples must be at least 4, not 3"),
        ({"attack_share": 1.0}, "eval.attack_share lie between 0 and 1, not 1.0"),
        ({"plain": True}, "eval.plain must be False"),
        ({"num_networks": 0}, "num_networks must be positive"),
    ):
        with pytest.raises(UserError, match=message):
            Membership(**TINY | options)
    dataset, model = noise
    with pytest.raises(UserError, match="the set has examples"):
        evaluate(KEY, everything(dataset)._replace(inputs=np.zeros((240, 2))), dataset, model, Membership(**TINY))
    section = configs.load("quickstart", ["--config.eval.protocol=membership"]).eval
    assert (section.points, section.attack_seed, section.plain) == (5, 0, False) and PRESETS is standard.PRESETS
    assert membership.make is Membership
