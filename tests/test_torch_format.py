"""Files of torch.save: all number types and strides come back, nothing is executed, broken ones are error lines."""

import functools
import os
import pickle
import zipfile

import numpy as np
import pytest
from torch_files import Raw, glob, save, save_set, tensor

from rcig import formats, torch_format
from rcig.errors import UserError

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(6, 3, 8, 8)).astype("f4"), np.repeat(np.arange(3), 2)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "i4", "u1", "?"])
def test_every_type_comes_back(tmp_path, dtype):
    array = RNG.integers(0, 2, (2, 3, 4)).astype(dtype)
    content = {"a": tensor(array, "0"), "b": [tensor(array, "0"), 3, "text", 0.5, None, True, 2**40]}
    found = torch_format.load(save(tmp_path / "a.pt", content, {"0": array}))
    assert found["a"].dtype == array.dtype and found["b"][1:] == [3, "text", 0.5, None, True, 2**40]
    np.testing.assert_array_equal(found["a"], array)
    np.testing.assert_array_equal(found["b"][0], array)
    assert not found["a"].flags.writeable


def test_strides_and_offsets_are_views_of_the_storage(tmp_path):
    memory = np.arange(24, dtype="f4")
    cases = [
        (memory.reshape(4, 6).T, dict(shape=(6, 4), strides=(1, 6))),
        (memory[5:], dict(shape=(19,), strides=(1,), offset=5)),
        (memory[1::2], dict(shape=(12,), strides=(2,), offset=1)),
        (memory[23], dict(shape=(), strides=(), offset=23)),
        (np.full((2, 3), 7.0), dict(shape=(2, 3), strides=(0, 0), offset=7)),
        (np.zeros((0, 3)), dict(shape=(0, 3), strides=(3, 1), offset=24)),
    ]
    content = [tensor(memory, "0", **layout) for _, layout in cases]
    found = torch_format.load(save(tmp_path / "a.pt", content, {"0": memory}))
    for (expected, _), array in zip(cases, found, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_numpy_scalars_parameters_and_big_ends(tmp_path):
    array = np.arange(3, dtype="f4")
    parameter = Raw(glob("torch._utils", "_rebuild_parameter") + b"(" + tensor(array, "0") + b"\x88)tR")
    content = {"accuracies": [np.float64(0.123), np.float32(2), np.int64(-7)], "p": parameter}
    found = torch_format.load(save(tmp_path / "a.pt", content, {"0": array}))
    assert found["accuracies"] == [0.123, 2.0, -7] and [type(x) for x in found["accuracies"]] == [float, float, int]
    np.testing.assert_array_equal(found["p"], array)
    with zipfile.ZipFile(tmp_path / "big.pt", "w") as archive:
        archive.writestr("big/data.pkl", b"\x80\x02" + tensor(array, "0") + b".")
        archive.writestr("big/byteorder", "big")
        archive.writestr("big/data/0", array.astype(">f4").tobytes())
    np.testing.assert_array_equal(torch_format.load(tmp_path / "big.pt"), array)


class Explosive:
    def __reduce__(self):
        return os.abort, ()


class Instance:
    pass


EVIL = {
    r"asks for posix\.abort": pickle.dumps(Explosive(), 2)[2:-1],
    r"asks for builtins\.eval": glob("builtins", "eval"),
    r"asks for torch\.load": glob("torch", "load"),
    r"asks for torch\._utils\.os\.system": glob("torch._utils", "os.system"),
    "opcode NEWOBJ at": pickle.dumps(Instance(), 2)[2:-1],
    "opcode INST at": b"(ios\nabort\n",
    "opcode STACK_GLOBAL at": b"NN\x93",
    "opcode LONG_BINPUT at": b"Nr\xff\xff\xff\x7f",
    "opcode EXT1 at": b"\x82\x01",
    "opcode PERSID at": b"Pstorage\n",
}


@pytest.mark.parametrize("message", EVIL)
def test_an_evil_pickle_is_refused_by_name_and_not_run(tmp_path, message):
    path = save(tmp_path / "images.pt", {"data": Raw(EVIL[message])}, {})
    with pytest.raises(UserError, match=message):
        torch_format.load(path)
    for format in ("vico", "mtt"):
        (tmp_path / "labels.pt").touch()
        with pytest.raises(UserError, match=message):
            formats.read(path, format, 3)


def test_a_file_changes_nothing_that_the_next_one_sees(tmp_path):
    array = np.arange(3, dtype="f4")
    builds = [glob(*name.rsplit(".", 1)) for name in torch_format._GLOBALS if name != "numpy.dtype"]
    for build in builds:  # BUILD with (None, {"__defaults__": ...}) sets attributes of what it finds
        state = b"(N}(X\x0c\x00\x00\x00__defaults__" + b"N" + b"ut"
        torch_format.load(save(tmp_path / "a.pt", [Raw(build + state + b"b")], {}))
    np.testing.assert_array_equal(torch_format.load(save(tmp_path / "b.pt", tensor(array, "0"), {"0": array})), array)


@pytest.mark.parametrize(
    "broken, message",
    [
        (dict(shape=(2, 2)), "more than its storage"),
        (dict(offset=1), "more than its storage"),
        (dict(strides=(2,)), "more than its storage"),
        (dict(shape=(2**40,), strides=(0,)), "more than its storage"),
        (dict(shape=(3,), strides=(1, 1)), "without storage or strides"),
        (dict(strides=(-1,)), "whole numbers from 0"),
        (dict(offset=-1), "whole numbers from 0"),
        (dict(size=4), "storage 0 has 12 bytes, not 4"),
        (dict(kind="DoubleStorage"), "storage 0 has 12 bytes, not 3"),
        (dict(key="9"), "data/9"),
    ],
)
def test_a_tensor_stays_inside_its_storage(tmp_path, broken, message):
    array = np.arange(3, dtype="f4")
    given = dict(shape=(3,), strides=(1,), key="0") | broken
    if broken.get("shape") == (2, 2):
        given |= dict(strides=(2, 1))
    path = save(tmp_path / "images.pt", tensor(array, **given), {"0": array})
    with pytest.raises((ValueError, KeyError), match=message):
        torch_format.load(path)
    (tmp_path / "labels.pt").touch()
    with pytest.raises(UserError, match=message):
        formats.read(path, "mtt", 3)


def test_dc_and_mtt_sets_are_read(tmp_path):
    path = save_set(tmp_path / "res_DC.pt", IMAGES, LABELS, experiments=3)
    soft = RNG.normal(size=(6, 3)).astype("f4")
    save(tmp_path / "images_best.pt", tensor(IMAGES, "0"), {"0": IMAGES})
    for format, name, labels in (("vico", "res_DC.pt", LABELS), ("mtt", "images_best.pt", LABELS), ("mtt", "", soft)):
        save(tmp_path / "labels_best.pt", tensor(labels, "0"), {"0": labels})
        found = formats.read(tmp_path / (name or "images_best.pt"), format, num_classes=3)
        np.testing.assert_array_equal(found.inputs, IMAGES.transpose(0, 2, 3, 1))
        wanted = np.exp(labels) / np.exp(labels).sum(1, keepdims=True) if labels.ndim == 2 else np.eye(3)[labels]
        np.testing.assert_allclose(found.labels, wanted, rtol=1e-6)  # MTT's soft labels are logits
        assert found.card["pixel_space"] == {"vico": "dc_standard", "mtt": "unknown"}[format]
        assert found.card["ipc"] == 2 and found.card["method"] == format
    with pytest.raises(UserError, match="whole numbers from 0 to 1"):
        formats.read(path, "vico", num_classes=2)


def test_mtt_sets_bring_their_rate_and_distributions_stay(tmp_path):
    labels, rate = np.float32([[0.2, 0.8, 0], [1, 0, 0], [0, 0, 1]] * 2), np.float32(0.037)
    for name, array in (("images_best.pt", IMAGES), ("labels_best.pt", labels), ("lr_best.pt", rate)):
        save(tmp_path / name, tensor(array, "0"), {"0": array})
    found = formats.read(tmp_path / "images_best.pt", "mtt", num_classes=3)
    assert found.learning_rates.shape == (1, 1) and found.learning_rates[0, 0] == rate
    np.testing.assert_array_equal(found.labels, labels[[1, 4, 0, 3, 2, 5]])  # class-major


def test_idc_sets_are_unfolded_and_encoded(tmp_path):
    pixels, labels = RNG.uniform(size=(3, 3, 8, 8)).astype("f4"), np.arange(3)
    path = save(tmp_path / "data.pt", [tensor(pixels, "0"), tensor(labels, "1")], {"0": pixels, "1": labels})
    read = functools.partial(formats.read, path, num_classes=3, encode=lambda x: (x - 0.5) / 0.25)
    whole, tiled = read(format="idc_i"), read(format="idc")
    np.testing.assert_allclose(whole.inputs, (pixels.transpose(0, 2, 3, 1) - 0.5) / 0.25, rtol=1e-6)
    assert whole.inputs.shape == (3, 8, 8, 3) and tiled.inputs.shape == (12, 8, 8, 3)
    np.testing.assert_array_equal(np.argmax(tiled.labels, 1), np.repeat(labels, 4))
    corner = pixels[1, :, 0, 4]  # of the second tile of the second image
    np.testing.assert_allclose(tiled.inputs[5, 0, 0], (corner - 0.5) / 0.25, rtol=1e-5)
    pixels *= 2
    save(path, [tensor(pixels, "0"), tensor(labels, "1")], {"0": pixels, "1": labels})
    with pytest.raises(UserError, match=r"no pixels in \[0, 1\]"):
        read(format="idc")


def test_idc_sets_of_224_pixels_hold_nine_examples_an_image(tmp_path):
    pixels, labels = RNG.uniform(size=(2, 3, 224, 224)).astype("f4"), np.arange(2)
    path = save(tmp_path / "data.pt", [tensor(pixels, "0"), tensor(labels, "1")], {"0": pixels, "1": labels})
    found = formats.read(path, "idc", num_classes=2)
    assert found.inputs.shape == (18, 224, 224, 3)
    np.testing.assert_allclose(found.inputs[9 + 4, 0, 0], pixels[1, :, 75, 75], rtol=1e-5)  # the middle tile of 75 x 75
    np.testing.assert_allclose(found.inputs[8, -1, -1], 0.5, rtol=1e-5)  # 3 x 75 is one more than 224


def test_kip_sets_are_read(tmp_path):
    labels = np.eye(3)[LABELS] - 1 / 3
    np.savez(tmp_path / "kip.npz", images=IMAGES.transpose(0, 2, 3, 1), labels=labels)
    found = formats.read(tmp_path / "kip.npz", "kip", num_classes=3)
    np.testing.assert_array_equal(found.inputs, IMAGES.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found.labels, labels, atol=1e-7)


def test_torn_and_foreign_files_are_error_lines(tmp_path):
    path = save_set(tmp_path / "res.pt", IMAGES, LABELS)
    whole = path.read_bytes()
    for keep in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:keep])
        with pytest.raises(UserError, match="must be a file of format 'vico' but is not"):
            formats.read(path, "vico", 3)
    save_set(path, IMAGES, LABELS)
    for i in range(0, len(whole), len(whole) // 60):  # a flipped bit is noticed or harmless
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :])
        try:
            np.testing.assert_array_equal(formats.read(path, "vico", 3).inputs, IMAGES.transpose(0, 2, 3, 1))
        except UserError:
            pass
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))  # how files began before 1.6
    with pytest.raises(UserError, match="if PyTorch before 1.6 wrote it, save it again"):
        formats.read(path, "vico", 3)
    save(path, {"data": []}, {}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="must not be compressed"):
        formats.read(path, "vico", 3)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"data": []}, "no list 'data'"),
        ([1, 2], "no list 'data'"),
        ({"data": [[1, 2]]}, "must be a tensor"),
        ({"data": [[tensor(LABELS, "1"), tensor(LABELS, "1")]]}, r"must be a tensor \(M, C, H, W\), not \(6,\)"),
        ({"data": [[tensor(IMAGES, "0"), 5]]}, "labels must be an array"),
        ({"data": [[tensor(IMAGES, "0"), tensor(LABELS[:5], "1", size=6)]]}, "same number of rows"),
        ({"data": [[tensor(IMAGES.reshape(6, 8, 8, 3), "0"), tensor(LABELS, "1")]]}, "must have 1 or 3 channels"),
    ],
)
def test_what_is_no_set_says_why(tmp_path, content, message):
    path = save(tmp_path / "res.pt", content, {"0": IMAGES, "1": LABELS})
    with pytest.raises(UserError, match=message):
        formats.read(path, "vico", 3)


def test_mtt_labels_lie_beside(tmp_path):
    save(tmp_path / "images_best.pt", tensor(IMAGES, "0"), {"0": IMAGES})
    save(tmp_path / "other.pt", tensor(IMAGES, "0"), {"0": IMAGES})
    for name in ("images_best.pt", "other.pt"):
        with pytest.raises(UserError, match="labels_best.pt beside it"):
            formats.read(tmp_path / name, "mtt", 3)
