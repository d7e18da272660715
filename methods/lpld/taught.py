"""What methods with a teacher have in common: how it is trained, before, and its labels for many views, after."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from methods.lpld import squeeze
from rcig import sharding
from rcig.errors import UserError
from rcig.relabel import relabel
from rcig.teacher import load
from rcig.types import Dataset, Key, Synthetic
from rcig.views import Labelling


@dataclass(frozen=True)
class Taught(squeeze.Options):
    """The hyperparameters of a teacher and of its labels."""

    label_epochs: int = 300
    label_batch_size: int = 64
    mix: str = "cutmix"  # none, mixup, cutout
    min_scale: float = 0.08  # the smallest crop that is labelled, as a share of the image
    view_flip: bool = False  # half of the labelled views are mirrored
    pruning_ratio: float = 0.0  # the share of labels that are never made

    def __post_init__(self):
        super().__post_init__()
        self.labelling()

    def labelling(self) -> Labelling:
        """Return how the images are labelled. Raises UserError for what cannot be."""
        size, ratio = self.label_batch_size, self.pruning_ratio
        return Labelling(self.label_epochs, size, self.mix, self.min_scale, self.view_flip, ratio)

    def complete(self, key: Key, synthetic: Synthetic, dataset: Dataset, folder: Path) -> None:
        """Relabel: keep the logits of the teacher that is in ``folder`` in ``folder/soft_labels``."""
        variables = load(folder, self.model).variables
        if sharding.is_writer():  # a pool has one writer
            images, names = np.asarray(synthetic.inputs, np.float32), dataset.class_names
            relabel(key, folder / "soft_labels", images, self.model, variables, self.labelling(), names)
        sharding.wait_for_all("relabelled")


def classes_of(start: Synthetic) -> tuple[np.ndarray, int]:
    """Return the classes (K',) of a class-major set, in order, and how many rows each has."""
    rows = np.argmax(np.asarray(start.labels), 1)
    num_classes = len(np.unique(rows))
    ipc = len(rows) // num_classes
    classes = rows[::ipc][:num_classes]
    if not np.array_equal(np.repeat(classes, ipc), rows):
        raise UserError("this method wants as many starting rows of every class; set --config.labels.name=one_hot")
    return classes, ipc
