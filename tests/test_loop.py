"""The loop on the toy data: where the training set lives changes nothing, trouble is named, reports arrive."""

import json
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from plugins.pull import Pull

from rcig import loop, sharding
from rcig.errors import UserError


@dataclass(frozen=True)
class Fragile(Pull):
    """Some steps end in NaN, and may be left out."""

    max_skipped: int = 0
    odds: float = 0.0

    def step(self, key, state, batch):
        state, metrics = super().step(key, state, batch)
        failed = jax.random.uniform(key) < self.odds
        return state | {"inputs": jnp.where(failed, jnp.nan, state["inputs"])}, metrics


def run(workdir, num_steps=4, evaluate=None, nan_at=0, max_skipped=0, odds=0.0, **schedule):
    """Pull on the toy data; return the set and the steps at which it was published."""
    published = []
    distilled = loop.run(
        Fragile(toy.model(), batch_size=16, nan_at=nan_at, max_skipped=max_skipped, odds=odds),
        toy.dataset(),
        toy.synthetic(),
        loop.Schedule(num_steps, **({"steps_per_dispatch": 2, "checkpoint_every": 2} | schedule)),
        workdir,
        sharding.layout("jit", 1),
        evaluate=evaluate or (lambda step, synthetic: {}),
        publish=lambda step, synthetic: published.append(step),
    )
    return distilled, published


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_streamed_training_set_gives_the_same_bits_as_a_resident_one(tmp_path):
    resident, published = run(tmp_path / "resident")
    streamed, _ = run(tmp_path / "streamed", max_resident_bytes=1)
    for a, b in zip(jax.tree.leaves(resident), jax.tree.leaves(streamed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert published == [2, 4]
    lines = metrics(tmp_path / "resident")
    assert [line["step"] for line in lines] == [2, 4] and all(line["loss"] > 0 for line in lines)
    again, published = run(tmp_path / "resident")  # finished: nothing left to do
    np.testing.assert_array_equal(again.inputs, resident.inputs)
    assert len(metrics(tmp_path / "resident")) == 2


def test_a_set_that_fits_the_device_needs_no_grain(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    assert run(tmp_path, 2)[1] == [2]


def test_evaluations_join_the_metrics(tmp_path):
    seen = []
    report = lambda step, synthetic: seen.append(synthetic.inputs.shape) or {"test_accuracy": step / 10}
    run(tmp_path, 3, report, eval_every=2)
    assert seen == [toy.synthetic().inputs.shape] * 2
    assert [line.get("test_accuracy") for line in metrics(tmp_path)] == [0.2, 0.3]


def test_an_evaluation_that_fails_loses_no_steps(tmp_path):
    def refuse(step, synthetic):
        raise UserError("no such network")

    with pytest.raises(UserError, match="no such network"):
        run(tmp_path, 4, refuse, eval_every=3, checkpoint_every=100)
    assert [path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")] == ["4"]


def test_nan_stops_the_run_and_says_where(tmp_path):
    with pytest.raises(UserError, match="loss became NaN or infinite at step 3; the last good state is step 2"):
        run(tmp_path, nan_at=3)
    with pytest.raises(UserError, match="the state became NaN or infinite at step 0; no state is saved yet"):
        run(tmp_path / "other", odds=1.0, steps_per_dispatch=1)


def test_steps_that_fail_by_chance_are_left_out_as_many_in_a_row_as_the_method_says(tmp_path):
    ended = [run(tmp_path / str(k), 12, max_skipped=4, odds=0.5, steps_per_dispatch=k)[0].inputs for k in (1, 4)]
    assert np.all(np.isfinite(ended[0])) and np.any(ended[0] != toy.synthetic().inputs)
    np.testing.assert_array_equal(*ended)
    share = [line["skipped"] for line in metrics(tmp_path / "4")]
    assert 0 < np.mean(share) < 1
    assert [line["skipped"] for line in metrics(tmp_path / "1")].count(1) == round(12 * np.mean(share))
    with pytest.raises(UserError, match="loss became NaN or infinite at step 5; the last good state is step 4"):
        run(tmp_path / "stuck", 8, nan_at=3, max_skipped=2)


@pytest.mark.parametrize("field", ["num_steps", "steps_per_dispatch", "checkpoint_every"])
def test_schedules_are_positive(field):
    with pytest.raises(UserError, match=f"{field} must be at least 1, not 0"):
        loop.Schedule(**({"num_steps": 1} | {field: 0}))
