"""Small float64 problems that several tests share."""

import jax
import jax.numpy as jnp
import numpy as np

from rcig.lookup import find
from rcig.types import Batch, Dataset, Model, Synthetic

NUM_CLASSES = 3
SHAPE = (8, 8, 1)


def in_float64(model: Model) -> Model:
    """Return the model with float64 parameters."""
    init = jax.jit(lambda key: jax.tree.map(lambda a: a.astype(jnp.float64), model.init(key)))  # compiled as one
    return Model(init, model.apply)


def model(name: str = "convnet", **options) -> Model:
    """Return a narrow float64 network for the toy images."""
    options = {"width": 4, "depth": 2} | options
    return in_float64(find("rcig.models", name).make(SHAPE, NUM_CLASSES, **options))


def dataset(num_train: int = 240, num_test: int = 120) -> Dataset:
    """Return images of three noisy blobs at class-dependent places, float64."""
    rng = np.random.default_rng(0)
    places = np.array([[2, 2], [5, 2], [3, 5]])

    def draw(count):
        labels = np.arange(count, dtype=np.int32) % NUM_CLASSES
        centres = places[labels] + rng.normal(0, 0.7, (count, 2))
        rows, columns = np.mgrid[:8, :8]
        distance = (rows - centres[:, 0, None, None]) ** 2 + (columns - centres[:, 1, None, None]) ** 2
        images = np.exp(-distance / 3) + rng.normal(0, 0.3, (count, 8, 8))
        return Batch((images[..., None] - 0.2) / 0.4, labels)

    names = tuple(f"blob {i}" for i in range(NUM_CLASSES))
    decode = lambda x: x * 0.4 + 0.2
    told = {"kind": "standard", "mean": [0.2], "std": [0.4]}
    return Dataset("toy", draw(num_train), draw(num_test), NUM_CLASSES, names, decode, told)


def synthetic(ipc: int = 1, key: int = 0) -> Synthetic:
    """Return a class-major random set, float64."""
    key_inputs, key_labels = jax.random.split(jax.random.key(key))
    labels = jnp.repeat(jnp.eye(NUM_CLASSES), ipc, 0) - 1 / NUM_CLASSES
    noise = 0.3 * jax.random.normal(key_labels, labels.shape)
    return Synthetic(jax.random.normal(key_inputs, (len(labels), *SHAPE)), labels + noise)


def central_difference(fn, x, direction, epsilon: float = 1e-5):
    """Return the derivative of fn at the tree x along a direction, to O(epsilon^2)."""
    move = lambda sign: jax.tree.map(lambda a, d: a + sign * epsilon * d, x, direction)
    return (fn(move(1)) - fn(move(-1))) / (2 * epsilon)
