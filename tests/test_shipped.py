"""The distilled sets that ship with the project are sound, and worth what their cards say."""

from pathlib import Path

import pytest

import rcig

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
NAMES = sorted(path.parent.name for path in CHECKPOINTS.glob("*/card.json"))


@pytest.mark.parametrize("name", NAMES)
def test_cards_fit_their_sets_and_promise_a_number(name):
    distilled = rcig.load(CHECKPOINTS / name)
    card = distilled.card
    assert len(distilled.inputs) == card["ipc"] * len(distilled.classes)
    assert 0 < card["step"] <= card["config"]["num_steps"]
    result = card["accuracies"][-1]
    assert result["n"] >= 5 or card["config"]["eval"].get("networks") == "fixed"  # a fixed network is one
    assert result["accuracy"] > result["baseline_random"] + 3 * result["std"]


def test_a_set_reproduces_its_cards_number():
    distilled = rcig.load(CHECKPOINTS / "rcig_digits_ipc1")
    promised = distilled.card["accuracies"][-1]
    result = rcig.evaluate(distilled, num_networks=5)
    assert abs(result["accuracy"] - promised["accuracy"]) < 2 * promised["std"]
    assert result["accuracy"] > 0.90 > result["baseline_random"]
