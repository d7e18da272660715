"""The data layer: every source, both ways of preprocessing, the cache, the samplers, the commands and their errors."""

import errno
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from data_files import colours, encoded, picture, real_data_dir, save, tiny_files, write_tar, write_tfds, write_tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rcig import data
from rcig.data import cache, images, preprocess, records, sources, trees
from rcig.data import raw as raw_module
from rcig.errors import UserError

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(0)


# ---------------------------------------------------------------- what the tests are made of


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(cache_dir):
    return partial(data.load, cache_dir=cache_dir)


@pytest.fixture(scope="module")
def small_cifar100(tmp_path_factory) -> tuple[Path, dict]:
    splits = {"train": colours((8, 8, 3), 4, 10, 1), "test": colours((8, 8, 3), 4, 3, 2)}
    return write_tfds(tmp_path_factory.mktemp("tfds"), "cifar100", "", (8, 8, 3), splits), splits


def rows_of(dataset, pairs, part: str = "train") -> np.ndarray:
    """Return the row of each pair in the data set, whose order TFDS shuffles."""
    decoded = np.rint(dataset.decode(getattr(dataset, part).inputs) * 255).astype(np.uint8)
    return np.array([np.flatnonzero((decoded == pixels).all((1, 2, 3))).item() for pixels, _ in pairs])


# ---------------------------------------------------------------- digits and the shape of a data set


def test_digits_is_a_fixed_stratified_split(load):
    dataset = load("digits")
    assert dataset.train.inputs.shape == (1198, 8, 8, 1) and dataset.test.inputs.shape == (599, 8, 8, 1)
    assert dataset.train.inputs.dtype == np.float32 and dataset.train.labels.dtype == np.int32
    assert dataset.example_shape == (8, 8, 1) and dataset.class_names == tuple("0123456789")
    counts = np.bincount(dataset.test.labels)
    assert counts.sum() == 599 and counts.min() >= 58 and counts.max() <= 61
    everything = np.concatenate([dataset.decode(part.inputs) for part in (dataset.train, dataset.test)])
    assert set(np.unique(np.rint(everything * 16))) == set(range(17))


def test_digits_split_never_changes():
    from sklearn.datasets import load_digits

    train, test = raw_module.stratified_split(load_digits().target, 1 / 3)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(1797))
    assert test[:8].tolist() == [3, 5, 7, 13, 16, 19, 22, 26]
    assert cache.digest(test.astype(np.int64)) == "ac123800c2476ff34f3a30fb7c88852e"


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.2, 0.8))
def test_stratified_split_takes_the_share_of_every_class(counts, fraction):
    labels = np.repeat(np.arange(len(counts)), counts)
    try:
        train, test = raw_module.stratified_split(labels, fraction)
    except UserError:
        assert any(not 1 <= fraction * count <= count - 1 for count in counts)
        return
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert len(test) == round(fraction * len(labels))
    assert np.all(np.abs(np.bincount(labels[test]) - fraction * np.array(counts)) < 1)


# ---------------------------------------------------------------- TFDS


def test_tfds_set_is_read_and_standardised_by_the_known_constants(small_cifar100, load):
    data_dir, splits = small_cifar100
    dataset = load("cifar100", data_dir=data_dir, preprocessing="standard")
    rows = rows_of(dataset, splits["train"])
    pixels = np.stack([pixels for pixels, _ in splits["train"]])
    expected = (pixels / 255 - [0.5071, 0.4866, 0.4409]) / [0.2673, 0.2564, 0.2762]
    np.testing.assert_allclose(dataset.train.inputs[rows], expected, atol=2e-6)
    assert dataset.train.labels[rows].tolist() == [label for _, label in splits["train"]]
    assert dataset.test.labels[rows_of(dataset, splits["test"], "test")].tolist() == [0, 1, 2, 3] * 3
    assert dataset.num_classes == 4 and dataset.preprocessing["kind"] == "standard"


def test_tfds_is_read_without_tensorflow_and_network(small_cifar100, tmp_path):
    # a TensorFlow that says when it is imported, so that the test means something where none is installed
    trap = write_tree(tmp_path / "trap", {"tensorflow/__init__.py": b"raise SystemExit('TensorFlow is imported')"})
    script = """
import socket, sys
def refuse(*args): raise SystemExit("the network is used")
socket.socket.connect = socket.getaddrinfo = refuse
import rcig.data
dataset = rcig.data.load("cifar100", data_dir=sys.argv[1], cache_dir=sys.argv[2], preprocessing="none")
assert dataset.train.inputs.shape == (40, 8, 8, 3)
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script, small_cifar100[0], tmp_path / "cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(trap)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_data_layer_is_cheap():
    heavy = "'tensorflow_datasets', 'sklearn', 'grain', 'tensorflow', 'flax'"
    script = f"import sys, rcig.data; print([name for name in ({heavy}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_birds_are_cropped_and_resized_by_area(tmp_path, load):
    grey = np.full((40, 60, 3), 128, np.uint8)
    stripes = np.zeros((64, 80, 3), np.uint8)
    stripes[::2, 8:72] = 200  # every output pixel covers one light and one dark row
    splits = {"train": [(grey, 0), (stripes, 1)], "test": [(grey, 0), (stripes, 1)]}
    write_tfds(tmp_path, "caltech_birds2011", "", (None, None, 3), splits)
    dataset = load("caltech_birds2011", data_dir=tmp_path, preprocessing="none")
    assert dataset.example_shape == (32, 32, 3)
    values = {label: np.unique(np.rint(dataset.train.inputs[dataset.train.labels == label] * 255)) for label in (0, 1)}
    assert values[0].tolist() == [128] and values[1].tolist() == [100]
    assert load("caltech_birds2011", data_dir=tmp_path, preprocessing="none", resolution=16).example_shape[0] == 16


def test_imagenet_resized_tests_on_its_validation_split_and_newest_version_wins(tmp_path, load):
    for version, count in (("2.0.0", 2), ("10.0.0", 3), ("3.0.0", 4)):
        splits = {"train": colours((64, 64, 3), 2, count, 1), "validation": colours((64, 64, 3), 2, 1, 2)}
        write_tfds(tmp_path, "imagenet_resized", "64x64", (64, 64, 3), splits, version)
    (tmp_path / "imagenet_resized" / "64x64" / "11.0.0.incompleteABC").mkdir()
    dataset = load("imagenet_resized/64x64", data_dir=tmp_path, preprocessing="standard", max_bytes=1000)
    assert len(dataset.train.labels) == 6 and dataset.test.inputs.shape == (2, 64, 64, 3)
    assert isinstance(dataset.train.inputs, preprocess.EncodedRows) and dataset.example_shape == (64, 64, 3)


SIZES = ((20, 30), (33, 17), (16, 16))


@pytest.mark.parametrize("large", [1, 1 << 30])
def test_imagenet_of_any_picture_size_is_decoded_onto_the_disk_where_it_is_large(large, tmp_path, load, monkeypatch):
    monkeypatch.setattr(cache, "LARGE", large)
    pairs = [(np.full((*size, 3), 40 * label, np.uint8), label) for label, size in enumerate(SIZES)]
    write_tfds(tmp_path, "imagenet2012", "", (None, None, 3), {"train": 2 * pairs, "validation": pairs})
    raw = sources.read("imagenet2012", tmp_path, tmp_path / "cache", {"resolution": 16})
    assert isinstance(raw.train_inputs, np.memmap) == (large == 1)
    assert raw.train_inputs.shape == (6, 16, 16, 3) and np.ptp(raw.train_inputs, (1, 2, 3)).max() == 0
    np.testing.assert_array_equal(raw.train_inputs[:, 0, 0, 0], 40 * raw.train_labels)
    dataset = load("imagenet2012", data_dir=tmp_path, resolution=16, max_bytes=1)
    assert isinstance(dataset.train.inputs, preprocess.EncodedRows) and dataset.num_classes == 3


@pytest.mark.parametrize(("number", "on_disk"), [(errno.ENOSPC, False), (errno.EOPNOTSUPP, True)])
def test_a_disk_without_room_for_pictures_is_known_before_they_are_decoded(number, on_disk, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache, "LARGE", 1)
    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    assert isinstance(cache.scratch(tmp_path, (4, 2)), np.memmap) == on_disk
    monkeypatch.delattr(os, "posix_fallocate")
    assert isinstance(cache.scratch(tmp_path, (4, 2)), np.memmap)


FIRST = {
    "mnist": ("3.0.1", [4, 1, 0, 7, 8, 1, 2, 7], (28, 28, 1)),
    "fashion_mnist": ("3.0.1", [2, 1, 8, 4, 1, 9, 2, 2], (28, 28, 1)),
    "cifar10": ("3.0.2", [7, 8, 4, 4, 6, 5, 2, 9], (32, 32, 3)),
}


@pytest.mark.parametrize("name", FIRST)
def test_real_sets_decode_as_tfds_does(name, tmp_path):
    import tensorflow_datasets as tfds

    version, labels, shape = FIRST[name]
    location = records.locate(name, real_data_dir(name))
    assert location.name == version
    builder = tfds.builder_from_directory(location)
    skip = {"image": tfds.decode.SkipDecoding()}
    source = builder.as_data_source(split="train[:32]", decoders=skip)
    ours = records._decode_split(source, shape[-1], None, tmp_path)
    theirs = builder.as_data_source(split="train[:32]")
    assert ours[0].shape == (32, *shape) and ours[1][:8].tolist() == labels
    for row in range(32):
        assert np.array_equal(ours[0][row], theirs[row]["image"]) and ours[1][row] == theirs[row]["label"]


@pytest.mark.slow
def test_real_mnist_whole(load):
    dataset = load("mnist", data_dir=real_data_dir("mnist"))
    assert dataset.train.inputs.shape == (60000, 28, 28, 1) and dataset.test.labels.shape == (10000,)
    assert abs(dataset.train.inputs.mean(dtype=np.float64)) < 1e-3
    assert abs(dataset.train.inputs.std(dtype=np.float64) - 1) < 1e-3


# ---------------------------------------------------------------- trees of pictures


@pytest.mark.parametrize("form", ["folder", "tar", "zip"])
def test_tiny_imagenet_in_every_form(form, tmp_path, load):
    files = tiny_files()
    if form == "folder":
        write_tree(tmp_path, files)
    elif form == "tar":
        write_tar(tmp_path / "tiny-imagenet-200.tar.gz", files)
    else:
        with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
            for name, contents in files.items():
                archive.writestr(name, contents)
    dataset = load("tiny_imagenet", data_dir=tmp_path, preprocessing="none")
    assert dataset.class_names == ("dog", "cat, felis")  # the order of wnids.txt
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and dataset.test.labels.tolist() == [0, 1]
    grey = dataset.train.inputs[0]
    assert grey.shape == (64, 64, 3) and np.array_equal(grey[..., 0], grey[..., 2])
    expected = np.asarray(Image.open(io.BytesIO(files["tiny-imagenet-200/train/n1/images/n1_2.JPEG"])))
    np.testing.assert_allclose(dataset.train.inputs[5], expected / 255, atol=1e-6)


def test_a_hostile_tar_writes_nothing_and_a_huge_member_is_refused(tmp_path, load):
    inside = tmp_path / "data"
    inside.mkdir()
    hostile = {"../../escaped.txt": b"x", "/tmp/escaped-rcig.txt": b"x", "../train/n1/images/a.JPEG": b"no picture"}
    path = write_tar(inside / "tiny-imagenet-200.tar", tiny_files() | hostile, "w")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("tiny-imagenet-200/train/n1/images/n1_9.JPEG")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert len(load("tiny_imagenet", data_dir=inside, preprocessing="none").train.labels) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["data"] and len(list(inside.iterdir())) == 1
    with tarfile.open(path, "a") as archive:
        huge = tarfile.TarInfo("huge.JPEG")
        huge.size = images.MAX_PIXELS + 1
        archive.addfile(huge, io.BytesIO(bytes(huge.size)))
    with pytest.raises(UserError, match=r"huge.JPEG has \d+ bytes, over"):
        load("tiny_imagenet", data_dir=inside)


def test_real_tiny_imagenet_subset(load):
    name = "tiny-imagenet-200-subset20.tar.gz"
    folder = real_data_dir("..", "tiny_imagenet_subset", name).parent / "tiny_imagenet_subset"
    dataset = load("tiny_imagenet", data_dir=folder, preprocessing="standard", max_bytes=0)
    assert dataset.train.inputs.shape == (10000, 64, 64, 3) and dataset.num_classes == 20
    assert np.all(np.bincount(dataset.train.labels) == 500) and np.all(np.bincount(dataset.test.labels) == 50)
    assert "goldfish, Carassius auratus" in dataset.class_names


@pytest.mark.parametrize(("name", "classes"), [("imagenette", trees.IMAGENETTE), ("imagewoof", trees.IMAGEWOOF)])
def test_imagenette_family(name, classes, tmp_path, load):
    stem = f"{name}2-160"
    files = {
        f"{stem}/{part}/{wnid}/{wnid}_1.JPEG": encoded(np.full((160, 200, 3), 20 * row, np.uint8))
        for part in ("train", "val")
        for row, wnid in enumerate(classes)
    }
    files[f"{stem}/train/n99999999/stranger.JPEG"] = picture((160, 160, 3))
    write_tar(tmp_path / f"{stem}.tgz", files)
    dataset = load(name, data_dir=tmp_path, preprocessing="none")
    assert dataset.example_shape == (128, 128, 3) and dataset.class_names == tuple(classes.values())
    assert np.rint(dataset.train.inputs[:, 64, 64, 0] * 255).tolist() == [20 * row for row in range(10)]
    assert load(name, data_dir=tmp_path, preprocessing="none", resolution=32).example_shape == (32, 32, 3)


def test_classes_of_imagewoof_are_in_the_order_of_the_reference():
    order = "Border,English,Golden,Rhodesian,Old,Australian,Beagle,Dingo,Samoyed,Shih-Tzu"
    assert ",".join(name.split()[0] for name in trees.IMAGEWOOF.values()) == order


def test_folder_with_splits_and_without(tmp_path, load):
    shapes = {"a": (12, 10, 3), "b": (9, 9)}
    whole = {f"{c}/{row}.png": picture(shape, seed=row) for c, shape in shapes.items() for row in range(10)}
    dataset = load("folder", path=write_tree(tmp_path / "whole", whole), resolution=4, test_fraction=0.3)
    assert dataset.class_names == ("a", "b") and dataset.example_shape == (4, 4, 3)
    assert np.bincount(dataset.train.labels).tolist() == [7, 7] and np.bincount(dataset.test.labels).tolist() == [3, 3]
    parts = {
        f"{part}/{c}/{row}.jpg": picture((6, 6), "JPEG", row)
        for part in ("train", "test")
        for c in "xyz"
        for row in range(2)
    }
    parts["train/x/.hidden.png"] = b"nothing"
    dataset = load("folder", path=write_tree(tmp_path / "parts", parts), preprocessing="none")
    assert dataset.train.inputs.shape == (6, 6, 6, 1) and dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_what_is_no_picture_is_said(tmp_path, load):
    files = {f"{c}/{row}.png": picture((4, 4)) for c in "ab" for row in range(4)}
    write_tree(tmp_path / "own", files | {"c/1.gif": b"GIF89a", "a/notes.txt": b"", ".hidden/x": b""})
    with pytest.warns(UserWarning, match="2 files are no pictures .*left out: a/notes.txt"):
        dataset = load("folder", path=tmp_path / "own", test_fraction=0.5)
    assert dataset.class_names == ("a", "b")


@pytest.mark.parametrize("split", [False, True])
def test_folders_of_classes_without_a_file_are_said(split, tmp_path, load):
    parts = ("train/", "test/") if split else ("",)
    write_tree(tmp_path, {f"{part}{c}/{row}.png": picture((4, 4)) for part in parts for c in "ab" for row in range(2)})
    (tmp_path / parts[0] / "c" / "inner").mkdir(parents=True)
    for _ in ("decoded", "from the cache"):
        with pytest.warns(UserWarning, match=f"are empty and are left out: {parts[0]}c$"):
            dataset = load("folder", path=tmp_path, **({} if split else {"test_fraction": 0.5}))
    assert dataset.class_names == ("a", "b")


def test_folders_of_classes_may_be_links_and_nested_but_not_hidden(tmp_path, load):
    elsewhere = {f"{row}.png": picture((4, 4), seed=row) for row in range(2)}
    here = {f"{place}/{row}.png": picture((4, 4)) for place in ("a/more", ".cache", "__MACOSX/a") for row in range(2)}
    root, linked = write_tree(tmp_path / "here", here), write_tree(tmp_path / "elsewhere", elsewhere)
    (root / "b").symlink_to(linked)
    (root / "b" / "round").symlink_to(root)  # a circle
    dataset = load("folder", path=root, test_fraction=0.5)
    assert dataset.class_names == ("a", "b") and len(dataset.train.labels) == len(dataset.test.labels) == 2


def test_a_folder_splits_at_its_top_only_and_val_is_a_test_split(tmp_path, load):
    files = {f"{part}/{c}/{row}.png": picture((4, 4)) for part in ("train", "val") for c in "ab" for row in range(2)}
    files |= {f"old/train/c/{row}.png": picture((4, 4)) for row in range(2)}
    with pytest.warns(UserWarning, match="2 pictures are of no class or split and are left out: old/train/c/0.png"):
        dataset = load("folder", path=write_tree(tmp_path, files))
    assert dataset.class_names == ("a", "b") and len(dataset.train.labels) == len(dataset.test.labels) == 4


def test_pictures_are_upright_and_lie_on_white():
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # white on the left
    turned = Image.Exif()
    turned[0x0112] = 6  # "turn me by 90 degrees, clockwise": what was left is now above
    entries = "0002 0112 0003 00000001 00060000 011a 0007 00000001 08000000 00000000"  # a resolution of bytes
    damaged = b"Exif\0\0MM\0*\0\0\0\x08" + bytes.fromhex(entries)
    broken = b"Exif\0\0MM\0*"
    for exif, shape in ((turned, (16, 8, 3)), (damaged, (16, 8, 3)), (broken, (8, 16, 3))):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, quality=95)
        upright = images.decode("a.jpg", buffer.getvalue())
        assert upright.shape == shape and (exif is broken or upright[:6].min() > 240 and upright[-6:].max() < 15)
    veiled = np.zeros((2, 2, 4), np.uint8)
    veiled[0, 0] = (10, 20, 30, 255)
    assert images.decode("a.png", encoded(veiled)).tolist() == [[[10, 20, 30], [255] * 3], [[255] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["WEBP", "BMP"])
def test_other_kinds_of_picture(kind):
    pixels, buffer = RNG.integers(0, 256, (6, 5, 3), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, lossless=True)
    np.testing.assert_array_equal(images.decode("a", buffer.getvalue()), pixels)


def test_area_resize_weighs_fractions_of_pixels():
    row = np.array([0, 30, 60, 90, 120, 150], np.uint8)
    resized = images.area_resize(np.broadcast_to(row[None, :, None], (6, 6, 1)), 4)[0, :, 0]
    assert resized.tolist() == [10, 50, 100, 140]  # (2*0 + 30)/3, (30 + 2*60)/3, ...
    assert images.area_resize(np.broadcast_to(row[:, None, None], (6, 6, 1)), 3)[:, 0, 0].tolist() == [15, 75, 135]
    assert images.area_resize(np.array([[0, 2], [2, 3]], np.uint8)[..., None], 1).item() == 2  # 1.75, rounded


# ---------------------------------------------------------------- npz


def test_npz_images_tables_and_names(tmp_path, load):
    pixels = RNG.integers(0, 256, (40, 6, 5), np.uint8)
    labels = np.arange(40) % 4
    dataset = load("npz", path=save(tmp_path / "a.npz", inputs=pixels, labels=labels), preprocessing="none")
    assert dataset.example_shape == (6, 5, 1) and len(dataset.test.labels) == 8
    assert set(map(bytes, np.rint(dataset.train.inputs * 255).astype(np.uint8))) < set(map(bytes, pixels))
    table = RNG.normal(5, 3, (40, 7))
    table[:, 2] = 4.0  # constant: standardised to 0, not to NaN
    path = save(
        tmp_path / "b.npz",
        train_inputs=table,
        train_labels=labels,
        test_inputs=table[:4],
        test_labels=labels[:4],
        class_names=np.array(list("wxyz")),
    )
    dataset = load("npz", path=path)
    assert dataset.class_names == tuple("wxyz") and dataset.preprocessing["image"] is False
    np.testing.assert_allclose(dataset.train.inputs.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.train.inputs.std(0), [1, 1, 0, 1, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(dataset.decode(dataset.test.inputs), table[:4], atol=1e-5)
    np.testing.assert_allclose(dataset.encode(table[:4]), dataset.test.inputs, atol=1e-6)
    few = dict(test_inputs=table[:1], test_labels=np.array([3]))  # a class number larger than the split
    path = save(tmp_path / "c.npz", train_inputs=table, train_labels=labels, **few)
    assert load("npz", path=path).test.labels.tolist() == [3]
