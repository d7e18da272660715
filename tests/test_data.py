"""The data layer: every source, both ways of preprocessing, the cache, the samplers, the commands and their errors."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from rcig import data
from rcig.data import cache, images, prepare, preprocess, records, sources, trees
from rcig.data import raw as raw_module
from rcig.data.__main__ import main
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


def real_data_dir(*inside: str) -> Path:
    """Return the folder of prepared sets, or skip."""
    folder = Path(os.environ.get("TFDS_DATA_DIR") or ROOT.parent / "shared" / "data" / "tfds")
    if not folder.joinpath(*inside).exists():
        pytest.skip(f"no {'/'.join(inside)} in {folder}: set TFDS_DATA_DIR")
    return folder


def picture(shape: tuple[int, ...], form: str = "PNG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return encoded(pixels, form)


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, contents in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(contents)
    return root


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return path


def write_tfds(data_dir: Path, name: str, config: str, shape, splits: dict[str, list], version: str = "1.0.0") -> Path:
    """Write a prepared set as TFDS itself does; ``splits`` maps a split's name to (pixels, label) pairs."""
    import tensorflow_datasets as tfds

    num_classes = max(label for pairs in splits.values() for _, label in pairs) + 1
    features = {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(num_classes=num_classes)}

    def generate(self, pairs):
        for row, (pixels, label) in enumerate(pairs):
            yield row, {"image": io.BytesIO(encoded(pixels)), "label": label}

    body = {
        "VERSION": tfds.core.Version(version),
        "BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=config)] if config else [],
        "_info": lambda self: self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features)),
        "_split_generators": lambda self, manager: {key: generate(self, pairs) for key, pairs in splits.items()},
        "_generate_examples": generate,
        "pkg_dir_path": data_dir,
        "__module__": __name__,
    }
    with tfds.core.registered.skip_registering():
        builder_class = type(name, (tfds.core.GeneratorBasedBuilder,), body)
    builder_class.name = name
    builder = builder_class(data_dir=data_dir, file_format="array_record", **({"config": config} if config else {}))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return data_dir


def colours(shape, num_classes: int, per_class: int, seed: int) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 256, shape, np.uint8), row % num_classes) for row in range(num_classes * per_class)]


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
    script = """
import socket, sys
def refuse(*args): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
class Watch:
    def find_spec(self, name, path=None, target=None):
        assert name != "tensorflow", "TensorFlow is imported"
sys.meta_path.insert(0, Watch())
import rcig.data
dataset = rcig.data.load("cifar100", data_dir=sys.argv[1], cache_dir=sys.argv[2], preprocessing="none")
assert dataset.train.inputs.shape == (40, 8, 8, 3)
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script, small_cifar100[0], tmp_path], cwd=ROOT, capture_output=True, text=True
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


FIRST = {
    "mnist": ("3.0.1", [4, 1, 0, 7, 8, 1, 2, 7], (28, 28, 1)),
    "fashion_mnist": ("3.0.1", [2, 1, 8, 4, 1, 9, 2, 2], (28, 28, 1)),
    "cifar10": ("3.0.2", [7, 8, 4, 4, 6, 5, 2, 9], (32, 32, 3)),
}


@pytest.mark.parametrize("name", FIRST)
def test_real_sets_decode_as_tfds_does(name):
    import tensorflow_datasets as tfds

    version, labels, shape = FIRST[name]
    location = records.locate(name, real_data_dir(name))
    assert location.name == version
    builder = tfds.builder_from_directory(location)
    skip = {"image": tfds.decode.SkipDecoding()}
    ours = records._decode_split(builder.as_data_source(split="train[:32]", decoders=skip), shape[-1], None)
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


def tiny_files(wnids=("n2", "n1"), prefix="tiny-imagenet-200/") -> dict[str, bytes]:
    files = {"wnids.txt": "\n".join(wnids).encode(), "words.txt": b"n1\tcat, felis\nn2\tdog\nn9\tother\n"}
    annotations = ""
    for number, wnid in enumerate(wnids):
        for row in range(3):
            shape = (64, 64) if row == 0 else (64, 64, 3)  # a grey one in every class
            files[f"train/{wnid}/images/{wnid}_{row}.JPEG"] = picture(shape, "JPEG", 10 * number + row)
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"x"
        files[f"val/images/val_{number}.JPEG"] = picture((64, 64, 3), "JPEG", 50 + number)
        annotations += f"val_{number}.JPEG\t{wnid}\t0\t0\t1\t1\n"
    files["val/val_annotations.txt"] = annotations.encode()
    return {prefix + name: contents for name, contents in files.items()}


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
    parts["train/x/.hidden.png"] = parts["train/x/notes.txt"] = b"nothing"
    dataset = load("folder", path=write_tree(tmp_path / "parts", parts), preprocessing="none")
    assert dataset.train.inputs.shape == (6, 6, 6, 1) and dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_area_resize_weighs_fractions_of_pixels():
    row = np.array([0, 30, 60, 90, 120, 150], np.uint8)
    resized = images.area_resize(np.broadcast_to(row[None, :, None], (6, 6, 1)), 4)[0, :, 0]
    assert resized.tolist() == [10, 50, 100, 140]  # (2*0 + 30)/3, (30 + 2*60)/3, ...
    assert images.area_resize(np.broadcast_to(row[:, None, None], (6, 6, 1)), 3)[:, 0, 0].tolist() == [15, 75, 135]


# ---------------------------------------------------------------- npz


def save(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def test_npz_images_tables_and_names(tmp_path, load):
    pixels = RNG.integers(0, 256, (40, 6, 5), np.uint8)
    labels = np.arange(40) % 4
    dataset = load("npz", path=save(tmp_path / "a.npz", inputs=pixels, labels=labels), preprocessing="none")
    assert dataset.example_shape == (6, 5, 1) and len(dataset.test.labels) == 8
    assert sorted(map(bytes, np.rint(dataset.train.inputs * 255).astype(np.uint8))) < sorted(map(bytes, pixels))
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


GOOD = {"inputs": np.zeros((6, 4, 4, 1), np.uint8), "labels": np.array([0, 1] * 3)}
BAD_NPZ = {
    "missing arrays": ({"inputs": GOOD["inputs"]}, "must hold arrays inputs, labels or"),
    "extra array": (GOOD | {"weights": np.ones(3)}, "found inputs, labels, weights"),
    "pickle": (GOOD | {"labels": np.array([{}] * 6, object)}, "cannot be read"),
    "integer inputs": (GOOD | {"inputs": np.zeros((6, 4, 4, 1), np.int64)}, "must be uint8 or floating, got int64"),
    "flat bytes": (GOOD | {"inputs": np.zeros((6, 16), np.uint8)}, r"\(N, H, W\) or \(N, H, W, C\)"),
    "no features": (GOOD | {"inputs": np.zeros((6, 0))}, "none of them 0"),
    "five axes": (GOOD | {"inputs": np.zeros((6, 2, 2, 2, 2), np.uint8)}, "got shape"),
    "not finite": (GOOD | {"inputs": np.full((6, 3), np.nan)}, "NaN or Inf"),
    "too large for float32": (GOOD | {"inputs": np.full((6, 3), 1e300)}, "NaN or Inf"),
    "float labels": (GOOD | {"labels": np.zeros(6)}, "must be integers of shape"),
    "one-hot labels": (GOOD | {"labels": np.zeros((6, 2), int)}, "must be integers of shape"),
    "negative label": (GOOD | {"labels": np.array([0, 1, 0, 1, 0, -1])}, "class numbers"),
    "huge label": (GOOD | {"labels": np.array([0, 1, 0, 1, 0, 2**40])}, "class numbers"),
    "gap in labels": (GOOD | {"labels": np.array([0, 2] * 3)}, "class 1 has no training examples"),
    "one class": (GOOD | {"labels": np.zeros(6, int)}, "there is one class"),
    "lengths": (GOOD | {"labels": np.array([0, 1])}, "6 inputs but 2 labels"),
    "names": (GOOD | {"class_names": np.array(["a"])}, "class_names must be text"),
    "test label": (
        {
            f"{part}_{name}": GOOD[name] + (part == "test") * (name == "labels")
            for part in ("train", "test")
            for name in GOOD
        },
        r"test labels must lie in 0..1, got 1..2",
    ),
    "test shape": (
        {
            "train_inputs": np.zeros((6, 3)),
            "test_inputs": np.zeros((6, 4)),
            "train_labels": GOOD["labels"],
            "test_labels": GOOD["labels"],
        },
        "must look alike",
    ),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz_is_one_line(case, tmp_path, load):
    arrays, message = BAD_NPZ[case]
    with pytest.raises(UserError, match=message) as caught:
        load("npz", path=save(tmp_path / "bad.npz", **arrays))
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=8), cut=st.integers(0, 1200))
def test_a_damaged_npz_is_a_user_error_or_a_sound_set(edits, cut, tmp_path, load):
    path = save(tmp_path / "mutated.npz", **GOOD)
    contents = bytearray(path.read_bytes()[: cut or None])
    for place, byte in edits:
        contents[place % len(contents)] = byte
    path.write_bytes(bytes(contents))
    assert_sound_or_refused(load, path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=hnp.arrays(
        st.sampled_from([np.uint8, np.float32, np.float64, np.int16, bool]), hnp.array_shapes(max_dims=5, max_side=6)
    ),
    labels=hnp.arrays(st.sampled_from([np.int64, np.uint8]), st.integers(1, 6), elements=st.integers(0, 3)),
)
def test_any_arrays_are_a_user_error_or_a_sound_set(inputs, labels, tmp_path, load):
    assert_sound_or_refused(load, save(tmp_path / "any.npz", inputs=inputs, labels=labels))


def assert_sound_or_refused(load, path: Path) -> None:
    try:
        dataset = load("npz", path=path, test_fraction=0.5, preprocessing="none")
    except UserError as error:
        assert "\n" not in str(error)
        return
    for part in (dataset.train, dataset.test):
        assert part.inputs.dtype == np.float32 and np.all(np.isfinite(part.inputs))
        assert set(part.labels) == set(range(dataset.num_classes))


# ---------------------------------------------------------------- what the user can mend


def broken_info(data_dir: Path, contents: str, name: str = "mnist") -> None:
    write_tree(data_dir, {f"{name}/3.0.1/dataset_info.json": contents.encode()})


def no_op(data_dir: Path) -> None:
    pass


MISTAKES = {
    "unknown set": ("cifar", {}, no_op, "unknown data set 'cifar'; did you mean 'cifar10'"),
    "missing set": (
        "svhn_cropped",
        {},
        no_op,
        "prepare it once with `python -m rcig.data prepare svhn_cropped --data_dir",
    ),
    "missing archive": ("imagewoof", {}, no_op, "imagewoof2-160.*prepare imagewoof .*downloads https"),
    "option of none": ("digits", {"path": "x"}, no_op, "takes no options, got 'path'"),
    "unknown option": ("npz", {"paht": "x"}, no_op, "unknown option of data set 'npz' 'paht'; did you mean 'path'"),
    "no path": ("npz", {}, no_op, "needs path="),
    "no file": ("npz", {"path": "/nowhere.npz"}, no_op, "no file /nowhere.npz"),
    "no folder": ("folder", {"path": "/nowhere"}, no_op, "needs path= a folder"),
    "unknown preprocessing": ("digits", {"preprocessing": "zac"}, no_op, "unknown preprocessing 'zac'; .*'zca'"),
    "no DC constants": ("digits", {"preprocessing": "dc_standard"}, no_op, "not 'digits': use 'standard'"),
    "broken info": ("mnist", {}, partial(broken_info, contents="{"), "dataset_info.json is broken"),
    "odd info": ("mnist", {}, partial(broken_info, contents="[1]"), "dataset_info.json is broken"),
    "TFRecord": (
        "mnist",
        {},
        partial(broken_info, contents='{"splits": [], "fileFormat": "tfrecord"}'),
        "not array_record",
    ),
    "no splits": (
        "mnist",
        {},
        partial(broken_info, contents='{"splits": [], "fileFormat": "array_record"}'),
        "must hold",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_that_names_the_remedy(case, tmp_path, load):
    name, options, prepare_folder, message = MISTAKES[case]
    prepare_folder(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        load(name, data_dir=tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_broken_records_are_named(small_cifar100, tmp_path, load):
    shutil.copytree(small_cifar100[0] / "cifar100", tmp_path / "cifar100")
    for path in (tmp_path / "cifar100" / "1.0.0").glob("*test.array_record*"):
        path.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="cifar100.1.0.0: its records cannot be read"):
        load("cifar100", data_dir=tmp_path)
    for path in (tmp_path / "cifar100" / "1.0.0").glob("*test.array_record*"):
        path.unlink()
    with pytest.raises(UserError, match="cifar100.1.0.0: its records cannot be read"):
        load("cifar100", data_dir=tmp_path)


BAD_FOLDERS = {
    "empty": ({}, "no PNG or JPEG pictures"),
    "sizes": ({"a/0.png": picture((4, 4)), "a/1.png": picture((5, 4)), "b/0.png": picture((4, 4)),
               "b/1.png": picture((4, 4))}, "pass resolution="),
    "no picture": ({f"{c}/{row}.png": b"GIF89a" for c in "ab" for row in range(2)}, "cannot be decoded"),
    "cut short": ({f"{c}/{row}.png": picture((40, 40))[:300] for c in "ab" for row in range(2)}, "cannot be decoded"),
    "16 bits": ({f"{c}/{row}.png": encoded(np.zeros((4, 4), np.uint16)) for c in "ab" for row in range(2)}, "8 bits"),
    "one each": ({f"{c}/0.png": picture((4, 4)) for c in "ab"}, "without class 0, which has 1"),
    "strange test class": ({f"train/{c}/0.png": picture((4, 4)) for c in "ab"} | {"test/c/0.png": b""}, "no train/c"),
    "no test": ({f"train/{c}/0.png": picture((4, 4)) for c in "ab"}, "no PNG or JPEG pictures"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folder(case, tmp_path, load):
    files, message = BAD_FOLDERS[case]
    with pytest.raises(UserError, match=message):
        load("folder", path=write_tree(tmp_path, files), test_fraction=0.5)


def test_a_broken_archive_is_named(tmp_path, load):
    path = tmp_path / "tiny-imagenet-200.tar.gz"
    contents = write_tar(path, tiny_files()).read_bytes()
    for damaged in (contents[: len(contents) // 2], b"not an archive", b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"tiny-imagenet-200.tar.gz cannot be read"):
            load("tiny_imagenet", data_dir=tmp_path)


# ---------------------------------------------------------------- the command


def test_list_says_what_is_where(small_cifar100, capsys):
    assert main(["list", "--data_dir", str(small_cifar100[0])]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert lines.keys() == sources.SOURCES.keys()
    assert lines["cifar100"] == str(small_cifar100[0] / "cifar100" / "1.0.0") and lines["mnist"] == "not found"


def test_command_line_mistakes_exit_2_with_one_line(tmp_path):
    for arguments in (["prepare", "cifra10"], ["prepare", "npz"], ["prepare"], ["nothing"]):
        command = [sys.executable, "-m", "rcig.data", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_prepare_without_tensorflow_names_the_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["prepare", "svhn_cropped", "--data_dir", str(tmp_path)]) == 2
    assert 'pip install ".[prepare]"' in capsys.readouterr().err


def test_prepare_writes_array_records(tmp_path, monkeypatch, capsys):
    import tensorflow_datasets as tfds

    class Builder:
        def __init__(self, name, data_dir, file_format):
            assert (name, file_format) == ("imagenet_resized/64x64", "array_record")
            self.folder = Path(data_dir) / name / "1.0.0"

        def download_and_prepare(self):
            write_tree(self.folder, {"dataset_info.json": b"{}"})

    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr(tfds, "builder", Builder)
    assert main(["prepare", "imagenet_resized/64x64", "--data_dir", str(tmp_path / "new")]) == 0
    assert str(tmp_path / "new" / "imagenet_resized" / "64x64" / "1.0.0") in capsys.readouterr().out


def test_prepare_downloads_an_archive_once(tmp_path, monkeypatch):
    origin = write_tar(tmp_path / "tiny-imagenet-200.zip", tiny_files())
    source = sources.SOURCES["tiny_imagenet"]
    monkeypatch.setitem(sources.SOURCES, "tiny_imagenet", source._replace(url=origin.as_uri()))
    assert prepare.prepare("tiny_imagenet", tmp_path / "new").read_bytes() == origin.read_bytes()
    origin.unlink()
    assert prepare.prepare("tiny_imagenet", tmp_path / "new").name == "tiny-imagenet-200.zip"
    with pytest.raises(UserError, match="cannot be downloaded"):
        prepare.prepare("tiny_imagenet", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
