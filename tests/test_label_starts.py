"""Where labels start: every name against its closed form, distances by hand, files, scaling, and who asks for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import config as configs
from rcig import experiment
from rcig.errors import UserError
from rcig.initialize import initialize
from rcig.label_starts import STARTS, LabelStart, nrmse, relabelled, ssim, start
from rcig.types import Batch, Dataset, Synthetic

KEY = jax.random.key(0)


def make(pixels, names=("cat", "dog", "big bird")) -> Dataset:
    """Return a set of one or more pictures a class, whose model inputs are 2 x - 1 of pixels x in [0, 1]."""
    labels = np.repeat(np.arange(len(pixels)), len(pixels[0])).astype(np.int32)
    batch = Batch((2 * np.concatenate(pixels) - 1).astype(np.float32), labels)
    return Dataset("toy", batch, batch, len(pixels), tuple(names), lambda x: (x + 1) / 2, {"kind": "standard"})


@pytest.fixture
def dataset() -> Dataset:
    """Three classes of two constant 4x4 pictures; the means are 0.1, 0.3 and 0.7."""
    return make([[np.full((4, 4, 1), mean + off) for off in (-0.1, 0.1)] for mean in (0.1, 0.3, 0.7)])


def labels_of(dataset, name, ipc=1, init_labels=(), **options):
    labels = start(LabelStart(name, **options), KEY, dataset, ipc, init_labels)
    assert labels.dtype == jnp.float32
    return np.asarray(labels)


@pytest.mark.parametrize("name", sorted(set(STARTS) - {"file", "CNDB"}))
def test_every_start_has_a_row_for_every_example(dataset, name):
    assert labels_of(dataset, name, 2).shape == (6, 3)
    assert labels_of(dataset, name, 2, (2, 0)).shape == (4, 3)


def test_certain_labels(dataset):
    eye = np.eye(3)[[2, 2, 0, 0]]
    expected = {"one_hot": eye, "centred": eye - 1 / 3, "smoothed": 0.9 * eye + 0.1 / 3, "zeros": 0 * eye}
    for name, labels in (expected | {"ones": 0 * eye + 1}).items():
        np.testing.assert_allclose(labels_of(dataset, name, 2, (2, 0)), labels, atol=1e-7)


def test_drawn_labels(dataset):
    draws = {name: labels_of(dataset, name, 2000) for name in ("normal", "uniform", "bin")}
    assert set(np.unique(draws["bin"])) == {0, 1}
    assert draws["uniform"].min() >= 0 and draws["uniform"].max() < 1 and draws["normal"].min() < -2
    for name, mean, std in (("normal", 0, 1), ("uniform", 0.5, 12**-0.5), ("bin", 0.5, 0.5)):
        assert abs(draws[name].mean() - mean) < 0.03 and abs(draws[name].std() - std) < 0.03


def test_orthogonal_rows_are_orthonormal_one_for_each_class(dataset):
    labels = labels_of(dataset, "orthogonal")
    np.testing.assert_allclose(labels @ labels.T, np.eye(3), atol=1e-6)
    np.testing.assert_array_equal(labels_of(dataset, "orthogonal", 2, (1, 2)), labels[[1, 1, 2, 2]])


def test_scaling_before_and_after(dataset):
    one_hot = np.eye(3)
    np.testing.assert_allclose(labels_of(dataset, "one_hot", scale=10, add=-0.5), (one_hot - 0.5) * 10)
    np.testing.assert_allclose(labels_of(dataset, "one_hot", scale=10, add=-0.5, add_first=False), one_hot * 10 - 0.5)


def test_average_image_distance_by_hand(dataset):
    """Squared differences of the means 0.04, 0.16, 0.36, divided by 0.36."""
    far = np.array([[0, 1 / 9, 1], [1 / 9, 0, 4 / 9], [1, 4 / 9, 0]])
    np.testing.assert_allclose(labels_of(dataset, "AIDB"), 1 - far, atol=1e-5)
    np.testing.assert_allclose(labels_of(dataset, "AIDB", invert=True), far + np.eye(3), atol=1e-5)
    np.testing.assert_allclose(labels_of(dataset, "AIDB", 2, (2,)), (1 - far)[[2, 2]], atol=1e-5)
    relative = np.array([[0, 2, 6], [2 / 3, 0, 4 / 3], [6 / 7, 4 / 7, 0]]) / 6  # |a - b| / |a|
    np.testing.assert_allclose(labels_of(dataset, "AIDB", distance="NRMSE"), 1 - relative, atol=1e-5)
    similar = lambda a, b: (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    distance = 1 - np.array([[similar(a, b) for b in (0.1, 0.3, 0.7)] for a in (0.1, 0.3, 0.7)])
    expected = 1 - distance / distance.max()
    np.testing.assert_allclose(labels_of(dataset, "AIDB", distance="SSIM"), expected, atol=1e-4)


def test_ssim_closed_forms():
    a, b = np.random.default_rng(0).uniform(size=(2, 6, 5, 3))
    assert ssim(a, a) == pytest.approx(1) and ssim(a, b) == pytest.approx(ssim(b, a)) and ssim(a, b) < 0.6
    assert ssim(np.full((4, 4, 1), 0.2), np.full((4, 4, 1), 0.6)) == pytest.approx((0.24 + 1e-4) / (0.4 + 1e-4))
    small = a[:3, :3, :1]  # one window: numpy's own covariance
    cov = np.cov(small.ravel(), (1 - small).ravel())
    mean = small.mean()
    luminance = (2 * mean * (1 - mean) + 1e-4) / (mean**2 + (1 - mean) ** 2 + 1e-4)
    expected = luminance * (2 * cov[0, 1] + 9e-4) / (cov[0, 0] + cov[1, 1] + 9e-4)
    assert ssim(small, 1 - small) == pytest.approx(expected) and expected < 0
    assert nrmse(a, 1.5 * a) == pytest.approx(0.5)


def test_equal_means_are_at_no_distance():
    same = make([[np.full((4, 4, 1), 0.5)]] * 2, "ab")
    np.testing.assert_array_equal(labels_of(same, "AIDB"), np.ones((2, 2)))


def test_class_name_distance_by_hand(dataset, tmp_path):
    """Squared distances of (1, 0), (3, 0) and the mean (2, 1) of "big" and "bird": 4, 2, 2."""
    path = tmp_path / "glove.txt"
    path.write_text("the 9 9\ncat 1 0\ndog 3 0\nbig 2 2\nbird 2 0\n")
    expected = np.array([[1, 0, 0.5], [0, 1, 0.5], [0.5, 0.5, 1]])
    np.testing.assert_allclose(labels_of(dataset, "CNDB", file=str(path)), expected, atol=1e-6)
    inverted = np.where(np.eye(3), 1, 1 - expected)
    np.testing.assert_allclose(labels_of(dataset, "CNDB", file=str(path), invert=True), inverted, atol=1e-6)


def test_labels_from_a_file(dataset, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("1, 0, 0.5\n-2,3,4\n\n")
    np.testing.assert_array_equal(labels_of(dataset, "file", 1, (0, 2), file=str(path)), [[1, 0, 0.5], [-2, 3, 4]])


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("file", "1,0,0\n", r"must hold finite labels \(3, 3\), an example a row, not \(1, 3\)"),
        ("file", "1,0\n0,1,0\n0,0,1\n", "must hold rows of K comma-separated numbers"),
        ("file", "1,0,a\n0,1,0\n0,0,1\n", "must hold rows of K comma-separated numbers"),
        ("file", "1,0,nan\n0,1,0\n0,0,1\n", "must hold finite labels"),
        ("CNDB", "cat 1\ndog 2\nbig 3\n", "no vector for 'bird' of the class names"),
        ("CNDB", "cat 1\ndog 2 3\nbig 1\nbird 1\n", "line 2 has 2 numbers, not 1"),
        ("CNDB", "cat 1\ndog x\nbig 1\nbird 1\n", "line 2 holds what is no number"),
    ],
)
def test_bad_files(dataset, tmp_path, name, text, message):
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        labels_of(dataset, name, file=str(tmp_path / "mine.txt"))


def test_bad_options(dataset, tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9 1 2\n")
    for name, options, message in (
        ("one_hto", {}, "unknown labels.name 'one_hto'; did you mean 'one_hot'"),
        ("AIDB", {"distance": "mes"}, "unknown labels.distance 'mes'.*MSE, NRMSE, SSIM"),
        ("CNDB", {}, "labels.name=CNDB needs labels.file: a GloVe text file"),
        ("file", {"file": str(tmp_path / "none")}, "none cannot be read"),
        ("centred", {"file": "mine.csv"}, "labels.file is of labels.name file or CNDB, not of centred"),
        ("CNDB", {"file": "mine.txt", "distance": "SSIM"}, "labels.distance is of labels.name AIDB"),
        ("normal", {"invert": True}, "labels.invert is of labels.name CNDB or AIDB"),
        ("CNDB", {"file": str(tmp_path / "latin")}, "latin, line 1 is not UTF-8"),
    ):
        with pytest.raises(UserError, match=message):
            labels_of(dataset, name, **options)
    black = make([[np.zeros((4, 4, 1))], [np.ones((4, 4, 1))]], "ab")
    with pytest.raises(UserError, match="labels.distance=NRMSE of these classes' mean pictures is not finite"):
        labels_of(black, "AIDB", distance="NRMSE")
    for shape in ((4,), (2, 2, 1)):
        with pytest.raises(UserError, match="AIDB compares pictures"):
            labels_of(make([[np.ones(shape)], [np.zeros(shape)]], "ab"), "AIDB")


def test_by_default_a_distillation_starts_from_centred_labels_as_ever(dataset):
    config = configs.load("quickstart")
    made = experiment.make_start(config, dataset)
    plain = initialize("real", jax.random.key(config.seed), dataset, 1)
    jax.tree.map(np.testing.assert_array_equal, made, plain)


def test_a_config_chooses_groups_and_labels(dataset):
    overrides = ["--config.init_labels=2,0", "--config.labels.name=one_hot", "--config.labels.add=-0.5"]
    config = configs.load("quickstart", [*overrides, "--config.ipc=2", "--config.initialization=average"])
    assert config.init_labels == (2, 0) and config.labels.add == -0.5
    made = experiment.make_start(config, dataset)
    np.testing.assert_allclose(made.labels, np.eye(3)[[2, 2, 0, 0]] - 0.5)
    np.testing.assert_allclose(made.inputs[:, 0, 0, 0], [0.4, 0.4, -0.8, -0.8], atol=1e-6)


def test_tuples_of_a_config_survive_json_and_bad_ones_are_named():
    for text in ("(7,)", "7", "[7]", "7,"):
        assert configs.load("default", [f"--config.init_labels={text}"]).init_labels == (7,)
    assert configs.load("default", ["--config.init_labels="]).init_labels == ()
    assert configs.from_dict({"init_labels": [3, 7]}).init_labels == (3, 7)
    for text in ("3 7", "a", "3;7"):
        with pytest.raises(UserError, match="config.init_labels must be of type tuple"):
            configs.load("default", [f"--config.init_labels={text}"])
    with pytest.raises(UserError, match="config.labels.add must be a finite number"):
        configs.load("default", ["--config.labels.add=-inf"])


def test_real_examples_are_labelled_like_the_set_they_are_compared_with():
    learned = Synthetic(np.zeros((2, 1)), jnp.array([[3.1, -1.2, 0], [0.1, 0.2, 0.3]]))
    np.testing.assert_array_equal(relabelled(LabelStart("normal", scale=9), learned).labels, np.eye(3)[[0, 2]])
    np.testing.assert_allclose(relabelled(LabelStart(), learned).labels, np.eye(3)[[0, 2]] - 1 / 3, atol=1e-7)
