"""USPS and MNIST in three channels: the files as they are, resizing by hand, and what is wrong with broken ones."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from data_files import colours, real_folder, write_tfds

from rcig import data
from rcig.data import prepare, sources, usps
from rcig.errors import UserError


def write(folder: Path, train=None, test=None) -> Path:
    """Write ten images of constant grey, of digits 0..9, unless other rows or bytes are given."""
    folder.mkdir(parents=True, exist_ok=True)
    greys = np.linspace(-1, 1, 10)
    rows = np.concatenate([np.arange(10.0)[:, None], np.repeat(greys[:, None], 256, axis=1)], axis=1)
    for name, given in zip(usps.FILES, (train, test), strict=True):
        given = rows if given is None else given
        text = given if isinstance(given, bytes) else "\n".join(" ".join(map(str, row)) for row in given).encode()
        (folder / name).write_bytes(gzip.compress(text))
    return folder


def test_the_real_files(tmp_path):
    folder = real_folder()
    if usps.locate(folder) is None:
        pytest.skip(f"no usps in or beside {folder}: set TFDS_DATA_DIR")
    dataset = data.load("usps", data_dir=folder, cache_dir=tmp_path)
    assert dataset.train.inputs.shape == (7291, 28, 28, 1) and dataset.test.inputs.shape == (2007, 28, 28, 1)
    train, test = (np.bincount(part.labels).tolist() for part in (dataset.train, dataset.test))
    assert train == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert test == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    assert abs(dataset.train.inputs.mean()) < 1e-3 and abs(dataset.train.inputs.std() - 1) < 1e-3
    pixels = dataset.decode(dataset.train.inputs[:100])
    assert abs(pixels.min()) < 1e-6 and pixels.max() > 0.99 and np.median(pixels) < 0.1  # ink is white, on black paper
    assert abs(dataset.preprocessing["mean"][0] - 0.15973) < 4e-3  # near that of the copy which DD reads


def test_values_are_mapped_to_the_unit_interval_and_resized(tmp_path):
    step = np.where(np.arange(16) < 8, -1.0, 1.0)
    image = np.concatenate([[3], np.tile(step, 16)])
    rows = np.concatenate([np.arange(10.0)[:, None], np.zeros((10, 256))], axis=1)
    location = write(tmp_path / "usps", test=[*rows, image])
    load = lambda **options: data.load(
        "usps", data_dir=tmp_path, cache_dir=tmp_path / "c", preprocessing="none", **options
    )
    native = load(resolution=16)
    assert native.train.inputs.shape == (10, 16, 16, 1) and native.class_names == tuple("0123456789")
    np.testing.assert_allclose(native.train.inputs[:, 3, 5, 0], np.linspace(0, 1, 10), atol=1e-6)
    np.testing.assert_array_equal(native.test.inputs[-1, 2, :, 0], np.arange(16) >= 8)
    places = (np.arange(22) + 0.5) * 16 / 22 - 0.5  # of output pixels, in input pixels
    expected = np.pad(np.interp(places, np.arange(16), np.arange(16) >= 8), 3)
    np.testing.assert_allclose(load().test.inputs[-1, 9, :, 0], expected, atol=1e-6)
    assert not load().test.inputs[-1, [0, 2, 25, 27]].any() and load().test.inputs[-1, [3, 24]].any()
    assert load(resolution=17).test.inputs[-1].any((1, 2)).tolist() == 16 * [True] + [False]  # framed by one pixel
    assert load(resolution=12).test.inputs[-1].any((1, 2)).all()
    assert native.test.labels[-1] == 3 and usps.locate(tmp_path / "tfds") == location  # also beside the folder


def test_a_share_of_both_files_can_be_held_out(tmp_path):
    digits = np.repeat(np.arange(10.0), 4)
    rows = np.concatenate([digits[:, None], np.repeat(np.linspace(-1, 1, 40)[:, None], 256, axis=1)], axis=1)
    write(tmp_path / "usps", train=rows[::2], test=rows[1::2])
    load = lambda **options: data.load(
        "usps", data_dir=tmp_path, cache_dir=tmp_path / "c", preprocessing="none", resolution=16, **options
    )
    dataset = load(test_fraction=0.25)
    assert np.bincount(dataset.test.labels).tolist() == 10 * [1] and np.bincount(
        dataset.train.labels
    ).tolist() == 10 * [3]
    seen = np.concatenate([dataset.train.inputs, dataset.test.inputs])[:, 0, 0, 0]
    np.testing.assert_allclose(np.sort(seen), np.linspace(0, 1, 40), atol=1e-6)  # every row of both once
    rows = np.round(39 * dataset.test.inputs[:, 0, 0, 0]).astype(int)
    assert 0 < np.sum(rows % 2 == 0) < 10  # of the first file, and of the second
    with pytest.raises(UserError, match="test_fraction must lie between 0 and 1"):
        load(test_fraction=1.5)


@pytest.mark.parametrize(
    "train, message",
    [
        (b"", "zip.train.gz must hold lines of a digit and 256 grey values"),
        (b"1 2 3", "zip.train.gz must hold"),
        (b"1 " + b"x " * 256, "zip.train.gz must hold"),
        (b"1 " + b"2 " * 256, "grey values must lie in -1..1"),
        (b"1 " + b"nan " * 256, "grey values must lie in -1..1"),
        (b"\xff\xfe", "zip.train.gz must hold"),
        (b"11 " + b"0 " * 256, r"train labels must lie in 0..9"),
    ],
)
def test_broken_files(tmp_path, train, message):
    write(tmp_path / "usps", train=train)
    with pytest.raises(UserError, match=message):
        data.load("usps", data_dir=tmp_path, cache_dir=tmp_path / "c")


def test_what_is_no_gzip_or_ends_early_or_is_missing(tmp_path):
    folder = write(tmp_path / "usps")
    whole = (folder / "zip.test.gz").read_bytes()
    for contents in (b"plain", whole[: len(whole) // 2]):
        (folder / "zip.test.gz").write_bytes(contents)
        with pytest.raises(UserError, match="zip.test.gz must hold .*fetch it again"):
            data.load("usps", data_dir=tmp_path, cache_dir=tmp_path / "c")
    (folder / "zip.test.gz").unlink()
    with pytest.raises(UserError, match=r"data set 'usps' not found: looked for usps/zip.\*.gz.*prepare usps"):
        data.load("usps", data_dir=tmp_path, cache_dir=tmp_path / "c")
    with pytest.raises(UserError, match="resolution must be a positive number"):
        data.load("usps", data_dir=tmp_path, resolution=0)


def test_prepare_fetches_both_files(tmp_path, monkeypatch):
    origin = write(tmp_path / "there" / "origin")
    monkeypatch.setitem(sources.SOURCES, "usps", sources.SOURCES["usps"]._replace(url=origin.as_uri()))
    assert prepare.prepare("usps", tmp_path / "here") == tmp_path / "here" / "usps"
    assert data.load("usps", data_dir=tmp_path / "here", cache_dir=tmp_path / "c").train.inputs.shape == (10, 28, 28, 1)


def test_mnist_in_three_channels_is_mnist(tmp_path):
    splits = {"train": colours((6, 6), 2, 3, 0), "test": colours((6, 6), 2, 2, 1)}
    write_tfds(tmp_path, "mnist", "", (6, 6, 1), splits)
    grey, rgb = (data.load(name, data_dir=tmp_path, cache_dir=tmp_path / "c") for name in ("mnist", "mnist_rgb"))
    assert rgb.preprocessing["kind"] == "standard" and rgb.example_shape == (6, 6, 3)
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(rgb, part).inputs, np.repeat(getattr(grey, part).inputs, 3, axis=3))
        np.testing.assert_array_equal(getattr(rgb, part).labels, getattr(grey, part).labels)


def test_svhn_is_standardised_by_the_known_constants(tmp_path):
    splits = {"train": colours((6, 6, 3), 2, 3, 0), "test": colours((6, 6, 3), 2, 2, 1)}
    write_tfds(tmp_path, "svhn_cropped", "", (6, 6, 3), splits)
    told = data.load("svhn_cropped", data_dir=tmp_path, cache_dir=tmp_path / "c").preprocessing
    assert told["kind"] == "standard"
    assert told["mean"] == [0.43791, 0.44398, 0.47293] and told["std"] == [0.19803, 0.20102, 0.19704]
