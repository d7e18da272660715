"""USPS: zip-code digits (LeCun et al. 1990) in the files of "The Elements of Statistical Learning".

Two gzipped text files, a line an image: the digit, then 256 grey values from -1 (paper) to 1 (ink), row by row; 7291
training and 2007 test images of 16x16. Here they lie in [0, 1], ink white as in MNIST, in MNIST's 28x28 unless another
resolution is said: digits fill 16x16 to its edges, so they are resized (bilinearly, by Pillow) to 22x22 and framed. DD
(Wang et al. 2018) reads CoGAN's copy, 28x28, whose mean grey, 0.160, is nearest to that of 22 pixels: 0.162, and 0.26
without a frame. LeNets trained on MNIST know 88 % of such digits, DD's know 90; without a frame 73. That copy also
mixes the files and holds out 1860 of all 9298, ``test_fraction=0.2``; the files' own test digits are harder.
"""

import gzip
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from rcig.data import cache, corpora
from rcig.data.raw import Raw, one_line, split, to_arrays
from rcig.errors import UserError

FILES = ("zip.train.gz", "zip.test.gz")
URL = "https://hastie.su.domains/ElemStatLearn/datasets"
_SIDE = 16
_FILLED = 22 / 28  # of the frame; but a digit never has fewer pixels than in the files, where they fit

locate = partial(corpora.locate, "usps", FILES)  # data_dir -> the folder with both files, or None


def read(location: Path, cache_dir: Path, resolution: int = 28, test_fraction: float = 0.0) -> Raw:
    """Read both files to float32 (N, resolution, resolution, 1) in [0, 1]. Raises UserError for broken files.

    With ``test_fraction`` this stratified share of both together is held out, instead of the second file.
    """
    key = cache.digest("usps", cache.files_digest(location), resolution, _FILLED)
    raw = Raw(**cache.remember(cache_dir, key, partial(_decode, location, resolution)))
    if not test_fraction:
        return raw
    inputs = np.concatenate([raw.train_inputs, raw.test_inputs])
    return split(inputs, np.concatenate([raw.train_labels, raw.test_labels]), test_fraction, raw.class_names)


def _decode(location: Path, resolution: int) -> cache.Arrays:
    train, test = (_read_file(location / name, resolution) for name in FILES)
    return to_arrays(Raw(*train, *test, np.array([str(digit) for digit in range(10)])))


def _read_file(path: Path, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            rows = np.array(file.read().split(), np.float32).reshape(-1, 1 + _SIDE**2)
        if not len(rows) or not np.abs(rows[:, 1:]).max() <= 1:
            raise ValueError("grey values must lie in -1..1")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        rule = f"lines of a digit and {_SIDE**2} grey values"
        raise UserError(f"{path} must hold {rule} but does not ({one_line(error)}): fetch it again") from None
    images = (rows[:, 1:].reshape(-1, _SIDE, _SIDE) + 1) / 2
    return np.stack([_resized(image, resolution) for image in images])[..., None], rows[:, 0].astype(np.int32)


def _resized(image: np.ndarray, resolution: int) -> np.ndarray:
    """Return a (16, 16) image as (resolution, resolution), with its frame."""
    side = max(round(_FILLED * resolution), min(_SIDE, resolution))
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    before = (resolution - side) // 2
    return np.pad(np.clip(np.asarray(resized), 0, 1), (before, resolution - side - before))  # clip: rounding
