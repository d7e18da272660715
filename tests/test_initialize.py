"""Starting sets: rows, labels, determinism and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig.errors import UserError
from rcig.initialize import initialize, real
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


@pytest.mark.parametrize("name", ["real", "noise"])
@pytest.mark.parametrize("ipc", [0, -1])
def test_ipc_below_one(dataset, name, ipc):
    with pytest.raises(UserError, match=f"ipc must be at least 1, not {ipc}"):
        initialize(name, jax.random.key(0), dataset, ipc)


def test_ipc_beyond_the_smallest_class_names_it(dataset):
    with pytest.raises(UserError, match=r"ipc 5 is more than class 'bee' of three has \(4 examples\)"):
        initialize("real", jax.random.key(0), dataset, 5)


def test_noise_has_the_stated_scale(dataset):
    synthetic = initialize("noise", jax.random.key(0), dataset, 1000)  # more than any class has
    assert synthetic.inputs.shape == (3000, 2, 2, 1) and synthetic.inputs.dtype == jnp.float32
    assert abs(float(jnp.std(synthetic.inputs)) - 0.3) < 0.01
    np.testing.assert_allclose(synthetic.labels[1000], [-1 / 3, 2 / 3, -1 / 3], atol=1e-7)


def test_unknown_name(dataset):
    with pytest.raises(UserError, match="unknown starting set 'rael'; did you mean 'real'.*noise, real"):
        initialize("rael", jax.random.key(0), dataset, 1)
