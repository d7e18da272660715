"""Samplers against what uniform draws must satisfy, and streaming against NumPy's indexing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig.data.preprocess import EncodedRows
from rcig.data.sampling import balanced, iid
from rcig.data.streaming import gather
from rcig.errors import UserError
from rcig.types import Batch

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("num_rows", "size"), [(1, 1), (7, 7), (60, 1), (5000, 4999)])
def test_iid_rows_are_different_and_in_range(num_rows, size):
    for rows in jax.vmap(lambda key: iid(key, num_rows, size))(jax.random.split(KEY, 10)):
        assert rows.shape == (size,) and rows.dtype == jnp.int32
        assert len(set(rows.tolist())) == size and rows.min() >= 0 and rows.max() < num_rows


def test_iid_is_uniform_over_rows_and_places():
    draws = jax.vmap(lambda key: iid(key, 8, 3))(jax.random.split(KEY, 8000))  # (8000, 3)
    for place in range(3):
        counts = np.bincount(draws[:, place], minlength=8)
        assert np.sum((counts - 1000) ** 2 / 1000) < 24.3  # chi-square, 7 degrees of freedom: p = 0.001
    pairs = np.bincount(draws[:, 0] * 8 + draws[:, 1], minlength=64).reshape(8, 8)
    assert np.all(np.diag(pairs) == 0)
    off_diagonal = pairs[~np.eye(8, dtype=bool)]
    assert np.sum((off_diagonal - 8000 / 56) ** 2 / (8000 / 56)) < 93.2  # 55 degrees of freedom: p = 0.001


def test_iid_is_a_function_of_the_key_and_jits():
    compiled = jax.jit(partial(iid, num_rows=1000, size=64))
    assert np.array_equal(compiled(KEY), iid(KEY, 1000, 64))
    assert not np.array_equal(compiled(KEY), compiled(jax.random.key(1)))


@pytest.mark.parametrize("size", [0, 11])
def test_iid_refuses_more_rows_than_there_are(size):
    with pytest.raises(UserError, match=f"must lie in 1..10, the number of training rows, got {size}"):
        jax.jit(partial(iid, num_rows=10, size=size))(KEY)


def test_balanced_rows_are_class_major_and_different():
    labels = jnp.asarray(RNG.permutation(np.repeat(np.arange(5), [9, 4, 7, 20, 5])), jnp.int32)
    rows = jax.jit(partial(balanced, num_classes=5, size_per_class=4))(KEY, labels)
    assert rows.dtype == jnp.int32 and labels[rows].tolist() == np.repeat(np.arange(5), 4).tolist()
    assert len(set(rows.tolist())) == 20
    assert np.array_equal(rows, balanced(KEY, labels, 5, 4))


def test_balanced_goes_through_a_small_class_again_and_again():
    labels = jnp.array([1, 0, 1, 1, 0, 1, 1], jnp.int32)
    rows = np.asarray(balanced(KEY, labels, 2, 5))
    assert set(rows[:5]) == {1, 4} and np.array_equal(rows[:2], rows[2:4]) and rows[4] == rows[0]
    assert sorted(rows[5:]) == [0, 2, 3, 5, 6]
    with pytest.raises(UserError, match="at least 1"):
        balanced(KEY, labels, 2, 0)


def test_balanced_is_uniform_within_each_class():
    labels = jnp.array([0, 1, 0, 1, 1, 0, 1, 0, 0], jnp.int32)
    draws = jax.vmap(lambda key: balanced(key, labels, 2, 2))(jax.random.split(KEY, 6000))  # (6000, 4)
    counts = np.bincount(np.asarray(draws).ravel(), minlength=9)
    expected = np.where(np.asarray(labels) == 0, 12000 / 5, 12000 / 4)
    assert np.sum((counts - expected) ** 2 / expected) < 24.3


def test_gather_equals_indexing():
    source = Batch(RNG.normal(size=(50, 3, 2)).astype(np.float32), np.arange(50, dtype=np.int32))
    for shape in ((4, 100), (1, 1), (700, 1), (3, 0)):
        rows = RNG.integers(0, 50, shape)
        batches = gather(source, rows)
        assert batches.inputs.dtype == np.float32
        np.testing.assert_array_equal(batches.inputs, source.inputs[rows])
        np.testing.assert_array_equal(batches.labels, source.labels[rows])


def test_gather_reads_rows_that_are_encoded_on_demand():
    pixels = RNG.integers(0, 256, (40, 4, 4, 1), np.uint8)
    source = Batch(EncodedRows(pixels, lambda x: (x / 255).astype(np.float32)), np.zeros(40, np.int32))
    rows = RNG.integers(0, 40, (3, 200))
    np.testing.assert_array_equal(gather(source, rows).inputs, (pixels / 255).astype(np.float32)[rows])


@pytest.mark.parametrize("rows", [np.zeros(3, int), np.zeros((2, 2)), np.array([[50]]), np.array([[-1]])])
def test_gather_refuses_rows_outside_the_set(rows):
    with pytest.raises(ValueError, match="rows must"):
        gather(Batch(np.zeros((50, 2), np.float32), np.zeros(50, np.int32)), rows)
