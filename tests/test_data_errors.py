"""What a user of the data layer can do wrong, and the command `python -m rcig.data`: one line each, with the remedy."""

import http.client
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import call
from data_files import colours, encoded, picture, save, tiny_files, write_tar, write_tfds, write_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rcig import data
from rcig.data import cache, prepare, sources
from rcig.errors import UserError

ROOT = Path(__file__).parent.parent


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


GOOD = {"inputs": np.zeros((10, 4, 4, 1), np.uint8), "labels": np.array([0, 1] * 5)}
BAD_NPZ = {
    "missing arrays": ({"inputs": GOOD["inputs"]}, "must hold arrays inputs, labels or"),
    "extra array": (GOOD | {"weights": np.ones(3)}, "found inputs, labels, weights"),
    "pickle": (GOOD | {"labels": np.array([{}] * 10, object)}, "cannot be read"),
    "integer inputs": (GOOD | {"inputs": np.zeros((10, 4, 4, 1), np.int64)}, "must be uint8 or floating, got int64"),
    "flat bytes": (GOOD | {"inputs": np.zeros((10, 16), np.uint8)}, r"\(N, H, W\) or \(N, H, W, C\)"),
    "no features": (GOOD | {"inputs": np.zeros((10, 0))}, "none of them 0"),
    "five axes": (GOOD | {"inputs": np.zeros((10, 2, 2, 2, 2), np.uint8)}, "got shape"),
    "not finite": (GOOD | {"inputs": np.full((10, 3), np.nan)}, "NaN or Inf"),
    "too large for float32": (GOOD | {"inputs": np.full((10, 3), 1e300)}, "NaN or Inf"),
    "float labels": (GOOD | {"labels": np.zeros(10)}, "must be integers of shape"),
    "one-hot labels": (GOOD | {"labels": np.zeros((10, 2), int)}, "must be integers of shape"),
    "negative label": (GOOD | {"labels": np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, -1])}, "class numbers"),
    "huge label": (GOOD | {"labels": np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 2**40])}, "class numbers"),
    "gap in labels": (GOOD | {"labels": np.array([0, 2] * 5)}, "class 1 has no training examples"),
    "one class": (GOOD | {"labels": np.zeros(10, int)}, "there is one class"),
    "lengths": (GOOD | {"labels": np.array([0, 1])}, "10 inputs but 2 labels"),
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
            "train_inputs": np.zeros((10, 3)),
            "test_inputs": np.zeros((10, 4)),
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


@pytest.mark.filterwarnings("ignore:.*look like images", "ignore:.*are not in")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=hnp.arrays(
        st.sampled_from([np.uint8, np.float32, np.float64, np.int16, bool]), hnp.array_shapes(max_dims=5, max_side=6)
    ),
    labels=hnp.arrays(st.sampled_from([np.int64, np.uint8]), st.integers(1, 6), elements=st.integers(0, 3)),
)
def test_any_arrays_are_a_user_error_or_a_sound_set(inputs, labels, tmp_path, load):
    assert_sound_or_refused(load, save(tmp_path / "any.npz", inputs=inputs, labels=labels))


def test_examples_that_are_all_alike_are_refused_not_infinite(tmp_path, load):
    for inputs, kind, said in (
        (np.full((8, 4, 4, 1), 0.5), "zca", "the training examples are all alike"),
        (1e-40 * np.random.default_rng(0).random((8, 4, 4, 1)), "standard", "becomes infinite where it is scaled"),
    ):
        path = save(tmp_path / "flat.npz", inputs=inputs.astype(np.float32), labels=np.arange(8) % 2)
        with pytest.raises(UserError, match=said):
            load("npz", path=path, preprocessing=kind)


def test_channels_first_are_told(tmp_path, load):
    path = save(tmp_path / "torch.npz", inputs=np.zeros((4, 3, 6, 6), np.uint8), labels=np.array([0, 0, 1, 1]))
    with pytest.warns(UserWarning, match="here channels are last: transpose them"):
        load("npz", path=path, test_fraction=0.5)


def test_floats_of_bytes_are_told(tmp_path, load):
    path = save(tmp_path / "bytes.npz", inputs=255 * np.ones((4, 6, 6, 3)), labels=np.array([0, 0, 1, 1]))
    with pytest.warns(UserWarning, match=r"not in \[0, 1\] and are no pictures; if they are, divide by 255, or give"):
        load("npz", path=path, test_fraction=0.5)


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
    "no such user": ("npz", {"path": "~nobody-of-this-name/a.npz"}, no_op, "no file ~nobody-of-this-name/a.npz"),
    "no local file": ("npz", {"path": "gs://bucket/a.npz"}, no_op, "mount it, or give a local path"),
    "no file": ("npz", {"path": "/nowhere.npz"}, no_op, "no file /nowhere.npz"),
    "no folder": ("folder", {"path": "/nowhere"}, no_op, "needs path= a folder"),
    "resolution": (
        "caltech_birds2011",
        {"resolution": 0},
        no_op,
        "resolution must be a positive number of pixels, got 0",
    ),
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


def test_without_a_home_the_cache_is_temporary_and_prepared_sets_are_asked_for(tmp_path, monkeypatch):
    def refuse(uid):
        raise KeyError(uid)

    for name in ("HOME", "TFDS_DATA_DIR", "RCIG_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache.default_folder() == tmp_path / f"rcig-{os.getuid()}"
    assert data.load("digits").num_classes == 10
    with pytest.raises(UserError, match="set TFDS_DATA_DIR"):
        data.load("mnist")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RCIG_CACHE", "~/cc")
    assert cache.default_folder() == tmp_path / "cc"


def test_broken_records_are_named(small_cifar100, tmp_path, load):
    shutil.copytree(small_cifar100[0] / "cifar100", tmp_path / "cifar100")
    for path in (tmp_path / "cifar100" / "1.0.0").glob("*test.array_record*"):
        path.write_bytes(path.read_bytes()[: 1 << 15])
    with pytest.raises(UserError, match="cifar100.1.0.0: its records cannot be read"):
        load("cifar100", data_dir=tmp_path)
    for path in (tmp_path / "cifar100" / "1.0.0").glob("*test.array_record*"):
        path.unlink()
    with pytest.raises(UserError, match="cifar100.1.0.0: its records cannot be read"):
        load("cifar100", data_dir=tmp_path)


BAD_FOLDERS = {
    "empty": ({}, r"no pictures \(.png, .jpg, .jpeg, .webp, .bmp\)"),
    "sizes": ({"a/0.png": picture((4, 4)), "a/1.png": picture((5, 4)), "b/0.png": picture((4, 4)),
               "b/1.png": picture((4, 4))}, "pass resolution="),
    "no picture": ({f"{c}/{row}.png": b"GIF89a" for c in "ab" for row in range(2)}, "cannot be decoded"),
    "cut short": ({f"{c}/{row}.png": picture((40, 40))[:300] for c in "ab" for row in range(2)}, "cannot be decoded"),
    "16 bits": ({f"{c}/{row}.png": encoded(np.zeros((4, 4), np.uint16)) for c in "ab" for row in range(2)}, "8 bits"),
    "one each": ({f"{c}/0.png": picture((4, 4)) for c in "ab"}, "without class 0, which has 1"),
    "strange test class": ({f"train/{c}/0.png": picture((4, 4)) for c in "ab"} | {"test/c/0.png": b""}, "no train/c"),
    "no test": ({f"train/{c}/0.png": picture((4, 4)) for c in "ab"}, "in test/<class>/ or val/<class>/"),
    "splits of other names": ({f"{part}/{c}/{row}.png": picture((4, 4)) for part in ("Train", "Test") for c in "ab"
                               for row in range(2)}, "folders Test, Train in .* look like splits; call them train"),
    "unknown kind": ({f"{c}/{row}.gif": b"GIF89a" for c in "ab" for row in range(2)}, "no pictures"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folder(case, tmp_path, load):
    files, message = BAD_FOLDERS[case]
    with pytest.raises(UserError, match=message):
        share = {} if any(name.startswith("train/") for name in files) else {"test_fraction": 0.5}
        load("folder", path=write_tree(tmp_path, files), **share)


def test_a_share_to_hold_out_of_data_that_are_split_is_refused(tmp_path, load):
    pictures = write_tree(tmp_path, {f"{part}/a/0.png": picture((4, 4)) for part in ("train", "test")})
    arrays = {f"{part}_{name}": GOOD[name] for part in ("train", "test") for name in GOOD}
    for name, path in (("folder", pictures), ("npz", save(tmp_path / "split.npz", **arrays))):
        with pytest.raises(UserError, match="has a test split of its own: leave test_fraction out"):
            load(name, path=path, test_fraction=0.5)


def test_a_class_folder_that_cannot_be_read_is_named(tmp_path, load, monkeypatch):
    write_tree(tmp_path, {f"{c}/{row}.png": picture((4, 4)) for c in "ab" for row in range(2)})
    listed = os.scandir

    def refuse(folder):  # root may read everything, so rights cannot be taken from it
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=r"/b cannot be read \(Permission denied\)"):
        load("folder", path=tmp_path)


def test_a_broken_archive_is_named(tmp_path, load):
    path = tmp_path / "tiny-imagenet-200.tar.gz"
    contents = write_tar(path, tiny_files()).read_bytes()
    for damaged in (contents[: len(contents) // 2], b"not an archive", b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"tiny-imagenet-200.tar.gz cannot be read"):
            load("tiny_imagenet", data_dir=tmp_path)


# ---------------------------------------------------------------- the command


def test_list_says_what_is_where(small_cifar100):
    ended = call("rcig.data.__main__", "list", "--data_dir", small_cifar100[0])
    lines = dict(line.split(maxsplit=1) for line in ended.out.splitlines()[1:])
    assert lines.keys() == sources.SOURCES.keys()
    assert lines["cifar100"] == str(small_cifar100[0] / "cifar100" / "1.0.0") and lines["mnist"] == "not found"


def test_command_line_mistakes_exit_2_with_one_line(tmp_path):
    for arguments in (["prepare", "cifra10"], ["prepare", "npz"], ["prepare"], ["nothing"]):
        command = [sys.executable, "-m", "rcig.data", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_prepare_without_tensorflow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ended = call("rcig.data.__main__", "prepare", "svhn_cropped", "--data_dir", tmp_path)
    assert ended.status == 2 and 'pip install ".[prepare]"' in ended.err


def test_prepare_writes_array_records(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class Builder:
        def __init__(self, name, data_dir, file_format):
            assert (name, file_format) == ("imagenet_resized/64x64", "array_record")
            self.folder = Path(data_dir) / name / "1.0.0"

        def download_and_prepare(self):
            write_tree(self.folder, {"dataset_info.json": b'{"fileFormat": "array_record"}'})

    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr(tfds, "builder", Builder)
    ended = call("rcig.data.__main__", "prepare", "imagenet_resized/64x64", "--data_dir", tmp_path / "new")
    assert ended.status == 0 and str(tmp_path / "new" / "imagenet_resized" / "64x64" / "1.0.0") in ended.out


def test_prepare_says_what_cannot_be_read_and_what_is_fetched_by_hand(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class Builder:
        def __init__(self, name, data_dir, file_format):
            pass

        def download_and_prepare(self):
            raise AssertionError("Manual directory does not exist or is empty.\nCreate it")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr(tfds, "builder", Builder)
    with pytest.raises(UserError, match="Manual directory .* put its archives into .*downloads/manual"):
        prepare.prepare("imagenet2012", tmp_path)
    write_tree(tmp_path / "cifar10" / "3.0.2", {"dataset_info.json": b"{}"})
    with pytest.raises(UserError, match="it holds tfrecord files"):
        prepare.prepare("cifar10", tmp_path)


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


@pytest.mark.parametrize("error", [http.client.IncompleteRead(b"half", 8), http.client.BadStatusLine("")])
def test_a_server_that_breaks_off_is_one_line(error, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError, match="cannot be downloaded .*: try again, or put it into"):
        prepare.prepare("tiny_imagenet", tmp_path)
