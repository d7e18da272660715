"""ZCA whitening, for whole images or for interleaved blocks of large ones.

With mu and Sigma the mean and covariance of the standardised, flattened (H, W, C) training images, eps = r tr(Sigma)/d
and Sigma + eps I = U diag(s) U^T,

    encode(x) = (x - mu) W,    W = U s^(-1/2) U^T,    decode(z) = z W^-1 + mu,    W^-1 = U s^(1/2) U^T

as in the RCIG reference (r = 0.1); or eps = r, as MTT's. Where there are fewer images N than features d, the entries of
s beyond the N-th largest are 1. Images larger than 64 pixels are taken apart into interleaved (polyphase) sub-images of
64 x 64, of d features each, which share one W made from the mean of their covariances; each keeps its own mu.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rcig.data import cache
from rcig.errors import UserError

REGULARISER = 0.1
BLOCK = 64  # pixels
MAX_FEATURES = 16384  # an eigen-decomposition beyond that would take days

_log = logging.getLogger(__name__)

Standardise = Callable[[np.ndarray, type], np.ndarray]  # pixels (B, H, W, C), a float type -> standardised (B, H, W, C)


@dataclass(frozen=True, eq=False)
class Whitening:
    """W and its inverse (d, d), mu (F*F, d), all float32; images are cut into F x F blocks of d features."""

    matrix: np.ndarray
    inverse: np.ndarray
    mean: np.ndarray
    factor: int
    digest: str

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Whiten standardised images (B, H, W, C) float32."""
        return merge(images.shape, _times(take_apart(images, self.factor) - self.mean, self.matrix), self.factor)

    def decode(self, inputs: np.ndarray) -> np.ndarray:
        """Undo ``encode``."""
        return merge(inputs.shape, _times(take_apart(inputs, self.factor), self.inverse) + self.mean, self.factor)


def fit(images: np.ndarray, standardise: Standardise, key: str, cache_dir: Path, relative: bool = True) -> Whitening:
    """Fit on training pixels (N, H, W, C), or find under ``key`` in the cache; the regulariser may be relative.

    Cost: 2 N d^2 operations in float64 on the host, a chunk of rows at a time, and about 20 d^3 for eigenvectors and
    products: CIFAR-10 (d = 3072) a minute or two, 64-pixel images (d = 12288) an hour. Raises UserError for d > 16384.
    """
    factor = block_factor(images.shape[1:])
    features = int(np.prod(images.shape[1:])) // factor**2
    if features > MAX_FEATURES:
        raise UserError(
            f"ZCA of {features} features a block needs a {features} x {features} matrix, over {MAX_FEATURES}: "
            "use preprocessing 'standard' or a resolution that is a multiple of 64 or below"
        )
    fitted = cache.remember(cache_dir, f"zca-{key}", partial(_fit, images, standardise, factor, relative))
    return Whitening(**{name: np.asarray(array) for name, array in fitted.items()}, factor=factor, digest=key)


def moments(chunks: Iterator[np.ndarray], factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the block means (F*F, d) and the mean of the blocks' covariances (d, d).

    Args: chunks of standardised images, float64, whose mean is near 0 (so that one pass loses no digits).
    """
    total, gram, count = np.zeros(()), np.zeros(()), 0
    for chunk in chunks:
        blocks = take_apart(chunk, factor)  # (B, F*F, d)
        flat = blocks.reshape(-1, blocks.shape[-1])
        total, gram, count = total + blocks.sum(0), gram + flat.T @ flat, count + len(flat)
    mean = total * (factor**2 / count)
    return mean, gram / count - mean.T @ mean / factor**2


def matrices(covariance: np.ndarray, count: int, relative: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return W and its inverse (d, d) for a covariance (d, d) of ``count`` images, in its precision."""
    features = len(covariance)
    values, vectors = np.linalg.eigh(covariance)  # ascending
    spectrum = values + REGULARISER * (np.trace(covariance) / features if relative else 1)
    if not spectrum[0] > 0:
        raise UserError(
            "the training examples are all alike, ZCA has nothing to scale; set --config.preprocessing=none"
        )
    _log.info("eigenvalues of the regularised covariance: %.4g to %.4g", spectrum[0], spectrum[-1])
    spectrum[: max(0, features - count)] = 1
    return (vectors * spectrum**-0.5) @ vectors.T, (vectors * spectrum**0.5) @ vectors.T


def block_factor(shape: tuple[int, ...]) -> int:
    """Return F: 2 for 128 x 128 images, 4 for 256 x 256; 1 where a side is no multiple of 64."""
    height, width = shape[:2]
    return height // BLOCK if height == width and height % BLOCK == 0 else 1


def take_apart(images: np.ndarray, factor: int) -> np.ndarray:
    """Cut images (B, H, W, C) into interleaved blocks (B, F*F, H*W*C / F^2): block (i, j) is images[:, i::F, j::F]."""
    count, height, width, channels = images.shape
    split = images.reshape(count, height // factor, factor, width // factor, factor, channels)
    return split.transpose(0, 2, 4, 1, 3, 5).reshape(count, factor**2, -1)


def merge(shape: tuple[int, ...], blocks: np.ndarray, factor: int) -> np.ndarray:
    """Undo ``take_apart`` for images of this shape."""
    count, height, width, channels = shape
    split = blocks.reshape(count, factor, factor, height // factor, width // factor, channels)
    return split.transpose(0, 3, 1, 4, 2, 5).reshape(shape)


def _times(blocks: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return blocks (B, F*F, d) @ matrix as one product; NumPy would make B of them, fifty times slower."""
    return (blocks.reshape(-1, blocks.shape[-1]) @ matrix).reshape(blocks.shape)


def _fit(images: np.ndarray, standardise: Standardise, factor: int, relative: bool) -> cache.Arrays:
    rows = max(1, 2**27 // (8 * int(np.prod(images.shape[1:]))))  # 128 MB a chunk
    chunks = (standardise(images[start : start + rows], np.float64) for start in range(0, len(images), rows))
    _log.info("fitting ZCA to %d images; the result is cached", len(images))
    mean, covariance = moments(chunks, factor)
    matrix, inverse = matrices(covariance, len(images), relative)
    fitted = {"matrix": matrix, "inverse": inverse, "mean": mean}
    return {name: array.astype(np.float32) for name, array in fitted.items()}
