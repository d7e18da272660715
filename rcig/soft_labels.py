"""Soft labels at scale: a teacher's logits for many views of a set's images, on disk, pruned without being rewritten.

    pool = LabelPool.open("runs/lpld/soft_labels")       # made by rcig.relabel
    small = pool.prune(0.975)                             # an index of one record in forty; the files stay as they are
    view, logits = small.read(np.array([3, 1, 4]))        # records 3, 1, 4 of it: leaves (3, B, ...), (3, B, K) float16
    small.nbytes, pool.image_bytes                        # what they cost, and the images as 8-bit pixels

After Xiao and He 2024 (LPLD). A record is the label of a batch: logits as float16, and the view (`rcig.views`) in
integers, 8 to 11 bytes an image (cutout: 24) where the published files take 25. Nothing is compressed: float16 logits
pack to 0.85 of their size at best, and could not be read in place.
"""

import dataclasses
import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from rcig.errors import UserError, unknown
from rcig.files import digest, json_digest
from rcig.label_files import Layout, Records, read_meta, record_bytes
from rcig.types import PyTree
from rcig.views import MIXES, Labelling, View, kept

FORMAT = "rcig-soft-labels-1"
GRANULARITIES = ("batch", "epoch")
# what tells easy records from hard ones: name -> score of logits (n, B, K), views and side, higher is easier
_SCORES = {
    "confidence": lambda logits, view, side: _top(logits)[..., 0].mean(1),
    "difference": lambda logits, view, side: (_top(logits)[..., 0] - _top(logits)[..., 1]).mean(1),
    "cut_ratio": lambda logits, view, side: -np.prod(view.mix_box[..., 2:].astype(float), axis=-1) / side**2,
}
ORDERS = ("random", "first", *(f"{kind}_{score}" for score in _SCORES for kind in ("easy", "hard")))


def layout(spec: Labelling, image_shape: Sequence[int], num_classes: int) -> Layout:
    """Return the fields of a record on disk, for images (N, S, S, C)."""
    rows, (_, side, _, channels) = spec.batch_size, image_shape
    pixel, place = ("|u1" if size <= 256 else "<u2" for size in (side + 1, rows))
    fields = {"logits": ("<f2", (rows, num_classes)), "image": ("<u4", (rows,)), "box": (pixel, (rows, 4))}
    fields |= {"flip": ("|u1", (-(-rows // 8),))}
    mixed = {
        "none": {},
        "cutmix": {"partner": (place, (rows,)), "mix_box": (pixel, (4,))},
        "mixup": {"partner": (place, (rows,)), "strength": ("<f4", ())},
        "cutout": {"mix_box": (pixel, (rows, 4)), "fill": ("<f4", (rows, channels))},
    }
    return fields | mixed[spec.mix]


def about(
    inputs: np.ndarray, variables: PyTree, spec: Labelling, key: jax.Array, num_classes: int, class_names: Sequence[str]
) -> dict[str, Any]:
    """Return what a pool says of itself: whose images, by whom labelled, and how."""
    leaves = {jax.tree_util.keystr(path): digest(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}
    return {
        "format": FORMAT,
        "images": image_digest(inputs),
        "image_shape": list(inputs.shape),
        "teacher": json_digest(leaves),
        "num_classes": num_classes,
        "class_names": list(class_names),
        "labelling": dataclasses.asdict(spec),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "numpy")},
    }


def image_digest(inputs: np.ndarray) -> str:
    """Return the digest by which a pool knows its images: that of ``inputs`` on a set's card."""
    return digest(np.asarray(inputs, np.float32))


def published_bytes(num_images: int, epochs: int, num_classes: int, batch_size: int = 1024) -> int:
    """Return the size of the same labels in the published files of SRe2L and FKD.

    2 K + 16 (crop) + 1 (flip) + 8 (partner) bytes an image and epoch, and about 3.1 KiB a file of ``batch_size``: at
    200,000 images, 300 epochs and 1000 classes 2025 B and 113.33 GiB, the published "113 GB".
    """
    views = num_images * epochs
    return views * (2 * num_classes + 25) + round(views / batch_size * 3.1 * 1024)


@dataclass(frozen=True, eq=False)
class LabelPool:
    """Records of soft labels, or some of them: ``index`` says which of the folder's, in order."""

    records: Records
    meta: dict[str, Any]
    index: np.ndarray  # (R,) numbers of records in the folder

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a pool for reading, all its records. Raises UserError for a folder that is none, or is cut short."""
        meta = read_meta(folder)
        try:
            if meta["format"] != FORMAT or meta["labelling"]["mix"] not in MIXES:
                raise ValueError(f"format {meta['format']!r}, mix {meta['labelling']['mix']!r}")
            fields = layout(Labelling(**meta["labelling"]), meta["image_shape"], meta["num_classes"])
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{folder} is no pool that this code knows ({error}); update it or label again") from error
        return cls(Records(folder, fields, meta["count"]), meta, np.arange(meta["count"]))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def spec(self) -> Labelling:
        """How the pool was made."""
        return Labelling(**self.meta["labelling"])

    @property
    def batches(self) -> int:
        """Records of an epoch."""
        return self.spec.batches(self.meta["image_shape"][0])

    @property
    def total(self) -> int:
        """The records that the pool would hold unpruned."""
        return self.spec.epochs * self.batches

    @property
    def record_bytes(self) -> int:
        """Bytes of one record on disk, its checksum included."""
        return record_bytes(layout(self.spec, self.meta["image_shape"], self.meta["num_classes"]))

    @property
    def nbytes(self) -> int:
        """Bytes of these records on disk."""
        return len(self) * self.record_bytes

    @property
    def image_bytes(self) -> int:
        """Bytes of the images as 8-bit pixels."""
        return math.prod(self.meta["image_shape"])

    def read(self, places: np.ndarray) -> tuple[View, np.ndarray]:
        """Return records by their place in the pool, ``places`` of any shape: a view and logits, leaves (*shape, ...).

        Raises UserError that names a record whose checksum is off.
        """
        places = np.asarray(places)
        rows = self.records.read(self.index[places.reshape(-1)])
        rows["flip"] = np.unpackbits(rows["flip"], axis=1, count=self.spec.batch_size).astype(bool)
        rows["image"] = rows["image"].astype(np.int32)
        rows = {name: row.reshape(*places.shape, *row.shape[1:]) for name, row in rows.items()}
        logits = rows.pop("logits")
        return View(**rows), logits

    def first(self, count: int) -> "LabelPool":
        """Return the pool of the first ``count`` records."""
        return dataclasses.replace(self, index=self.index[:count])

    def sound(self) -> "LabelPool":
        """Return the pool without the records whose checksum is off. Cost: one pass over the files."""
        return dataclasses.replace(self, index=np.setdiff1d(self.index, self.records.broken()))

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Raise UserError unless the pool's label space is that of ``class_names``."""
        names, num_classes = self.meta["class_names"], self.meta["num_classes"]
        if num_classes != len(class_names) or (names and list(names) != list(class_names)):
            raise UserError(
                f"{self.records.folder} labels {num_classes} classes ({', '.join(map(str, names[:3]))}, ...), the data "
                f"set has {len(class_names)} ({', '.join(class_names[:3])}, ...); use the pool of this data set"
            )

    def prune(
        self, ratio: float = 0.0, num_bytes: int = 0, granularity: str = "batch", order: str = "random", seed: int = 0
    ) -> "LabelPool":
        """Return a part of the pool: an index, no data are read (but by an order that scores them) or written.

        Args:
          ratio: the share of the full pool, ``total`` records, to remove, exactly (`rcig.views.kept`); in [0, 1).
          num_bytes: instead: keep what fits.
          granularity: ``batch``, records are kept one by one; ``epoch``, whole epochs.
          order: what is kept: ``random``; ``first``, a prefix, as LPLD's code, which shows every image equally often
            (of Tiny-ImageNet's 100 epochs ``random`` at 0.975 leaves out 8 % of the images); ``easy_<score>`` or
            ``hard_<score>`` first, where the score, a mean over the record, is ``confidence`` (largest probability),
            ``difference`` (of the two largest) or ``cut_ratio`` (small cutmix boxes are easy).
          seed: of the random order.
        Raises: UserError for an unknown name, a ratio outside [0, 1), and where the pool holds too few records.
        """
        if granularity not in GRANULARITIES:
            raise unknown("granularity", granularity, GRANULARITIES)
        if order not in ORDERS:
            raise unknown("order of pruning", order, ORDERS)
        size = self.batches if granularity == "epoch" else 1  # records of a unit
        units = self._units(size)
        keep = kept(self.total // size, ratio)
        if num_bytes:
            keep = min(len(units), num_bytes // (self.record_bytes * size))
        if not 1 <= keep <= len(units):
            raise UserError(
                f"pruning to {keep} of {self.total // size} {granularity} units wants 1 to {len(units)}, which "
                f"{self.records.folder} holds; choose another ratio, or label again with a smaller pruning_ratio"
            )
        chosen = units[np.sort(self._ranked(units, order, seed)[:keep])]
        return dataclasses.replace(self, index=self.index[chosen.reshape(-1)])

    def _units(self, size: int) -> np.ndarray:
        """Return (U, size) places: every record by itself, or the epochs of which all records are there."""
        if size == 1:
            return np.arange(len(self))[:, None]
        epochs, counts = np.unique(self.index // size, return_counts=True)
        return np.flatnonzero(np.isin(self.index // size, epochs[counts == size])).reshape(-1, size)

    def _ranked(self, units: np.ndarray, order: str, seed: int) -> np.ndarray:
        """Return the numbers of the units, those to keep first."""
        if order == "random":
            return np.random.default_rng(seed).permutation(len(units))
        if order == "first":
            return np.arange(len(units))
        kind, score = order.split("_", 1)
        if score == "cut_ratio" and self.spec.mix != "cutmix":
            raise UserError(f"order {order} wants labels with cutmix, these have {self.spec.mix}; choose another order")
        sign, side = -1 if kind == "easy" else 1, self.meta["image_shape"][1]
        scores = []
        for unit in units:
            view, logits = self.read(unit)
            scores.append(sign * float(np.mean(_SCORES[score](logits, view, side))))
        return np.argsort(scores, kind="stable")


def _top(logits: np.ndarray) -> np.ndarray:
    """Return the two largest probabilities (..., 2), largest first."""
    logits = logits.astype(np.float32)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.sort(powers / powers.sum(axis=-1, keepdims=True), axis=-1)[..., :-3:-1]
