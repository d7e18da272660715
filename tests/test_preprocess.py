"""Preprocessing against hand formulas, the way back, whitening's algebra, rows encoded on demand, and the cache."""

import json
import logging
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcig import data
from rcig.data import cache, preprocess, whitening
from rcig.data.raw import Raw
from rcig.errors import UserError

RNG = np.random.default_rng(0)


def raw(shape=(6, 5, 3), rows: int = 200, dtype=np.uint8) -> Raw:
    """Return correlated random images of two classes."""
    smooth = RNG.normal(size=(rows, *shape)).cumsum(1).cumsum(2)
    pixels = np.clip(128 + 25 * smooth, 0, 255).astype(np.uint8)
    inputs = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    labels = np.arange(rows, dtype=np.int32) % 2
    return Raw(inputs, labels, inputs[:20], labels[:20], np.array(["a", "b"]))


@pytest.fixture
def fit(tmp_path):
    return partial(preprocess.fit, cache_dir=tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", ["none", "standard", "zca", "mtt_zca"])
def test_decode_undoes_encode(kind, dtype, fit):
    mine = raw(dtype=dtype)
    fitted = fit(kind, "mine", mine)
    encoded = fitted.encode(mine.test_inputs)
    assert encoded.dtype == np.float32 and encoded.shape == mine.test_inputs.shape
    pixels = mine.test_inputs / 255 if dtype == np.uint8 else mine.test_inputs
    np.testing.assert_allclose(fitted.decode(encoded), pixels, atol=3e-6)
    assert fitted.decode(encoded * 100).max() == 1 and fitted.decode(encoded * 100).min() == 0
    told = json.loads(json.dumps(fitted.describe()))
    assert told["kind"] == kind and told["image"] is True and ("zca" in told) == (kind in ("zca", "mtt_zca"))


def test_standard_constants_are_those_of_the_table_or_measured(fit):
    mine = raw()
    measured = fit("standard", "mine", mine)
    np.testing.assert_allclose(measured.mean, (mine.train_inputs / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(measured.std, (mine.train_inputs / 255).std((0, 1, 2)), rtol=1e-12)
    dc = (0.2023, 0.1994, 0.2010)
    constants = {("standard", "cifar10"): (0.2470, 0.2435, 0.2616), ("dc_standard", "cifar10"): dc}
    constants |= {("mtt_standard", name): dc for name in ("cifar10", "cifar100")}
    for (kind, name), std in constants.items():
        fitted = fit(kind, name, mine)
        expected = (mine.test_inputs / 255 - np.array([0.4914, 0.4822, 0.4465])) / np.array(std)
        np.testing.assert_allclose(fitted.encode(mine.test_inputs), expected, atol=2e-6)
        assert fitted.describe()["std"] == list(std)


def test_default_is_what_rcig_uses(fit):
    kinds = {name: fit("default", name, raw()).kind for name in ("cifar10", "cifar100", "tiny_imagenet", "imagewoof")}
    assert set(kinds.values()) == {"zca"}
    assert {fit("default", name, raw()).kind for name in ("mnist", "digits", "svhn_cropped", "npz")} == {"standard"}


# ---------------------------------------------------------------- whitening


@settings(deadline=None)
@given(features=st.integers(2, 12), rows=st.integers(13, 40), seed=st.integers(0, 99))
def test_whitened_covariance_is_the_shrunk_identity(features, rows, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) @ rng.normal(size=(features, features))
    covariance = np.cov(x, rowvar=False, bias=True)
    matrix, inverse = whitening.matrices(covariance, rows)
    shrunk = np.linalg.solve(covariance + 0.1 * np.trace(covariance) / features * np.eye(features), covariance)
    np.testing.assert_allclose(matrix @ covariance @ matrix, shrunk, atol=1e-10)
    np.testing.assert_allclose(matrix @ inverse, np.eye(features), atol=1e-10)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)


def test_mtt_whitens_pixels_with_an_absolute_regulariser(fit):
    mine = raw((4, 3, 3), 300)
    x = mine.train_inputs.reshape(300, -1) / 255
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False, bias=True) + 0.1 * np.eye(36))
    expected = (x - x.mean(0)) @ vectors @ np.diag(values**-0.5) @ vectors.T
    fitted = fit("mtt_zca", "cifar10", mine)  # no constants of the set come in
    np.testing.assert_allclose(fitted.encode(mine.train_inputs).reshape(300, -1), expected, atol=1e-5)
    assert fitted.describe()["zca"]["digest"] != fit("zca", "cifar10", mine).describe()["zca"]["digest"]
    with pytest.raises(UserError, match="'mtt_zca' is for images"):
        fit("mtt_zca", "mine", mine._replace(train_inputs=x.astype(np.float32)))


def test_fewer_rows_than_features_leaves_the_rest_unscaled():
    covariance = np.cov(RNG.normal(size=(5, 9)), rowvar=False, bias=True)  # rank 4
    matrix, inverse = whitening.matrices(covariance, 5)
    ridge = 0.1 * np.trace(covariance) / 9
    values = np.linalg.eigvalsh(covariance)[4:] + ridge  # the 5 largest; those of the other 4 become 1
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), np.sort([1, 1, 1, 1, *values**-0.5]), atol=1e-10)
    np.testing.assert_allclose(matrix @ inverse, np.eye(9), atol=1e-9)


def test_digits_are_whitened_as_the_formula_says(tmp_path):
    standard, white = (data.load("digits", preprocessing=kind, cache_dir=tmp_path) for kind in ("standard", "zca"))
    x, z = (dataset.train.inputs.reshape(-1, 64).astype(np.float64) for dataset in (standard, white))
    covariance = np.cov(x, rowvar=False, bias=True)
    regularised = covariance + 0.1 * np.trace(covariance) / 64 * np.eye(64)
    np.testing.assert_allclose(np.cov(z, rowvar=False, bias=True), np.linalg.solve(regularised, covariance), atol=1e-5)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    values, vectors = np.linalg.eigh(regularised)
    test = (standard.test.inputs.reshape(-1, 64) - x.mean(0)) @ vectors @ np.diag(values**-0.5) @ vectors.T
    np.testing.assert_allclose(white.test.inputs.reshape(-1, 64), test, atol=1e-4)


def test_block_zca_is_the_hand_formula_on_4x4_images(monkeypatch, fit):
    monkeypatch.setattr(whitening, "BLOCK", 2)
    mine = raw((4, 4, 2), 50)
    fitted = fit("zca", "mine", mine)
    assert fitted.describe()["zca"]["factor"] == 2
    standard = fit("standard", "mine", mine).encode(mine.train_inputs).astype(np.float64)
    blocks = {(i, j): standard[:, i::2, j::2].reshape(50, 8) for i in (0, 1) for j in (0, 1)}
    covariance = sum(np.cov(block, rowvar=False, bias=True) for block in blocks.values()) / 4
    values, vectors = np.linalg.eigh(covariance + 0.1 * np.trace(covariance) / 8 * np.eye(8))
    encoded = fitted.encode(mine.train_inputs)
    for (i, j), block in blocks.items():
        expected = (block - block.mean(0)) @ vectors @ np.diag(values**-0.5) @ vectors.T
        np.testing.assert_allclose(encoded[:, i::2, j::2].reshape(50, 8), expected, atol=2e-5)
    np.testing.assert_allclose(fitted.decode(encoded), mine.train_inputs / 255, atol=1e-5)


def test_blocks_are_64_pixels_and_merge_undoes_take_apart():
    shapes = {(32, 32, 3): 1, (64, 64, 3): 1, (128, 128, 3): 2, (256, 256, 3): 4, (96, 96, 3): 1, (128, 64, 3): 1}
    assert {shape: whitening.block_factor(shape) for shape in shapes} == shapes
    x = RNG.normal(size=(2, 6, 12, 3))
    assert np.array_equal(whitening.merge(x.shape, whitening.take_apart(x, 3), 3), x)


def test_moments_do_not_depend_on_the_chunks():
    x = RNG.normal(size=(30, 4, 4, 1))
    whole, parts = whitening.moments(iter([x]), 2), whitening.moments(iter([x[:7], x[7:8], x[8:]]), 2)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def test_fewer_images_than_a_block_has_features_leave_directions_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(whitening, "BLOCK", 2)
    images = RNG.normal(size=(3, 4, 4, 1))  # 12 blocks of 4 features
    fitted = whitening.fit(images, lambda x, dtype: x.astype(dtype), "few", tmp_path)
    want, _ = whitening.matrices(whitening.moments(iter([images]), 2)[1], 3)
    np.testing.assert_allclose(fitted.matrix, want, rtol=1e-6)
    assert np.isclose(np.linalg.eigvalsh(want), 1).sum() == 1


def test_zca_refuses_what_is_no_picture_and_what_is_too_large(fit):
    table = raw()._replace(train_inputs=RNG.normal(size=(9, 4)).astype(np.float32))
    with pytest.raises(UserError, match="'zca' is for images"):
        fit("zca", "mine", table)
    with pytest.raises(UserError, match="needs a 27648 x 27648 matrix"):
        fit("zca", "mine", raw((96, 96, 3), 2))


# ---------------------------------------------------------------- rows on demand


def test_rows_encoded_on_demand_equal_the_encoded_set(fit):
    mine = raw()
    fitted = fit("zca", "mine", mine)
    eager, lazy = fitted.encode(mine.train_inputs), preprocess.EncodedRows(mine.train_inputs, fitted.encode)
    assert (lazy.shape, lazy.dtype, len(lazy)) == (eager.shape, eager.dtype, len(eager))
    mask = mine.train_labels == 1
    for rows in (3, -1, slice(2, 9, 3), np.array([5, 5, 0]), np.array([[1, 2], [3, 199]]), mask, np.array([], int)):
        taken = lazy[rows]
        assert taken.shape == eager[rows].shape and taken.dtype == np.float32
        np.testing.assert_allclose(taken, eager[rows], atol=1e-5)
    np.testing.assert_allclose(np.asarray(lazy), eager, atol=1e-6)


def test_the_budget_decides_per_split(tmp_path):
    dataset = data.load("digits", max_bytes=599 * 64 * 4, cache_dir=tmp_path)
    assert isinstance(dataset.train.inputs, preprocess.EncodedRows) and isinstance(dataset.test.inputs, np.ndarray)
    np.testing.assert_array_equal(dataset.train.inputs[:5], data.load("digits").train.inputs[:5])


# ---------------------------------------------------------------- the cache


def once(arrays):
    """Return a builder that fails when it is called again."""
    calls = iter([arrays])
    return lambda: next(calls)


ARRAYS = {"x": np.arange(10.0), "names": np.array(["a", "bc"])}


def test_cache_finds_what_it_stored(tmp_path):
    build = once(ARRAYS)
    for _ in range(3):
        found = cache.remember(tmp_path, "key", build)
        assert found.keys() == ARRAYS.keys() and all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]  # nothing unfinished is left behind


DAMAGE = {
    "flipped byte": lambda entry: flip(entry / "x.npy"),
    "cut short": lambda entry: (entry / "x.npy").write_bytes((entry / "x.npy").read_bytes()[:-1]),
    "missing array": lambda entry: (entry / "names.npy").unlink(),
    "missing index": lambda entry: (entry / "index.json").unlink(),
    "broken index": lambda entry: (entry / "index.json").write_text("{"),
    "odd index": lambda entry: (entry / "index.json").write_text('{"x": 3}'),
    "odder index": lambda entry: (entry / "index.json").write_text("[]"),
}


def flip(path):
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(bytes(contents))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_again(damage, tmp_path):
    cache.remember(tmp_path, "key", once(ARRAYS))
    DAMAGE[damage](tmp_path / "key")
    for build in (once(ARRAYS), None):  # made again, then found
        assert np.array_equal(cache.remember(tmp_path, "key", build)["x"], ARRAYS["x"])


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert data.load("digits", preprocessing="zca", cache_dir=tmp_path / "file").num_classes == 10
    assert "cannot be written" in caplog.text


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert cache.remember(tmp_path, "key", once(ARRAYS)) is ARRAYS
    assert list(tmp_path.iterdir()) == []


def test_whitening_is_fitted_once_and_again_for_other_data(tmp_path, monkeypatch):
    mine, fits = raw(), []
    monkeypatch.setattr(whitening, "matrices", lambda *args, f=whitening.matrices: fits.append(1) or f(*args))
    digests = [preprocess.fit("zca", "mine", mine, tmp_path).describe()["zca"]["digest"] for _ in range(2)]
    assert len(fits) == 1 and digests[0] == digests[1]
    other = mine._replace(train_inputs=mine.train_inputs[::-1].copy())
    assert preprocess.fit("zca", "mine", other, tmp_path).describe()["zca"]["digest"] != digests[0] and len(fits) == 2


def test_digest_sees_names_sizes_and_times_of_files(tmp_path):
    (tmp_path / "a").write_text("x")
    seen = [cache.files_digest(tmp_path)]
    (tmp_path / "a").write_text("xy")
    seen.append(cache.files_digest(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.append(cache.files_digest(tmp_path))
    assert len(set(seen)) == 3 and cache.files_digest(tmp_path) == seen[-1]
    assert cache.digest(np.zeros((2, 3))) != cache.digest(np.zeros((3, 2))) != cache.digest(np.zeros((3, 2), np.int64))


@pytest.mark.parametrize(
    "space, kind, name, same",
    [
        ("unknown", "zca", "cifar10", True),
        ("zca", "zca", "cifar10", True),
        ("dc_standard", "zca", "cifar10", False),
        ("dc_standard", "standard", "cifar10", False),  # DC's deviations are others
        ("dc_standard", "standard", "mnist", True),
        ("dc_standard", "standard", "npz", True),  # of which DC knows none
        ("zca", "standard", "mnist", False),
    ],
)
def test_a_set_fits_the_space_it_was_made_in(space, kind, name, same):
    assert preprocess.same_space(space, kind, name) == same
