"""The distilled set on disk: round trips, cards, kills, strangers' files and other programs' formats."""

import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import artefact, formats, results
from rcig.card import check, commit, stamp
from rcig.errors import UserError
from rcig.types import Synthetic

# orbax's threads may still be reading a broken array when its first error has been raised
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROOT = Path(__file__).resolve().parent.parent
K, IPC = 3, 2


def make_synthetic(seed: int = 0, learning_rates: bool = True) -> Synthetic:
    rng = np.random.default_rng(seed)
    inputs, labels = rng.normal(size=(K * IPC, 5, 4, 1)), rng.normal(size=(K * IPC, K))
    return Synthetic(jnp.asarray(inputs), jnp.asarray(labels), jnp.full((7, 2), 0.1) if learning_rates else None)


def make_card(**changes) -> dict:
    card = dict(method="rcig", config={"ridge": 1e-3, "widths": (8, 8)}, dataset="digits", ipc=IPC, num_classes=K)
    card |= dict(class_names=list("abc"), preprocessing={"mean": np.float32(0.5)}, pixel_space="zca", seed=1, step=9)
    return artefact.new_card(**(card | changes))


def assert_holds(distilled, synthetic) -> None:
    for got, want in zip(distilled.synthetic, synthetic, strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            assert isinstance(got, np.ndarray) and got.dtype == np.float32
            np.testing.assert_array_equal(got, np.asarray(want, np.float32))


@pytest.mark.parametrize("learning_rates", [True, False])
def test_round_trip(tmp_path, learning_rates):
    synthetic = make_synthetic(learning_rates=learning_rates)
    artefact.save(tmp_path / "run" / "distilled", synthetic, make_card())
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["distilled"]
    for path in (tmp_path / "run", tmp_path / "run" / "distilled"):
        distilled = artefact.load(path)
        assert_holds(distilled, synthetic)
        assert distilled.card["config"] == {"ridge": 1e-3, "widths": [8, 8]}
        assert distilled.card["preprocessing"] == {"mean": 0.5} and distilled.card["step"] == 9
        assert set(distilled.card["versions"]) == {"jax", "flax", "optax", "orbax", "python"}


def test_the_card_is_readable_and_collects_results(tmp_path):
    artefact.save(tmp_path, make_synthetic(), make_card(config={"clip": float("inf")}))
    arrays = artefact.load(tmp_path).card["arrays"]
    for accuracy in (0.5, 0.75):
        artefact.add_result(tmp_path, {"protocol": "standard", "accuracy": np.float32(accuracy)}, arrays)
    text = (tmp_path / "card.json").read_text()
    card = json.loads(text)
    assert text == json.dumps(card, indent=1, sort_keys=True) + "\n" and card["config"] == {"clip": "inf"}
    distilled = artefact.load(tmp_path)
    assert [result["accuracy"] for result in distilled.card["accuracies"]] == [0.5, 0.75]
    assert artefact.seal(distilled.synthetic, distilled.card).card == distilled.card
    assert artefact.seal(make_synthetic(1), distilled.card).card["accuracies"] == []  # those were of other arrays


def test_a_table_of_runs_shows_what_tells_them_apart(tmp_path, capsys, monkeypatch):
    for name, ridge in (("a", 0.1), ("b", 0.2)):
        config = {"method": {"ridge": ridge, "name": "rcig"}, "eval": {"protocol": "standard"}}
        card = artefact.save(tmp_path / name / "distilled", make_synthetic(), make_card(config=config)).card
        result = {"protocol": "standard", "accuracy": 0.5 + ridge, "std": 0.01, "n": 5, "baseline_random": 0.25}
        artefact.add_result(tmp_path / name, result | {"options": {}, "seed": 0}, card["arrays"])
    monkeypatch.setattr("sys.argv", ["results", str(tmp_path / "a"), str(tmp_path / "b/distilled")])
    results.main()
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["run", "method.ridge", "accuracy", "n"],
        ["a", "0.1", "60.0", "±", "1.0", "5"],
        ["b", "0.2", "70.0", "±", "1.0", "5"],
    ]
    with pytest.raises(UserError, match="none of these sets was measured"):
        results.table([])


def test_a_result_does_not_go_to_the_set_that_a_running_distillation_has_put_there_meanwhile(tmp_path):
    artefact.save(tmp_path / "distilled", make_synthetic(), make_card())
    evaluated = artefact.load(tmp_path).card["arrays"]
    newer = make_synthetic()
    artefact.save(tmp_path / "distilled", newer._replace(inputs=newer.inputs + 1), make_card())
    with pytest.raises(UserError, match="holds a newer set than the one that was evaluated"):
        artefact.add_result(tmp_path, {"accuracy": 0.5}, evaluated)
    assert artefact.load(tmp_path).card["accuracies"] == []


def test_a_set_that_is_unfit_is_not_saved(tmp_path):
    good = make_synthetic()
    for synthetic, card in [
        (good._replace(inputs=good.inputs.at[0].set(jnp.nan)), make_card()),
        (good._replace(labels=good.labels[:4]), make_card()),
        (good, make_card(ipc=5)),
        (good, make_card(class_names=["a"])),
    ]:
        with pytest.raises(UserError):
            artefact.save(tmp_path / "d", synthetic, card)
    assert not (tmp_path / "d").exists()


def test_a_folder_of_other_things_is_never_replaced(tmp_path):
    (tmp_path / "photo.png").write_text("x")
    with pytest.raises(UserError, match="choose another"):
        artefact.save(tmp_path, make_synthetic(), make_card())
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_any_harm_to_any_file_is_noticed_or_harmless(tmp_path, harm):
    artefact.save(tmp_path / "good", make_synthetic(), make_card())
    refused = 0
    for file in sorted(p.relative_to(tmp_path / "good") for p in (tmp_path / "good").rglob("*") if p.is_file()):
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        data = bytearray((tmp_path / "bad" / file).read_bytes())
        data[len(data) // 2] ^= 1 << 3
        (tmp_path / "bad" / file).write_bytes(data if harm == "flip" else data[: len(data) // 2])
        if harm == "remove":
            (tmp_path / "bad" / file).unlink()
        try:
            assert_holds(artefact.load(tmp_path / "bad"), make_synthetic())
        except UserError:
            refused += 1
        shutil.rmtree(tmp_path / "bad")
    assert refused >= 4  # the card, the manifest, the metadata and the data at least


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"ipc": "two"},
        {"ipc": 10**12},
        {"class_names": None},
        {"arrays": {}},
        {"arrays": {"inputs": {"shape": [6, 2**39], "dtype": "float32", "sha256": ""}}},
        {"arrays": {"inputs": {"shape": [-6], "dtype": "float32", "sha256": ""}}},
        {"arrays": {"inputs": {"shape": [6], "dtype": "object", "sha256": ""}}},
        {"arrays": {"inputs": []}},
    ],
)
def test_a_false_card_is_refused_before_the_arrays_are_read(tmp_path, change):
    artefact.save(tmp_path, make_synthetic(learning_rates=False), make_card())
    card = json.loads((tmp_path / "card.json").read_text())
    if change.get("arrays"):
        change = {"arrays": card["arrays"] | change["arrays"]}
    (tmp_path / "card.json").write_text(json.dumps(stamp(card | change)))
    with pytest.raises(UserError):
        artefact.load(tmp_path)


def test_what_is_no_artefact_is_said_in_one_line(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "set.npz").write_bytes(b"")
    artefact.save(tmp_path / "many" / "one", make_synthetic(), make_card())
    for path, message in {
        "nowhere": "does not exist",
        "checkpoints": "no distilled set",
        "set.npz": "--format",
        "many": "choose one of one",
    }.items():
        with pytest.raises(UserError, match=message):
            artefact.load(tmp_path / path)


def test_a_kill_between_the_two_renames_leaves_the_old_set(tmp_path):
    artefact.save(tmp_path / "distilled", make_synthetic(0), make_card())
    (tmp_path / "distilled").rename(tmp_path / ".distilled.old")
    (tmp_path / ".distilled.new.orbax-checkpoint-tmp").mkdir()
    assert_holds(artefact.load(tmp_path), make_synthetic(0))
    assert_holds(artefact.load(tmp_path / "distilled"), make_synthetic(0))
    artefact.save(tmp_path / "distilled", make_synthetic(1), make_card())
    assert_holds(artefact.load(tmp_path), make_synthetic(1))
    assert [p.name for p in tmp_path.iterdir()] == ["distilled"]


SAVER = """
import itertools, sys
import numpy as np
from rcig import artefact
from rcig.types import Synthetic
card = dict(method="m", config={}, dataset="d", ipc=1, num_classes=1, class_names=["a"], preprocessing={})
card = artefact.new_card(**card, pixel_space="p", seed=0, step=0)
for i in itertools.count():
    artefact.save(sys.argv[1], Synthetic(np.full((1, 200_000), i), np.ones((1, 1))), card | {"step": i})
    print(i, flush=True)
"""


def test_killed_or_read_at_any_instant_a_whole_set_is_found(tmp_path):
    folder, instants = tmp_path / "distilled", random.Random(0)
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(folder)],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "0\n"
        until, reads = time.monotonic() + instants.uniform(0.8, 1.2), 0
        while time.monotonic() < until:
            distilled, reads = artefact.load(tmp_path), reads + 1
            assert (distilled.inputs == distilled.card["step"]).all()
        child.kill()
        last = int(child.communicate()[0].split()[-1])
        assert reads > 0 and artefact.load(tmp_path).card["step"] >= last > 0


def published(tree: str = "ema_average", **changes) -> dict:
    """Return the tree of a published checkpoint: 10 images of 32 by 32 pixels, its optimiser state included."""
    rng = np.random.default_rng(0)
    params = {"x_proto": rng.normal(size=(10, 32, 32, 3)), "y_proto": rng.normal(size=(10, 10)), "log_temp": 0.28}
    params = {k: np.asarray(v, np.float32) for k, v in params.items()}
    protos = {"x_proto": params["x_proto"], "y_proto": params["y_proto"]}
    adam = {"count": np.int32(15000), "mu": protos | {"log_temp": {}}, "nu": protos | {"log_temp": {}}}
    average = {k: v + np.float32(1) for k, v in params.items()} | changes
    content = {"step": np.int32(15000), "train_it": np.int32(15000), "params": params}
    content["opt_state"] = {"0": {"inner_state": {"0": adam, "1": {}}}}
    return content | {"ema_hidden": params, tree: average}


def test_the_published_rcig_layout_is_read(tmp_path):
    content = published()
    for name, data in {
        "jax": flax.serialization.to_bytes(jax.tree.map(jnp.asarray, content)),
        "numpy": flax.serialization.msgpack_serialize(content),
    }.items():
        (tmp_path / name).write_bytes(data)
        distilled = formats.read(tmp_path / name, "rcig", num_classes=10)
        np.testing.assert_array_equal(distilled.inputs, content["ema_average"]["x_proto"])
        np.testing.assert_array_equal(distilled.labels, content["ema_average"]["y_proto"])
        assert distilled.card["ipc"] == 1 and distilled.card["method"] == "rcig"
        frepo = formats.read(tmp_path / name, "frepo", num_classes=10)
        np.testing.assert_array_equal(frepo.inputs, content["params"]["x_proto"])


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1, 2],
        published("ema"),
        published(x_proto={}),
        published(x_proto=np.zeros((10, 32, 32, 3), np.complex64)),
        published(x_proto=np.full((10, 32, 32, 3), np.nan, np.float32)),
        published(x_proto=np.zeros((10, 32, 32, 4), np.float32)),
        published(y_proto=np.zeros((9, 10), np.float32)),
        published(y_proto=np.zeros((10, 9), np.float32)),
        published(x_proto=np.zeros((0, 32, 32, 3), np.float32)),
    ],
)
def test_a_malformed_rcig_file_is_a_user_error(tmp_path, content):
    (tmp_path / "c").write_bytes(flax.serialization.msgpack_serialize(content))
    with pytest.raises(UserError):
        formats.read(tmp_path / "c", "rcig", num_classes=10)


def test_torn_and_random_files_are_user_errors_in_every_format(tmp_path):
    distilled = artefact.save(tmp_path / "d", make_synthetic(), make_card())
    formats.export(distilled, tmp_path / "whole.npz")
    formats.export(distilled, tmp_path / "whole.safetensors")
    whole = [flax.serialization.msgpack_serialize(published()), (tmp_path / "whole.npz").read_bytes()]
    whole += [(tmp_path / "whole.safetensors").read_bytes()]
    rng = np.random.default_rng(0)
    for data in [b"", rng.bytes(300), b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", *(d[: len(d) // 2] for d in whole)]:
        (tmp_path / "bad").write_bytes(data)
        for name in formats.FORMATS:
            with pytest.raises(UserError):
                formats.read(tmp_path / "bad", name, num_classes=K)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_export_and_back(tmp_path, suffix):
    distilled = artefact.save(tmp_path / "d", make_synthetic(), make_card())
    path = tmp_path / f"set.{suffix}"
    formats.export(distilled, path)
    again = formats.read(path, suffix, num_classes=K)
    assert_holds(again, make_synthetic())
    assert again.card == distilled.card
    first = path.read_bytes()
    formats.export(again, path)
    assert path.read_bytes() == first
    with pytest.raises(UserError, match="classes"):
        formats.read(path, suffix, num_classes=10)
    for i in range(0, len(first), max(1, len(first) // 40)):  # a flipped bit is noticed or harmless
        path.write_bytes(first[:i] + bytes([first[i] ^ 4]) + first[i + 1 :])
        try:
            assert_holds(formats.read(path, suffix, num_classes=K), make_synthetic())
        except UserError:
            pass


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_channels_of_a_foreign_npz_come_last(tmp_path, layout):
    images = np.arange(6 * 4 * 5 * 3, dtype=np.float64).reshape(6, 4, 5, 3)
    stored = images if layout == "nhwc" else np.moveaxis(images, -1, 1)
    np.savez(tmp_path / "a.npz", images=stored, labels=np.repeat(np.arange(3), 2), extra=np.zeros(2))
    distilled = formats.read(tmp_path / "a.npz", "npz", num_classes=3)
    np.testing.assert_array_equal(distilled.inputs, images)
    np.testing.assert_array_equal(distilled.labels, np.repeat(np.eye(3), 2, 0))


@pytest.mark.parametrize("kind", ["numbers", "one-hot", "soft", "some", "undecided"])
def test_rows_of_a_foreign_set_become_class_major(tmp_path, kind):
    classes = {"some": np.array([2, 0, 2, 0]), "undecided": np.array([1, 1, 0, 1, 2, 2])}.get(kind, [2, 0, 1, 1, 0, 2])
    rows = np.arange(float(len(classes)))[:, None] * np.ones(4)
    one_hot = np.eye(3)[classes]
    labels = {
        "numbers": np.array(classes),
        "soft": 0.8 * one_hot + 0.05,
        "undecided": 0.8 * one_hot + 0.01 * rows[:, :3],
    }
    np.savez(tmp_path / "a.npz", inputs=rows, labels=labels.get(kind, one_hot))
    found = formats.read(tmp_path / "a.npz", "npz", num_classes=3)
    if kind == "undecided":  # learned labels; three rows are of class 1 by their largest entry
        assert found.classes == [0, 1, 2] and found.inputs[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    else:
        assert found.classes == sorted({*classes}) and found.card["ipc"] == 2
        assert found.inputs[:, 0].tolist() == ([1, 3, 0, 2] if kind == "some" else [1, 4, 2, 3, 0, 5])
        assert np.argmax(found.labels, 1).tolist() == sorted(classes)


@pytest.mark.parametrize("rates", [0.1, [0.1], [[0.1]], [0.1, 0.2], "fast"], ids=str)
def test_rates_of_a_foreign_set_are_a_matrix_or_refused(tmp_path, rates):
    np.savez(tmp_path / "a.npz", inputs=np.ones((3, 4)), labels=np.arange(3), learning_rates=np.array(rates))
    read = lambda: formats.read(tmp_path / "a.npz", "npz", num_classes=3)
    if np.size(rates) == 1 and not isinstance(rates, str):
        assert read().learning_rates.tolist() == [[np.float32(0.1)]]
    else:
        with pytest.raises(UserError, match="learning_rates .*must be (a matrix|an array of real numbers)"):
            read()


def test_hard_labels_of_unequal_classes_are_refused(tmp_path):
    for rates in ({}, {"learning_rates": np.ones((1, 2))}):
        classes = [1, 0, 1, 0, 2, 2] if rates else [0, 0, 0, 1, 2, 2]  # the order of a schedule's parts must stay
        np.savez(tmp_path / "a.npz", inputs=np.ones((6, 4)), labels=np.array(classes), **rates)
        with pytest.raises(UserError, match="one class after the other"):
            formats.read(tmp_path / "a.npz", "npz", num_classes=3)


def npz(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(array: np.ndarray, **header) -> bytes:
    """Return a npy file whose header may claim something else."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array) | header)
    return file.getvalue() + array.tobytes()


class Explosive:
    def __reduce__(self):
        return os.abort, ()


def test_a_hostile_npz_neither_runs_nor_allocates(tmp_path):
    labels = npy(np.zeros(3, np.int64))
    bombs = [npy(np.zeros(8, np.float32), shape=(2**40, 8)), npy(np.zeros(2), descr="|O") + pickle.dumps(Explosive())]
    for images in [*bombs, npy(np.zeros((3, 2), "U9")), npy(np.zeros((3, 2), np.uint8)), b"junk"]:
        (tmp_path / "a.npz").write_bytes(npz(images=images, labels=labels))
        with pytest.raises(UserError):
            formats.read(tmp_path / "a.npz", "npz", num_classes=3)


def test_unknown_names_list_the_known(tmp_path):
    distilled = artefact.save(tmp_path / "d", make_synthetic(), make_card())
    with pytest.raises(UserError, match="did you mean 'npz'.*rcig, safetensors"):
        formats.read(tmp_path / "a", "npy", num_classes=3)
    with pytest.raises(UserError, match="does not exist"):
        formats.read(tmp_path / "a", "npz", num_classes=3)
    with pytest.raises(UserError, match="unknown suffix '.pt'"):
        formats.export(distilled, tmp_path / "a.pt")


def test_the_commit_is_that_of_this_checkout():
    found = make_card()["commit"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert found is None if head.returncode else found.removesuffix("-dirty") == head.stdout.strip()


def test_a_copy_without_its_checkout_is_told_its_commit(monkeypatch):
    def nothing(*args, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", nothing)
    monkeypatch.delenv("RCIG_COMMIT", raising=False)
    assert commit() is None
    monkeypatch.setenv("RCIG_COMMIT", "0123abc")
    assert commit() == "0123abc"


def test_check_names_the_array_that_was_changed(tmp_path):
    distilled = artefact.save(tmp_path, make_synthetic(), make_card())
    arrays = distilled.synthetic._asdict()
    with pytest.raises(UserError, match="'labels' does not match"):
        check(arrays | {"labels": arrays["labels"] + 1}, distilled.card, "it")
