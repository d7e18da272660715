"""Between pixels and model inputs, both ways: kinds ``none``, ``standard``, ``zca``, ``dc_standard`` and ``mtt_zca``.

    standard(x) = (x - mean_c) / std_c    channel by channel (last axis), x in [0, 1] where x is a picture
    zca(x) = whitening of standard(x)     see ``whitening``; RCIG's
    mtt_zca(x) = whitening of x           0.1 is added to every variance; MTT's, TESLA's, DATM's

Constants of the known sets are those of the RCIG, DC and DD references; of other sets, USPS too (DD's are of another
copy of it), they are measured on the train split.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rcig.data import cache, whitening
from rcig.data.raw import Raw
from rcig.data.text import Embedding
from rcig.data.whitening import Whitening
from rcig.errors import UserError, unknown

Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of each channel

STANDARD: dict[str, Constants] = {
    "mnist": ((0.1307,), (0.3081,)),
    "mnist_rgb": ((0.1307,) * 3, (0.3081,) * 3),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn_cropped": ((0.43791, 0.44398, 0.47293), (0.19803, 0.20102, 0.19704)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny_imagenet": ((0.4759, 0.4481, 0.3926), (0.2763, 0.2687, 0.2813)),
    "imagenette": ((0.4626, 0.4588, 0.4251), (0.2790, 0.2745, 0.2973)),
    "imagewoof": ((0.4917, 0.4613, 0.3931), (0.2513, 0.2442, 0.2530)),
    "imagenet_resized/64x64": ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)),
    "imagenet2012": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caltech_birds2011": ((0.4810, 0.4964, 0.4245), (0.2129, 0.2084, 0.2468)),
}
DC_STANDARD: dict[str, Constants] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # DC's own: averages of per-image deviations
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny_imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_NOT_WHITENED = {"mnist", "mnist_rgb", "fashion_mnist", "svhn_cropped", "imagenet2012"}
WHITENED = frozenset(STANDARD) - _NOT_WHITENED  # by default, as RCIG does

_CHUNK_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """A fitted preprocessing of (N, ..., C); ``mean`` and ``std`` are (C,) float64, or (1,) for all channels."""

    kind: str
    mean: np.ndarray
    std: np.ndarray
    is_image: bool
    whitening: Whitening | None = None

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Return model inputs, float32, of rows (N, ...): uint8, or float32 as the source has them."""
        encoded = np.empty(pixels.shape, np.float32)
        rows = max(1, _CHUNK_BYTES // max(1, encoded[:1].nbytes))
        for start in range(0, len(pixels), rows):
            chunk = self.standardise(pixels[start : start + rows])
            encoded[start : start + rows] = self.whitening.encode(chunk) if self.whitening else chunk
        return encoded

    def decode(self, inputs: np.ndarray) -> np.ndarray:
        """Return model inputs (M, ...) as pixels clipped to [0, 1], or as the source's own numbers, float32."""
        inputs = np.asarray(inputs, np.float32)
        standard = self.whitening.decode(inputs) if self.whitening else inputs
        values = standard * self.std.astype(np.float32) + self.mean.astype(np.float32)
        return np.clip(values, 0, 1) if self.is_image else values

    def standardise(self, pixels: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        """Return (x - mean) / std, where x is pixels / 255 if they are uint8."""
        scale = 1 / 255 if pixels.dtype == np.uint8 else 1.0
        factor, shift = scale / self.std, self.mean / self.std
        with np.errstate(over="ignore"):  # what is infinite is refused by `data.load`
            return pixels.astype(dtype) * factor.astype(dtype) - shift.astype(dtype)

    def describe(self) -> dict[str, Any]:
        """Return what is needed to redo this, JSON-able."""
        told: dict[str, Any] = {"kind": self.kind, "image": self.is_image}
        told |= {"mean": self.mean.tolist(), "std": self.std.tolist()}
        if self.whitening:
            zca = {
                "regulariser": whitening.REGULARISER,
                "digest": self.whitening.digest,
                "factor": self.whitening.factor,
            }
            told["zca"] = zca
        return told


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Rows that are encoded when they are taken: a float32 array of the encoded set, without its memory."""

    source: np.ndarray
    encode: Callable[[np.ndarray], Any]
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the encoded set."""
        return self.source.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded set."""
        return self.source.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return rows by an integer, a slice, a mask or an array of integers of any shape."""
        taken = self.source[rows]
        example = self.shape[1:]
        return self.encode(taken.reshape(-1, *example)).reshape(taken.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def fit(kind: str, name: str, raw: Raw, cache_dir: Path) -> Preprocessing | Embedding:
    """Fit preprocessing ``kind`` to the train split of data set ``name``; ``default`` is what RCIG uses for the set.

    Texts have none but the vectors of their words. Raises UserError for an unknown kind, ZCA of what is no picture, or
    a set without DC constants.
    """
    if raw.embedding is not None:
        if kind not in ("default", "none"):
            raise UserError(f"preprocessing {kind!r} is for images and numbers, {name!r} is text: use 'default'")
        return raw.embedding
    default = "zca" if name in WHITENED else "standard"
    resolved = default if kind == "default" else kind
    if resolved not in KINDS:
        raise unknown("preprocessing", kind, ["default", *KINDS])
    return KINDS[resolved](name, raw, cache_dir)


def same_space(space: str, kind: str, name: str) -> bool:
    """Return whether a set in pixel space ``space`` fits data set ``name`` preprocessed as ``kind``, if known."""
    if {space, kind} == {"standard", "dc_standard"}:
        return DC_STANDARD.get(name) in (None, STANDARD.get(name))
    return space in ("unknown", kind)


def channel_statistics(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std (C,), float64, over all axes but the last, pixels / 255 if uint8; std is 1 where constant."""
    scale = 1 / 255 if inputs.dtype == np.uint8 else 1.0
    rows = max(1, _CHUNK_BYTES // max(1, inputs[:1].size * 8))
    count = inputs.size // inputs.shape[-1]

    def mean_of(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        chunks = (inputs[start : start + rows].astype(np.float64) * scale for start in range(0, len(inputs), rows))
        return sum(function(chunk).reshape(-1, inputs.shape[-1]).sum(0) for chunk in chunks) / count

    mean = mean_of(lambda x: x)
    std = np.sqrt(mean_of(lambda x: (x - mean) ** 2))
    return mean, np.where(std <= 1e-7 * np.abs(mean), 1.0, std)


def _none(name: str, raw: Raw, cache_dir: Path) -> Preprocessing:
    return Preprocessing("none", np.zeros(1), np.ones(1), raw.is_image)


def _standard(name: str, raw: Raw, cache_dir: Path) -> Preprocessing:
    known = STANDARD.get(name)
    mean, std = map(np.array, known) if known else channel_statistics(raw.train_inputs)
    return Preprocessing("standard", mean, std, raw.is_image)


def _dc_standard(name: str, raw: Raw, cache_dir: Path) -> Preprocessing:
    if name not in DC_STANDARD:
        raise UserError(
            f"DC's and MTT's constants are known for {', '.join(DC_STANDARD)}, not {name!r}: use 'standard'"
        )
    mean, std = map(np.array, DC_STANDARD[name])
    return Preprocessing("dc_standard", mean, std, raw.is_image)


def _mtt_standard(name: str, raw: Raw, cache_dir: Path) -> Preprocessing:
    """Return DC's, but for CIFAR-100 too with CIFAR-10's constants, as MTT has it."""
    return replace(_dc_standard("cifar10" if name == "cifar100" else name, raw, cache_dir), kind="mtt_standard")


def _zca(name: str, raw: Raw, cache_dir: Path) -> Preprocessing:
    return _whitened("zca", _standard(name, raw, cache_dir), raw, cache_dir, relative=True)


def _mtt_zca(name: str, raw: Raw, cache_dir: Path) -> Preprocessing:
    return _whitened("mtt_zca", _none(name, raw, cache_dir), raw, cache_dir, relative=False)


def _whitened(kind: str, before: Preprocessing, raw: Raw, cache_dir: Path, relative: bool) -> Preprocessing:
    """Return a preprocessing and then whitening. Raises UserError for what is no picture."""
    if raw.train_inputs.ndim != 4 or not raw.is_image:
        raise UserError(
            f"preprocessing {kind!r} is for images (N, H, W, C), uint8 or in [0, 1], "
            f"not for {raw.train_inputs.dtype} of shape {raw.train_inputs.shape}: use 'standard' or 'none'"
        )
    parameters = (before.mean, before.std, whitening.REGULARISER, whitening.BLOCK)
    variant = [] if relative else ["absolute"]
    variant += ["images"] if whitening.block_factor(raw.train_inputs.shape[1:]) > 1 else []  # blocks counted once
    key = cache.digest(raw.train_inputs, *parameters, *variant)
    fitted = whitening.fit(raw.train_inputs, before.standardise, key, cache_dir, relative)
    return Preprocessing(kind, before.mean, before.std, True, fitted)


KINDS: dict[str, Callable[[str, Raw, Path], Preprocessing]] = {
    "none": _none,
    "standard": _standard,
    "zca": _zca,
    "dc_standard": _dc_standard,
    "mtt_zca": _mtt_zca,
    "mtt_standard": _mtt_standard,
}
