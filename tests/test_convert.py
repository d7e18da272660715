"""`python -m rcig.convert`: every source to every destination, and what it refuses."""

import csv
import json
import pickletools
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest
from commands import call
from PIL import Image
from torch_files import save_set

from rcig import artefact, convert, experiment, formats, torch_format
from rcig import config as configs
from rcig.errors import UserError
from rcig.types import Synthetic

DIGITS = ["--config.dataset=digits"]


@pytest.fixture(scope="module")
def digits():
    return experiment.load_dataset(configs.load("quickstart"))


@pytest.fixture(scope="module")
def workdir(digits, tmp_path_factory):
    """A workdir whose set has two rows of digits 7 and 3."""
    folder = tmp_path_factory.mktemp("run")
    config = configs.load("quickstart", ["--config.init_labels=7,3", "--config.ipc=2"])
    start = experiment.make_start(config, digits)
    artefact.save(folder / "distilled", start, experiment.make_card(config, digits, 5))
    return folder


@pytest.mark.parametrize("flags", [(), ("--to=tfds",)])
def test_a_learned_rate_that_is_left_behind_is_told_of(workdir, tmp_path, flags):
    distilled = artefact.load(workdir)
    synthetic = distilled.synthetic._replace(learning_rates=np.float32([[0.02]]))
    artefact.save(tmp_path / "set", synthetic, distilled.card)
    ended = call("rcig.convert", tmp_path / "set", tmp_path / "mine", *flags)
    assert ended.status == 0 and "hold none of the set's 1 learned rates; an .npz keeps them" in ended.err


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_workdir_becomes_one_file(workdir, suffix, tmp_path):
    ended = call("rcig.convert", workdir, tmp_path / f"set.{suffix}")
    assert ended.status == 0 and ended.out == f"4 examples in {tmp_path / f'set.{suffix}'}\n"
    other = tmp_path / {"npz": "set.safetensors", "safetensors": "set.npz"}[suffix]
    assert call("rcig.convert", tmp_path / f"set.{suffix}", other).status == 0
    again = formats.read(other, other.suffix[1:], num_classes=10)
    assert again.card == artefact.load(workdir).card
    np.testing.assert_array_equal(again.inputs, artefact.load(workdir).inputs)


def test_a_set_becomes_pictures(workdir, digits, tmp_path):
    ended = call("rcig.convert", workdir / "distilled", tmp_path / "pictures")
    assert ended.status == 0, ended.err
    distilled = artefact.load(workdir)
    with open(tmp_path / "pictures/labels.csv") as file:
        header, *table = csv.reader(file)
    assert header == ["file", *(f"label {name}" for name in digits.class_names)]
    assert [row[0] for row in table] == ["7_7/0.png", "7_7/1.png", "3_3/2.png", "3_3/3.png"]
    np.testing.assert_array_equal(np.array([row[1:] for row in table], np.float32), distilled.labels)
    pixels = np.clip(digits.decode(distilled.inputs), 0, 1)[..., 0]
    shown = np.stack([np.asarray(Image.open(tmp_path / "pictures" / row[0])) for row in table])
    assert shown.dtype == np.uint8 and np.abs(shown / 255 - pixels).max() <= 0.5 / 255 + 1e-6
    assert json.loads((tmp_path / "pictures/card.json").read_text()) == distilled.card


def test_pixels_of_another_scale_become_pictures_by_contrast(digits, tmp_path):
    np.savez(tmp_path / "data.npz", inputs=255 * digits.decode(digits.train.inputs), labels=digits.train.labels)
    data = ["--config.dataset=npz", f"--config.data.path={tmp_path / 'data.npz'}"]
    config = configs.load("quickstart", data)
    with pytest.warns(UserWarning, match="not in .0, 1. and are no pictures"):
        dataset = experiment.load_dataset(config)
    artefact.save(tmp_path / "set", experiment.make_start(config, dataset), experiment.make_card(config, dataset, 0))
    ended = call("rcig.convert", tmp_path / "set", tmp_path / "pictures")
    assert ended.status == 0 and "10 pictures in" in ended.out and "shown as 0 … 1" in ended.out, ended.err
    pictures = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "pictures").glob("*/*.png"))])
    assert pictures.min() == 0 and pictures.max() == 255 and 20 < pictures.mean() < 235


def test_a_set_becomes_a_folder_that_tfds_reads_without_tensorflow(workdir, digits, tmp_path):
    import tensorflow_datasets as tfds

    ended = call("rcig.convert", workdir, tmp_path / "mine", "--to=tfds")
    assert ended.status == 0 and ended.out.endswith(f"4 examples in {tmp_path / 'mine/1.0.0'}\n"), ended.err
    builder = tfds.builder_from_directory(tmp_path / "mine/1.0.0")
    source, distilled = builder.as_data_source("train"), artefact.load(workdir)
    assert sorted(row["label"] for row in source) == [3, 3, 7, 7] and len(source) == 4
    assert tuple(builder.info.features["label"].names) == digits.class_names
    for row in source:  # TFDS shuffles what it writes
        at = [np.array_equal(row["inputs"], each) for each in distilled.inputs].index(True)
        np.testing.assert_array_equal(row["labels"], distilled.labels[at])
        assert row["label"] == (7, 3)[at // 2]
    again = call("rcig.convert", workdir, tmp_path / "mine", "--to=tfds")
    assert again.status == 2 and "must be new, or an empty folder" in again.err


def test_a_set_becomes_tensors(tmp_path):
    images, labels = (
        np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype(np.float32),
        2 * np.eye(4, dtype=np.float32),
    )
    for rates in (None, np.float32([[0.1, 0.3]])):
        card = formats.new_card(
            **dict(
                method="m", config={}, dataset="d", ipc=1, num_classes=4, class_names=list("abcd"), preprocessing={}
            ),
            **dict(pixel_space="standard", seed=0, step=1),
        )
        folder = tmp_path / f"torch{rates is None}"
        with (
            nullcontext() if rates is None else pytest.warns(UserWarning, match="hold the mean of the set's 2 learned")
        ):
            convert.tensors(formats.seal(Synthetic(images, labels, rates), card), folder)
        stored = torch_format.load(folder / "images.pt")
        assert stored.dtype == np.float32 and stored.shape == (4, 3, 6, 5)
        again = formats.read(folder / "images.pt", "mtt", num_classes=4)
        np.testing.assert_array_equal(again.inputs, images)
        np.testing.assert_array_equal(again.labels, labels)
        assert rates is None and again.learning_rates is None or again.learning_rates.tolist() == [[np.float32(0.2)]]
    with zipfile.ZipFile(folder / "images.pt") as archive:  # as torch.save has it, opcode by opcode
        names = [op.name for op, *_ in pickletools.genops(archive.read("archive/data.pkl"))]
        assert archive.namelist() == ["archive/data.pkl", "archive/byteorder", "archive/data/0", "archive/version"]
    assert names[:2] == ["PROTO", "GLOBAL"] and names.count("BINPERSID") == 1 and names[-2:] == ["REDUCE", "STOP"]
    with pytest.raises(UserError, match="must be new, or an empty folder"):
        convert.tensors(formats.seal(Synthetic(images, labels), card), folder)


@pytest.mark.parametrize("shape", [(4, 3), (4, 4, 2)])
def test_only_images_become_pictures(workdir, tmp_path, shape):
    sentences = lambda inputs: np.array(["a b c"] * len(inputs))
    card = artefact.load(workdir).card
    text = formats.seal(Synthetic(np.zeros((4, *shape)), artefact.load(workdir).labels), card)
    with pytest.raises(UserError, match=r"only images become pictures, not examples \(4, .*; convert to .npz"):
        convert.pictures(text, tmp_path / "pictures", sentences, tuple(card["class_names"]))
    assert not (tmp_path / "pictures").exists()


def test_a_workdir_becomes_tensors(workdir, tmp_path):
    ended = call("rcig.convert", workdir, tmp_path / "mine", "--to=torch")
    assert ended.status == 0 and ended.out == f"4 examples in {tmp_path / 'mine'}\n", ended.err
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["card.json", "images.pt", "labels.pt"]
    np.testing.assert_array_equal(torch_format.load(tmp_path / "mine/labels.pt"), artefact.load(workdir).labels)
    with pytest.raises(UserError, match="a set for other programs"):
        artefact.load(tmp_path / "mine")
    ended = call("rcig.convert", workdir, tmp_path / "mine.npz", "--to=torch")
    assert ended.status == 2 and "named like a file" in ended.err and not (tmp_path / "mine.npz").exists()


def test_a_torch_file_becomes_npz_and_pictures(digits, tmp_path):
    images = np.random.default_rng(0).normal(0, 3, (10, 1, 8, 8)).astype(np.float32)  # beyond black and white
    path = save_set(tmp_path / "res.pt", images, np.arange(10))
    for destination in ("set.npz", "pictures"):
        ended = call("rcig.convert", path, tmp_path / destination, "--format=vico", *DIGITS)
        assert ended.status == 0, ended.err
    again = formats.read(tmp_path / "set.npz", "npz", num_classes=10)
    np.testing.assert_array_equal(again.inputs[..., 0], images[:, 0])
    assert again.card["source"] == "res.pt" and again.card["dataset"] == "digits"  # eval.py needs no more words
    assert again.card["config"]["dataset"] == "digits" and again.card["class_names"] == [str(k) for k in range(10)]
    shown = np.asarray(Image.open(tmp_path / "pictures/4_4/4.png"))
    assert shown.min() == 0 and shown.max() == 255


@pytest.mark.parametrize(
    "flags, message",
    [
        (["{tmp}/set.pt"], "unknown suffix '.pt'"),
        (["{tmp}/full"], "must be new, or an empty folder, but holds something"),
        (["{tmp}/full/file"], "must be new, or an empty folder"),
        (["{tmp}/full/mine.npz"], "must be new, or an empty folder, but holds something"),
        (["{tmp}/new", "--config.preprocessing=zca"], "--config.preprocessing=standard"),
        (["{tmp}/set.npz", "--fromat=vico"], "--fromat"),
        (["{tmp}/set.npz", "--format=vic"], "unknown format 'vic'; did you mean 'vico'"),
        ([], "the following arguments are required: dst; --help shows examples"),
    ],
)
def test_mistakes_are_one_line(workdir, tmp_path, flags, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "full/mine.npz").write_text("data that took a day")
    ended = call("rcig.convert", workdir, *(flag.format(tmp=tmp_path) for flag in flags))
    assert ended.status == 2 and ended.err.startswith("error: ") and ended.err.count("\n") == 1
    assert message in ended.err
    assert (tmp_path / "full/mine.npz").read_text() == "data that took a day"
    assert not (tmp_path / "new").exists() and not (tmp_path / "set.npz").exists()
