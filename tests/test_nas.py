"""Architecture search: Spearman's correlation against scipy, the grids, and references that are trained once."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats
import toy

from rcig import report
from rcig.errors import UserError
from rcig.evaluation import _reference, nas
from rcig.evaluation._ranks import ranks, spearman
from rcig.evaluation.nas import GRIDS, PRESETS, Nas, compare, evaluate, split
from rcig.models._names import network
from rcig.types import Batch, Dataset, Synthetic

TINY = {
    **{"grid": "tiny", "num_steps": 10, "learning_rate": 0.01, "reference_epochs": 1, "top": (0.5, 0.75)},
    "validation": 0.5,  # as many examples as there are to test on: one program asks about both
}
KEY = jax.random.key(3)


@pytest.fixture
def few(monkeypatch) -> tuple[Synthetic, Dataset]:
    """Two real examples of each blob, in float32, and a grid of three networks."""
    monkeypatch.setitem(GRIDS, "tiny", (("W4",), ("D1",), ("AS", "AR", "AL"), ("NN",), ("AP",)))
    single = lambda batch: Batch(batch.inputs.astype(np.float32), batch.labels)
    dataset = toy.dataset(120, 60)
    dataset = dataclasses.replace(dataset, train=single(dataset.train), test=single(dataset.test))
    labels = dataset.train.labels[:6]
    return Synthetic(dataset.train.inputs[:6], np.eye(3, dtype=np.float32)[labels]), dataset


@pytest.fixture
def trained(monkeypatch) -> list:
    """The references that are trained, none of them known before."""
    calls, train = [], nas.train_networks
    monkeypatch.setattr(nas, "train_networks", lambda *given: calls.append(given) or train(*given))
    monkeypatch.setattr(_reference, "_unkept", {})
    return calls


@pytest.mark.parametrize("seed", range(4))
def test_spearman_is_scipys(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=30), rng.normal(size=30)
    tied_a, tied_b = rng.integers(0, 5, 30), rng.integers(0, 4, 30)
    for x, y in ((a, b), (tied_a, tied_b), (a, tied_b), (a, a**3), (a, -np.exp(a))):
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    np.testing.assert_array_equal(ranks(tied_a), scipy.stats.rankdata(tied_a))


def test_spearman_where_it_is_undefined():
    assert spearman([1.0, 2.0], [1.0, 2.0]) is None and spearman([1, 2, 3], [5, 5, 5]) is None
    assert spearman([1, 2, 3], [4, 5, 9]) == pytest.approx(1) and spearman([1, 2, 3], [2, 1, 0]) == pytest.approx(-1)


def test_the_axes_are_the_papers():
    assert [" ".join(axis) for axis in GRIDS["paper"]] == [
        "W32 W64 W128 W256",
        "D1 D2 D3 D4",
        "AS AR AL",  # sigmoid, ReLU, leaky ReLU
        "NN BN LN IN GN",
        "NP MP AP",
    ]


@pytest.mark.parametrize("grid, size", [("paper", 720), ("small", 24)])
def test_grids(grid, size):
    names = Nas(grid=grid).names
    assert len(set(names)) == len(names) == size
    described = [network(name) for name in names]
    assert len({json.dumps(options, sort_keys=True) for _, options in described}) == size
    assert all(plugin == "dc_convnet" and len(options) == 5 for plugin, options in described)
    assert next(iter(PRESETS)) == "dc" and Nas(**PRESETS["small"]).grid == "small"


def test_comparison_by_hand():
    proxies = {"a": 0.1, "b": 0.4, "c": 0.4, "d": 0.2, "e": 0.3}
    references = {"a": [0.5, 0.7], "b": [0.7], "c": [0.8], "d": [0.9], "e": [0.1]}
    found = compare(proxies, references, (0.5, 0.2))
    assert (found["chosen"], found["best"]) == ("b", "d")
    assert found["networks"]["a"] == {"proxy": 0.1, "reference": pytest.approx(0.6)}
    means = [np.mean(of) for of in references.values()]
    assert found["spearman"]["all"] == pytest.approx(scipy.stats.spearmanr(list(proxies.values()), means).statistic)
    top = scipy.stats.spearmanr([0.2, 0.4, 0.4], [0.9, 0.8, 0.7]).statistic
    assert found["spearman"]["top 50 %"] == pytest.approx(top) and found["spearman"]["top 20 %"] is None


def test_the_held_out_part_is_a_function_of_the_seed_and_disjoint(few):
    _, dataset = few
    numbered = dataclasses.replace(dataset, train=Batch(np.arange(120), dataset.train.labels))
    rest, held_out = split(numbered, 0.1, 0)
    assert len(held_out.labels) == 12 and sorted([*rest.inputs, *held_out.inputs]) == list(range(120))
    np.testing.assert_array_equal(held_out.labels, dataset.train.labels[held_out.inputs])
    np.testing.assert_array_equal(split(numbered, 0.1, 0)[1].inputs, held_out.inputs)
    assert list(split(numbered, 0.1, 1)[1].inputs) != list(held_out.inputs)


def test_references_are_trained_once_and_a_stopped_search_goes_on(few, tmp_path, trained):
    path = tmp_path / "kept" / "reference.jsonl"
    protocol = Nas(**TINY, reference=str(path))
    first = evaluate(KEY, *few, None, protocol)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["network"] for line in lines] == list(protocol.names) and len(trained) == 3
    assert first.details["networks"].keys() == set(protocol.names) and first.n == 1
    chosen = next(line for line in lines if line["network"] == first.details["chosen"])
    assert first.accuracies.tolist() == chosen["test"] and chosen["validation"] != chosen["test"]
    best = next(line for line in lines if line["network"] == first.details["best"])
    assert best["validation"] == max(line["validation"] for line in lines)
    assert first.details["best_accuracy"] == best["test"][0] and first.details["bytes"] == 4 * 6 * (64 + 3)

    second = evaluate(KEY, *few, None, protocol)
    assert len(trained) == 3 and second.details["networks"] == first.details["networks"]
    path.write_text("\n".join(path.read_text().split("\n")[:2]) + '\n{"key": "cut')  # two lines and a half
    third = evaluate(KEY, *few, None, protocol)
    assert len(trained) == 4 and third.details["networks"] == first.details["networks"]
    evaluate(KEY, *few, None, dataclasses.replace(protocol, reference_seed=1))
    assert len(trained) == 7 and len(path.read_text().splitlines()) == 6
    json.dumps(dict(second.details))


def test_without_a_file_the_process_knows_its_references(few, tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    first, second = (evaluate(KEY, *few, None, Nas(**TINY)).details for _ in range(2))
    assert first["spearman"].keys() == {"all", "top 50 %", "top 75 %"}
    assert second["networks"] == first["networks"] and len(trained) == 3
    assert not list(tmp_path.iterdir())
    synthetic, dataset = few
    other = dataclasses.replace(dataset, train=Batch(dataset.train.inputs + 1, dataset.train.labels))
    evaluate(KEY, synthetic, other, None, Nas(**TINY))
    assert len(trained) == 6


def test_references_of_other_number_formats_are_others(few, monkeypatch, trained):
    monkeypatch.setattr(nas, "train_networks", lambda *given: trained.append(given))
    monkeypatch.setattr(nas, "test_accuracy", lambda *given: np.array([0.5]))
    batch = few[1].train
    find = lambda: nas._references({"a": None}, few[1], batch, batch, Nas(**TINY), None)
    for precision, x64 in ((None, False), ("float32", False), (None, True), (None, False)):
        with jax.enable_x64(x64), jax.default_matmul_precision(precision):
            find()
    assert len(trained) == 3


def test_a_file_is_named_where_none_was(tmp_path, monkeypatch):
    monkeypatch.setenv("RCIG_CACHE", str(tmp_path / "cache"))
    section = {"protocol": "nas", "reference": ""}
    assert report.kept(section, tmp_path) == {"reference": str(tmp_path / "cache" / "eval-nas-reference.jsonl")}
    (tmp_path / "config.json").write_text("{}")
    assert report.kept(section, tmp_path) == {"reference": str(tmp_path / "eval-nas-reference.jsonl")}
    assert (
        report.kept(section | {"reference": "mine"}, tmp_path) == report.kept({"protocol": "standard"}, tmp_path) == {}
    )


@pytest.mark.parametrize(
    "text",
    [
        "hello\n",
        "[1]\n",
        '{"key": "a", "validation": [0.5], "test": [1.5], "seconds": 1}\n',
        '{"key": "a", "validation": [], "test": [], "seconds": 1}\n',
        '{"key": 1, "validation": [0.5], "test": [0.5], "seconds": 1}\n',
        '{"key": "a", "validation": [0.5], "test": ["b"], "seconds": 1}\n',
    ],
)
def test_a_file_of_something_else_is_refused_and_left(text, tmp_path):
    path = tmp_path / "notes"
    path.write_text(text)
    for use in (lambda: _reference.read(path), lambda: _reference.add(path, "k", {})):
        with pytest.raises(UserError, match="notes holds a line that is no reference accuracy; name another file"):
            use()
    assert path.read_text() == text


def test_bad_options_and_sets(few):
    synthetic, dataset = few
    for options, message in (
        ({"grid": "papr"}, "unknown eval.grid 'papr'; did you mean 'paper'"),
        ({"top": (0.0,)}, "eval.top must be shares between 0 and 1, not 0.0"),
        ({"validation": 1.0}, "eval.validation must be shares"),
        ({"reference_epochs": 0}, "eval.reference_epochs must be positive"),
        ({"plain": True}, "eval.plain must be False"),
    ):
        with pytest.raises(UserError, match=message):
            Nas(**TINY | options)
    with pytest.raises(UserError, match="model.depth 4 halves a 8-pixel image"):
        evaluate(KEY, synthetic, dataset, None, Nas(**TINY | {"grid": "paper"}))
    with pytest.raises(UserError, match="cannot read eval.reference"):
        _reference.read(Path("/"))
