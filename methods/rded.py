"""RDED: realistic and diverse images, cut out of real ones; nothing is optimised (Sun et al., CVPR 2024, its code).

Of every class: random images, of each some random square crops, brought to 1 / pieces of the side, of these the one
whose class the teacher, shown it in the middle of an empty image, doubts least (cross-entropy); the ipc * pieces^2
least doubted of all are stitched, pieces x pieces to an image: patch j + k ipc fills cell k of image j, row by row.
Then labels are made as for LPLD, with the same teacher: the loop's one step only says how the teacher sees the images.

Deviations: the published students ask the teacher while they learn, and shuffle the cells; here they learn from the
pool of labels. Images stay at 256 levels, not JPEG. The empty image is 0 in model-input space, as in the released code.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from methods.lpld import pixels, squeeze
from methods.lpld.taught import Taught, classes_of
from rcig import losses, sharding
from rcig.augment import crops
from rcig.checkpoint import kept
from rcig.chunks import map_rows
from rcig.errors import UserError, must_be_positive
from rcig.initialize import rows_of
from rcig.types import Batch, Dataset, Key, Method, Metrics, Model, Synthetic, Variables


@dataclass(frozen=True)
class RDED(Taught):
    """The hyperparameters of choosing; the teacher's and the labels' are `Taught`'s."""

    candidates: int = 300  # images of a class that are looked at
    crops_per_image: int = 5
    crop_scale: float = 0.08  # of a crop: its smallest share of the image's area
    pieces: int = 2  # a side of an image is so many patches; the paper's is 1 for 32 and 64 pixels
    batch_size: int = 0  # images that a step asks the teacher about; 0: all
    min_scale: float = 0.5  # of labelled crops; the paper's is 1 / pieces

    def __post_init__(self):
        super().__post_init__()
        must_be_positive("method", self, "candidates", "crops_per_image", "pieces")
        if not 0 < self.crop_scale <= 1:
            raise UserError(f"method.crop_scale must lie in (0, 1], not {self.crop_scale}")

    def prepare(self, key: Key, dataset: Dataset, start: Synthetic, folder: Path) -> tuple[Method, Dataset, Synthetic]:
        """Squeeze and choose. Returns a stage that looks, the chosen images as its data, and these as its start."""
        key_teacher, key_choice = jax.random.split(key)
        shown = pixels.of(dataset)
        if dataset.example_shape[0] % self.pieces:
            raise UserError(f"method.pieces {self.pieces} must divide the side of images {dataset.example_shape}")
        classes, ipc = classes_of(start)
        self.labelling().records(len(start.labels))  # what is wrong is said before the teacher is trained
        for label in classes:
            self._check_enough(dataset, int(label), ipc)
        teacher = squeeze.teacher(key_teacher, self, dataset, folder)

        def choose():
            images = [self._choose(key_choice, dataset, teacher.variables, int(c), ipc) for c in classes]
            return np.asarray(shown.rounded(jnp.asarray(np.concatenate(images))), np.float32)

        empty = np.zeros((len(classes) * ipc, *dataset.example_shape), np.float32)
        images = kept(folder / "chosen", choose, empty)
        labels = np.repeat(classes, ipc).astype(np.int32)
        targets = jax.nn.one_hot(labels, dataset.num_classes, dtype=jnp.float32)
        stage = Look(self.model, teacher.variables, self.batch_size or len(labels))
        return stage, replace(dataset, train=Batch(images, labels)), Synthetic(jnp.asarray(images), targets)

    def _choose(self, key: Key, dataset: Dataset, variables: Variables, label: int, ipc: int) -> np.ndarray:
        """Return the images (ipc, H, H, C) of a class."""
        key_rows, key_crops = jax.random.split(jax.random.fold_in(key, label))
        rows = np.asarray(jax.random.permutation(key_rows, rows_of(dataset, label)))[: self.candidates]
        images = jnp.asarray(dataset.train.inputs[rows])
        patches, doubts = _best(self, key_crops, variables, images, jnp.int32(label))
        return stitched(np.asarray(patches)[np.argsort(doubts, kind="stable")[: ipc * self.pieces**2]], self.pieces)

    def _check_enough(self, dataset: Dataset, label: int, ipc: int) -> None:
        """Raise UserError for a class that gives too few crops."""
        crops, wanted = min(len(rows_of(dataset, label)), self.candidates), ipc * self.pieces**2
        if crops < wanted:
            raise UserError(
                f"class {dataset.class_names[label]!r} gives {crops} crops, one an image, where ipc {ipc} and "
                f"method.pieces {self.pieces} want {wanted}; lower one of them, or raise method.candidates"
            )


@struct.dataclass
class State:
    """The set, which stays, and the teacher."""

    synthetic: Synthetic
    variables: Variables


@dataclass(frozen=True, eq=False)
class Look:
    """The loop's part: a step moves nothing, it says how the teacher sees the images."""

    model: Model
    variables: Variables
    batch_size: int

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the images as they are, with the teacher."""
        return State(synthetic, jax.tree.map(jnp.asarray, self.variables))

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return the first ``batch_size`` rows, from the beginning again where there are fewer."""
        return jnp.arange(self.batch_size) % len(labels)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Return the state, and the teacher's cross-entropy and accuracy."""
        logits = map_rows(lambda x: self.model.apply(state.variables, x, False, None)[0].logits, batch.inputs)
        seen = {"loss": losses.cross_entropy(logits, batch.labels), "accuracy": losses.accuracy(logits, batch.labels)}
        return state, sharding.mean(seen)

    def synthetic(self, state: State) -> Synthetic:
        """Return the images."""
        return state.synthetic


def stitched(patches: np.ndarray, pieces: int) -> np.ndarray:
    """Lay patches (n pieces^2, h, h, C) into images (n, H, H, C): patch j + k n in cell k of image j."""
    num, side, channels = len(patches) // pieces**2, patches.shape[1], patches.shape[-1]
    cells = patches.reshape(pieces, pieces, num, side, side, channels)  # row, column, image
    return cells.transpose(2, 0, 3, 1, 4, 5).reshape(num, pieces * side, pieces * side, channels)


@partial(jax.jit, static_argnums=0)
def _best(method: RDED, key, variables, images, label) -> tuple[jax.Array, jax.Array]:
    """Return each image's least doubted crop (m, h, h, C), and how much the teacher doubts it (m,)."""
    side = images.shape[1]
    small = side // method.pieces
    before = (side - small) // 2
    pad = ((0, 0), (before, side - small - before), (before, side - small - before), (0, 0))

    def doubt(patch):
        logits = method.model.apply(variables, jnp.pad(patch, pad), False, None)[0].logits
        return -jax.nn.log_softmax(logits)[:, label]

    def look(best, key):
        boxes = crops.draw_boxes(key, len(images), side, method.crop_scale, max_ratio=1.0)
        patches = crops.crop(images, boxes, small)
        doubts = map_rows(doubt, patches)
        better = doubts < best[1]
        return (jnp.where(better[:, None, None, None], patches, best[0]), jnp.where(better, doubts, best[1])), None

    none = (jnp.zeros((len(images), small, small, images.shape[-1]), images.dtype), jnp.full(len(images), jnp.inf))
    return jax.lax.scan(look, none, jax.random.split(key, method.crops_per_image))[0]


make = RDED
