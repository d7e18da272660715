"""The two commands from end to end: what they leave on disk, what they print, how they stop and go on."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import flax.serialization
import numpy as np
import pytest
from commands import CACHE, PULL, RCIG, call, finish, run, start
from data_files import picture, write_tree
from PIL import Image

import rcig
from rcig import artefact, formats, metrics
from rcig import config as configs

RESULT = {
    "protocol": str,
    "model": str,
    "accuracy": float,
    "std": float,
    "n": int,
    "ipc": int,
    "num_examples": int,
    "baseline_random": float,
    "dataset": str,
    "seconds": float,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, float]:
    """Return the workdir of a finished run of RCIG on the digits, and how many seconds it took."""
    workdir, began = tmp_path_factory.mktemp("runs") / "rcig", time.monotonic()
    ended = run("distill_dataset", *RCIG, "--config.num_steps=20", f"--workdir={workdir}")
    assert ended.status == 0, ended.err
    assert "step 20/20 (100 %)" in ended.err and f"finished at step 20: pictures in {workdir}/images" in ended.out
    return workdir, time.monotonic() - began


@pytest.fixture(scope="module")
def pulled(tmp_path_factory) -> Path:
    """Return the workdir of a finished run of a method that takes no time."""
    workdir = tmp_path_factory.mktemp("runs") / "pull"
    assert call("distill_dataset", *PULL, f"--workdir={workdir}").status == 0
    return workdir


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def result_of(ended) -> dict:
    assert ended.status == 0, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    for field, kind in RESULT.items():
        assert type(result[field]) is kind, field
    assert 0 <= result["accuracy"] <= 1 and result["std"] >= 0 and result["seconds"] > 0
    return result


# ---------------------------------------------------------------- what a run leaves


def test_the_workdir_holds_what_the_contract_says(finished):
    workdir, _ = finished
    config = json.loads((workdir / "config.json").read_text())
    run = configs.load("quickstart", [flag for flag in RCIG[1:]] + ["--config.num_steps=20"]).to_dict()
    assert config == json.loads(json.dumps(run))  # tuples are lists there
    assert config["model"]["width"] == config["eval"]["model"]["width"] == 8

    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert all(line["seconds"] > 0 and np.isfinite(line["loss"]) and 0 <= line["accuracy"] <= 1 for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]

    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"10", "20"}
    for name in ("distilled-10", "distilled-20", "latest", "curves"):
        with Image.open(workdir / "images" / f"{name}.png") as image:
            assert min(image.size) > 100 and len(np.unique(np.asarray(image))) > 10  # something is painted
    assert (workdir / "images/latest.png").read_bytes() == (workdir / "images/distilled-20.png").read_bytes()


def test_the_artefact_and_its_card(finished):
    workdir, _ = finished
    distilled = rcig.load(workdir)
    card = json.loads((workdir / "distilled" / "card.json").read_text())
    assert distilled.card == card and distilled.inputs.shape == (10, 8, 8, 1) and distilled.labels.shape == (10, 10)
    said = {name: card[name] for name in ("method", "dataset", "ipc", "num_classes", "seed", "step", "pixel_space")}
    assert said == {
        "method": "rcig",
        "dataset": "digits",
        "ipc": 1,
        "num_classes": 10,
        "seed": 0,
        "step": 20,
        "pixel_space": "standard",
    }
    assert card["class_names"] == list("0123456789") and set(card["versions"]) >= {"jax", "python"}
    assert card["config"] | {"data_dir": ""} == json.loads((workdir / "config.json").read_text())
    decode = np.array(card["preprocessing"]["std"]) * distilled.inputs + np.array(card["preprocessing"]["mean"])
    assert -2 < decode.min() < decode.max() < 3  # pixels, a little beyond [0, 1]
    assert np.array_equal(distilled.labels.argmax(1), np.arange(10))  # class-major


# ---------------------------------------------------------------- the same command again


def test_the_same_command_again_says_that_it_is_finished_and_touches_nothing(finished):
    workdir, seconds = finished
    before, programs, began = snapshot(workdir), snapshot(CACHE), time.monotonic()
    ended = run("distill_dataset", *RCIG, "--config.num_steps=20", f"--workdir={workdir}")
    assert ended.status == 0 and "finished at step 20" in ended.out and ended.err == ""
    assert snapshot(workdir) == before and snapshot(CACHE) == programs
    assert time.monotonic() - began < seconds / 2


def test_a_lost_artefact_comes_back_from_the_last_checkpoint(pulled, tmp_path):
    subprocess.run(["cp", "-r", str(pulled), str(tmp_path / "copy")], check=True)
    subprocess.run(["rm", "-r", str(tmp_path / "copy/distilled"), str(tmp_path / "copy/images")], check=True)
    ended = call("distill_dataset", *PULL, f"--workdir={tmp_path / 'copy'}")
    assert ended.status == 0 and "resumed from step 20" in ended.err
    np.testing.assert_array_equal(rcig.load(tmp_path / "copy").inputs, rcig.load(pulled).inputs)
    assert (tmp_path / "copy/images/latest.png").is_file()


def stop(process: subprocess.Popen, workdir: Path, number: int) -> str:
    """Send a signal once the run has taken new steps, and return what it said."""
    before = len(read_metrics(workdir))
    while len(read_metrics(workdir)) <= before and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    ended = finish(process)
    assert ended.status == 128 + number, ended.err
    return ended.err


def read_metrics(workdir: Path) -> list[dict]:
    return metrics.read(workdir) if (workdir / "metrics.jsonl").exists() else []


def test_a_stopped_run_has_saved_and_goes_on(tmp_path):
    workdir = tmp_path / "run"
    flags = (*RCIG, "--config.num_steps=1000000", "--config.checkpoint_every=1000000", f"--workdir={workdir}")
    said = stop(start("distill_dataset", *flags), workdir, signal.SIGTERM)
    (saved,) = (int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert f"saved step {saved}" in said and saved % 5 == 0 and rcig.load(workdir).card["step"] == saved
    assert read_metrics(workdir)[-1]["step"] == saved
    said = stop(start("distill_dataset", *flags), workdir, signal.SIGINT)
    assert f"resumed from step {saved}" in said and rcig.load(workdir).card["step"] > saved
    assert [line["step"] for line in read_metrics(workdir)] == list(range(5, rcig.load(workdir).card["step"] + 1, 5))


# ---------------------------------------------------------------- eval.py


def test_eval_prints_a_table_and_leaves_the_same_result_as_json(finished):
    workdir, _ = finished
    ended = run("eval", f"--distilled={workdir}", "--protocol=standard", "--full_data_steps=5")
    result = result_of(ended)
    assert result == json.loads((workdir / "eval-standard.json").read_text())
    said = {name: result[name] for name in ("protocol", "dataset", "n", "ipc", "num_examples", "model")}
    model = "convnet(width=8,depth=2,norm=none)"
    assert said == {"protocol": "standard", "dataset": "digits", "n": 2, "ipc": 1, "num_examples": 10, "model": model}
    table = ended.out.splitlines()[:-1]
    for name in ("accuracy", "baseline_random", "full_data"):
        assert any(f"{100 * result[name]:.1f} %" in line for line in table)


def test_an_exported_set_is_worth_as_much_as_the_original(pulled, tmp_path):
    flags = ("--config.eval.num_networks=1", "--config.eval.num_steps=100", "--config.eval.model.width=8")
    want = result_of(call("eval", f"--distilled={pulled}", *flags))
    for format in ("npz", "safetensors"):
        path = tmp_path / f"set.{format}"
        formats.export(artefact.load(pulled), path)
        got = result_of(call("eval", f"--distilled={path}", *flags))  # by the config of its card
        assert {**got, "seconds": 0} == {**want, "seconds": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz", "set.safetensors"]  # no result beside strangers'


def test_a_published_checkpoint_is_judged_with_flips_and_by_both_protocols(tmp_path):
    rng = np.random.default_rng(0)
    protos = {"x_proto": rng.normal(size=(20, 8, 8, 1)), "y_proto": rng.normal(size=(20, 10))}
    protos = {name: value.astype(np.float32) for name, value in protos.items()}
    content = {"step": np.int32(9), "params": protos, "ema_average": protos | {"log_temp": np.float32(0.3)}}
    (tmp_path / "checkpoint_9").write_bytes(flax.serialization.msgpack_serialize(content))
    flags = ("--config.eval.num_networks=1", "--config.eval.num_steps=5", "--config.model.width=8")
    flags += ("--config.eval.flip=True", "--config.eval.augmentation=crop", "--config.dataset=digits")
    result = result_of(call("eval", f"--distilled={tmp_path / 'checkpoint_9'}", "--format=rcig", *flags))
    assert (result["ipc"], result["num_examples"], result["augmentation"]) == (2, 20, "")
    assert 0 <= result["accuracy_augmented"] <= 1 and 0 <= result["baseline_random_augmented"] <= 1


# ---------------------------------------------------------------- one's own data


def test_an_npz_of_ones_own(tmp_path):
    rng, labels = np.random.default_rng(0), np.arange(200) % 4
    images = np.clip(rng.normal(60 * labels[:, None, None], 20, (200, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", inputs=images, labels=labels, class_names=["a", "b", "c", "d"])
    data = ("--config.dataset=npz", f"--config.data.path={tmp_path / 'mine.npz'}", "--config.data.test_fraction=0.5")
    assert call("distill_dataset", *PULL, *data, "--config.ipc=2", f"--workdir={tmp_path / 'run'}").status == 0
    distilled = rcig.load(tmp_path / "run")
    assert distilled.inputs.shape == (8, 8, 8, 1) and distilled.card["class_names"] == list("abcd")
    result = result_of(call("eval", f"--distilled={tmp_path / 'run'}", "--config.eval.learning_rate=1e-2"))
    assert result["num_examples"] == 8 and result["accuracy"] > 0.5  # four shades of grey


def test_data_that_changed_are_noticed(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 256, (200, 8, 8), np.uint8), np.arange(200) % 4
    np.savez(tmp_path / "mine.npz", inputs=images, labels=labels)
    flags = (*PULL, "--config.dataset=npz", f"--config.data.path={tmp_path / 'mine.npz'}")
    workdir = f"--workdir={tmp_path / 'run'}"
    assert call("distill_dataset", *flags, workdir).status == 0
    measured = ("eval", f"--distilled={tmp_path / 'run'}", "--config.eval.num_steps=1")
    assert call(*measured).err == ""
    np.savez(tmp_path / "mine.npz", inputs=images[::-1], labels=labels)
    assert "warning: data set npz has changed since it was distilled" in call(*measured).err
    before = snapshot(tmp_path / "run/distilled") | snapshot(tmp_path / "run/checkpoints")
    ended = call("distill_dataset", *flags, workdir, "--config.num_steps=30")
    assert ended.status == 2 and f"has changed since the run in {tmp_path / 'run'} began" in ended.err
    assert snapshot(tmp_path / "run/distilled") | snapshot(tmp_path / "run/checkpoints") == before
    shutil.rmtree(tmp_path / "run/distilled")  # and its card
    assert call("distill_dataset", *flags, workdir, "--config.num_steps=30").status == 2
    np.savez(tmp_path / "mine.npz", inputs=images, labels=labels)
    assert call("distill_dataset", *flags, workdir, "--config.num_steps=30").status == 0
    (tmp_path / "mine.npz").rename(tmp_path / "moved.npz")
    flags = (*flags, "--config.num_steps=30", f"--config.data.path={tmp_path / 'moved.npz'}")
    assert call("distill_dataset", *flags, workdir).status == 0
    np.savez(tmp_path / "other.npz", inputs=images[::-1], labels=labels)
    assert call("distill_dataset", *flags, workdir, f"--config.data.path={tmp_path / 'other.npz'}").status == 2


def test_a_folder_of_images(tmp_path):
    shapes = {f"{name}/{row}.png": picture((9, 12, 3), seed=row) for name in ("cat", "dog") for row in range(40)}
    data = ("--config.dataset=folder", f"--config.data.path={write_tree(tmp_path / 'pictures', shapes)}")
    flags = ("--config.data.resolution=8", f"--workdir={tmp_path / 'run'}", "--config.method.batch_size=16")
    ended = call("distill_dataset", *PULL, *data, *flags)
    assert ended.status == 0, ended.err
    assert rcig.load(tmp_path / "run").inputs.shape == (2, 8, 8, 3)
    assert rcig.load(tmp_path / "run").card["class_names"] == ["cat", "dog"]


@pytest.mark.parametrize("name", ["distill_dataset", "eval"])
def test_help_teaches_by_example(name):
    ended = call(name, "--help")
    assert ended.status == 0 and ended.err == ""
    assert ended.out.count(f"python {name}.py --") >= 4
    for config in (word.removeprefix("--config=") for word in ended.out.split() if word.startswith("--config=")):
        configs.load(config)
