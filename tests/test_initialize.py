"""Starting sets: rows, labels, determinism and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import sharding
from rcig.errors import UserError
from rcig.initialize import MAX_CLUSTERED, STARTS, class_means, everything, initialize, real
from rcig.types import Batch, Dataset


@pytest.fixture
def dataset():
    """Three classes of 9, 4 and 7 examples, shuffled; the first pixel tells the row, the second the class."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [9, 4, 7])).astype(np.int32)
    inputs = np.zeros((20, 2, 2, 1), np.float32)
    inputs[:, 0, 0, 0], inputs[:, 0, 1, 0] = np.arange(20), labels
    train = Batch(inputs, labels)
    return Dataset("three", train, train, 3, ("ant", "bee", "cat"), lambda x: x, {})


@pytest.mark.parametrize("ipc", [1, 4])
def test_real_rows_are_distinct_class_major_and_labelled(dataset, ipc):
    synthetic = real(jax.random.key(0), dataset, ipc)
    classes = np.repeat([0, 1, 2], ipc)
    np.testing.assert_array_equal(synthetic.inputs[:, 0, 1, 0], classes)
    rows = np.asarray(synthetic.inputs[:, 0, 0, 0]).astype(int)
    assert len(set(rows)) == 3 * ipc
    np.testing.assert_array_equal(dataset.train.labels[rows], classes)
    np.testing.assert_allclose(synthetic.labels, np.eye(3)[classes] - 1 / 3, atol=1e-7)
    assert synthetic.inputs.dtype == synthetic.labels.dtype == jnp.float32


def test_real_is_a_function_of_the_key_and_reaches_every_row(dataset):
    draws = [np.asarray(real(jax.random.key(k), dataset, 2).inputs[:, 0, 0, 0]) for k in range(40)]
    np.testing.assert_array_equal(draws[3], real(jax.random.key(3), dataset, 2).inputs[:, 0, 0, 0])
    assert set(np.concatenate(draws)) == set(range(20))


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("ipc", [0, -1])
def test_ipc_below_one(dataset, name, ipc):
    with pytest.raises(UserError, match=f"ipc must be at least 1, not {ipc}"):
        initialize(name, jax.random.key(0), dataset, ipc)


@pytest.mark.parametrize("name", ["real", "kmeans"])
def test_ipc_beyond_the_smallest_class_names_it(dataset, name):
    with pytest.raises(UserError, match=r"ipc 5 is more than class 'bee' of three has \(4 examples\)"):
        initialize(name, jax.random.key(0), dataset, 5)
    assert len(initialize(name, jax.random.key(0), dataset, 5, init_labels=(0, 2)).inputs) == 10  # 'bee' is not asked


def test_noise_has_the_stated_scale(dataset):
    synthetic = initialize("noise", jax.random.key(0), dataset, 1000)  # more than any class has
    assert synthetic.inputs.shape == (3000, 2, 2, 1) and synthetic.inputs.dtype == jnp.float32
    assert abs(float(jnp.std(synthetic.inputs)) - 0.3) < 0.01
    np.testing.assert_allclose(synthetic.labels[1000], [-1 / 3, 2 / 3, -1 / 3], atol=1e-7)


def test_the_small_starts_of_the_unrolled_methods(dataset):
    unit, xavier = (initialize(name, jax.random.key(0), dataset, 100).inputs for name in ("unit", "xavier"))
    np.testing.assert_allclose(np.linalg.norm(unit.reshape(300, 4), axis=1), 1, rtol=1e-6)
    assert abs(float(jnp.mean(unit))) < 0.05
    bound = (6 / (300 + 4)) ** 0.5
    assert 0.99 * bound < float(jnp.max(jnp.abs(xavier))) <= bound
    assert float(jnp.std(xavier)) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_unknown_name(dataset):
    with pytest.raises(
        UserError, match="unknown starting set 'rael'; did you mean 'real'.*noise, normal, real, unit, xavier"
    ):
        initialize("rael", jax.random.key(0), dataset, 1)


@pytest.mark.parametrize("name", STARTS)
def test_fewer_groups_than_classes_in_the_order_asked_for(dataset, name):
    start = initialize(name, jax.random.key(1), dataset, 2, init_labels=(2, 0))
    assert start.inputs.shape == (4, 2, 2, 1) and start.inputs.dtype == start.labels.dtype == jnp.float32
    np.testing.assert_allclose(start.labels, np.eye(3)[[2, 2, 0, 0]] - 1 / 3, atol=1e-7)
    if name in ("real", "average", "kmeans"):
        np.testing.assert_allclose(start.inputs[:, 0, 1, 0], [2, 2, 0, 0], atol=1e-6)
    again = initialize(name, jax.random.key(1), dataset, 2, init_labels=(2, 0))
    np.testing.assert_array_equal(start.inputs, again.inputs)


def test_all_classes_are_what_no_labels_mean(dataset):
    for name in ("real", "noise", "kmeans"):
        both = [initialize(name, jax.random.key(2), dataset, 2, labels).inputs for labels in ((), (0, 1, 2))]
        np.testing.assert_array_equal(*both)


@pytest.mark.parametrize(
    "labels, message",
    [
        ((3,), r"init_labels must be classes 0\.\.2 of three, not 3"),
        ((0, -1), "not -1"),
        (("a",), "not 'a'"),
        ((1.0,), r"not 1\.0"),
        ((1, 1), r"init_labels \(1, 1\) name a class twice"),
    ],
)
def test_labels_outside_the_set(dataset, labels, message):
    with pytest.raises(UserError, match=message):
        initialize("real", jax.random.key(0), dataset, 1, labels)


def test_normal_is_a_standard_normal(dataset):
    inputs = initialize("normal", jax.random.key(0), dataset, 1000).inputs
    assert abs(float(jnp.std(inputs)) - 1) < 0.03 and abs(float(jnp.mean(inputs))) < 0.03
    np.testing.assert_array_equal(initialize("noise", jax.random.key(0), dataset, 1000).inputs, 0.3 * inputs)


def test_average_is_the_class_mean_in_every_slot(dataset):
    start = initialize("average", jax.random.key(0), dataset, 2)
    inputs, labels = dataset.train
    expected = np.stack([inputs[labels == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(start.inputs, np.repeat(expected, 2, axis=0), atol=1e-6)
    np.testing.assert_array_equal(initialize("kmeans", jax.random.key(0), dataset, 1).inputs, start.inputs[::2])


def test_average_of_more_rows_than_are_taken_at_once():
    inputs = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
    batch = Batch(inputs, np.zeros(2500, np.int32))
    dataset = Dataset("one", batch, batch, 2, ("a", "b"), lambda x: x, {})
    np.testing.assert_allclose(class_means(dataset, [0])[0], inputs.mean(0, dtype=np.float64), atol=1e-7)
    with pytest.raises(UserError, match=r"class 'b' of one has \(0 examples\)"):
        class_means(dataset, [0, 1])


class Rows:
    """An array that can only be taken rows of, as sets that do not fit the memory are."""

    def __init__(self, array):
        self.array, self.shape, self.largest = array, array.shape, 0

    def __getitem__(self, rows):
        self.largest = max(self.largest, len(rows))
        return self.array[rows]


def test_kmeans_finds_separated_clusters_in_a_sample_of_a_large_class():
    rng = np.random.default_rng(0)
    centres = np.array([[[0, 0], [10, 0], [0, 10]], [[50, 50], [60, 50], [50, 60]]], np.float32)
    labels = np.repeat([0, 1], [6000, 300]).astype(np.int32)
    inputs = centres[labels, rng.integers(0, 3, 6300)] + rng.uniform(-1, 1, (6300, 2)).astype(np.float32)
    rows = Rows(inputs)
    dataset = Dataset("two", Batch(rows, labels), Batch(rows, labels), 2, ("a", "b"), lambda x: x, {})
    found = np.asarray(initialize("kmeans", jax.random.key(0), dataset, 3).inputs).reshape(2, 3, 2)
    for k in range(2):
        nearest = np.linalg.norm(found[k][:, None] - centres[k], axis=2).argmin(0)
        assert sorted(nearest) == [0, 1, 2]
        np.testing.assert_allclose(found[k][nearest], centres[k], atol=0.2)
    members = inputs[labels == 1]  # a class that was taken whole: its centres are the means of their members
    owner = np.linalg.norm(members[:, None] - found[1], axis=2).argmin(1)
    np.testing.assert_allclose(found[1], [members[owner == k].mean(0) for k in range(3)], atol=1e-4)
    assert rows.largest == MAX_CLUSTERED


def test_a_training_split_that_does_not_fit_is_not_taken_whole(dataset, monkeypatch):
    assert everything(dataset).inputs.shape == (20, 2, 2, 1)
    monkeypatch.setattr(sharding, "whole_memory", lambda: 100)
    with pytest.raises(UserError, match="all of data set three at once takes .* smaller data.resolution"):
        everything(dataset)
