"""Students of a pool of soft labels: what a set and its labels are worth together (Xiao and He 2024, LPLD).

    python eval.py --distilled=runs/lpld_digits --protocol=soft_labels --config.eval.pruning_ratio=0.975

Fresh networks minimise KL(softmax(teacher / T) || softmax(student / T)) on one record of the pool a step: a batch of
views with its teacher's logits, `rcig.soft_labels`. The pool is the one that lies beside the set. A set that it does
not label, such as random real images, is labelled first, by the same teacher under the same budget.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcig.errors import UserError, must_be_positive, unknown
from rcig.evaluation._students import train_students
from rcig.evaluation.standard import Result, check_fits
from rcig.soft_labels import GRANULARITIES, ORDERS, LabelPool, image_digest
from rcig.training import test_accuracy
from rcig.types import Dataset, Key, Model, Synthetic
from rcig.views import kept

OPTIMISERS = ("adamw", "sgd")
DRAWS = ("", "in_order", "with_replacement")


@dataclass(frozen=True)
class SoftLabels:
    """The options ``eval.*``. The defaults are LPLD's for ImageNet-1K, but epochs as labelled and no groups."""

    label_pool: str = ""  # folder of the pool; empty: the one beside the set
    pruning_ratio: float = 0.0  # the share of the full pool to leave out; 0: nothing of what the pool holds
    granularity: str = "batch"  # batch, epoch
    order: str = "first"  # first, random, {easy,hard}_{confidence,difference,cut_ratio}; see LabelPool.prune
    draw: str = ""  # in_order, with_replacement; empty: in order from a whole pool, with replacement from a pruned one
    num_networks: int = 3
    num_epochs: int = 0  # pseudo-epochs of as many records as the set has batches; 0: as many as it was labelled
    num_steps: int = 0  # instead of epochs
    optimiser: str = "adamw"  # adamw, sgd (momentum 0.9)
    learning_rate: float = 1e-3  # falls to 0 by a cosine, constant within a pseudo-epoch
    warmup_epochs: int = 0  # linear from a hundredth
    cosine_stretch: float = 1.0  # 2: the cosine ends at half the rate, as RDED's
    weight_decay: float = 0.01  # of kernels alone: parameters of more than one dimension
    temperature: float = 20.0
    teacher_temperature: float = 0.0  # 0: the same; LPLD's label smoothing 0.2 for ImageNet-21K acts as 25
    loss_scale: float = 1.0  # 0: the temperature's square, as where the optimiser is SGD
    bn_group: int = 0  # batch statistics over groups of so many rows; 0: over the batch
    flip: bool = False  # of the other protocols; views have their own
    test_chunk: int = 256

    def __post_init__(self):
        known = {"granularity": GRANULARITIES, "order": ORDERS, "draw": DRAWS, "optimiser": OPTIMISERS}
        for name, names in known.items():
            if getattr(self, name) not in names:
                raise unknown(f"eval.{name}", getattr(self, name), names)
        must_be_positive("eval", self, "num_networks", "test_chunk", "learning_rate")
        must_be_positive("eval", self, "temperature", "cosine_stretch")
        for name in (
            "loss_scale",
            "num_epochs",
            "num_steps",
            "warmup_epochs",
            "weight_decay",
            "bn_group",
            "teacher_temperature",
        ):
            if getattr(self, name) < 0:
                raise UserError(f"eval.{name} must not be negative, not {getattr(self, name)}")
        kept(1, self.pruning_ratio)
        if self.flip:
            raise UserError("eval.flip must be False: soft labels bring their own views; use --protocol=standard")


PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {"num_epochs": 300, "bn_group": 32},
    "imagenet21k": {"num_epochs": 300, "bn_group": 8, "learning_rate": 2e-3, "teacher_temperature": 25.0},
    "tiny": {
        "num_epochs": 100,
        "optimiser": "sgd",
        "learning_rate": 0.2,
        "weight_decay": 1e-4,
        "warmup_epochs": 5,
        "loss_scale": 0.0,
    },
    "small": {"learning_rate": 5e-3, "num_networks": 5},
}


def evaluate(
    key: Key,
    synthetic: Synthetic,
    dataset: Dataset,
    model: Model,
    protocol: SoftLabels,
) -> Result:
    """Train fresh networks on a set's images and the soft labels of its pool, and test them after the last step.

    The set's own labels are not used. ``details`` holds what the labels cost: records, label_bytes, image_bytes.
    Raises: UserError where there is no pool, or no teacher for a set that the pool does not label.
    """
    check_fits(synthetic, dataset, protocol="soft_labels")
    key_label, key_train = jax.random.split(key)
    with _pool_of(key_label, synthetic, dataset, protocol) as pool:
        drawn = protocol if pool.batches <= len(pool) else replace(protocol, granularity="batch")
        variables = train_students(key_train, model, synthetic.inputs, pool, drawn)
    details = {"records": len(pool), "label_bytes": pool.nbytes, "image_bytes": pool.image_bytes}
    details |= {"label_to_image_bytes": pool.nbytes / pool.image_bytes, "pruning_ratio": 1 - len(pool) / pool.total}
    return Result(test_accuracy(model, variables, dataset.test, protocol.test_chunk), details=details)


@contextmanager
def _pool_of(key: Key, synthetic: Synthetic, dataset: Dataset, protocol: SoftLabels) -> Iterator[LabelPool]:
    """Yield the set's records: of the pool that is there, or, for another set, as many made alike, for the while."""
    if not protocol.label_pool:
        raise UserError(
            "protocol soft_labels wants the pool that was made with the set; run distill_dataset.py with method lpld, "
            "or set --config.eval.label_pool=FOLDER"
        )
    folder = Path(protocol.label_pool)
    pool = LabelPool.open(folder)
    pool.check_classes(dataset.class_names)
    if len(pool) < (whole := pool.spec.records(pool.meta["image_shape"][0])):
        told = f"{folder} holds {len(pool)} of {whole} records: its labelling was stopped; the same command ends it"
        warnings.warn(told, stacklevel=2)
    pruned = _pruned(pool, protocol)
    if pool.meta["images"] == image_digest(np.asarray(synthetic.inputs)):
        yield pruned
        return
    alike = len(synthetic.inputs) == pool.meta["image_shape"][0]  # a set of another size has other epochs, and ratios
    count = len(pool) if alike and protocol.order != "first" else len(pruned)  # the first are made first
    with tempfile.TemporaryDirectory() as made:
        other = _labeller(folder.parent, dataset)(key, Path(made), synthetic.inputs, pool, count)
        yield _pruned(other, protocol) if len(other) > len(pruned) else other


def _pruned(pool: LabelPool, protocol: SoftLabels) -> LabelPool:
    ratio = protocol.pruning_ratio
    return pool.prune(ratio, granularity=protocol.granularity, order=protocol.order) if ratio else pool


def _labeller(workdir: Path, dataset: Dataset) -> Callable[..., LabelPool]:
    """Return ``(key, folder, inputs, pool, count) -> LabelPool``, labels by a workdir's teacher, as ``pool``'s."""
    from rcig import artefact, config, experiment, teacher  # these stand above this file
    from rcig.relabel import relabel

    said = config.from_dict(artefact.load(workdir).card["config"])
    model = experiment.make_model(said.model, dataset)
    variables = teacher.load(workdir, model).variables

    def label(key, folder, inputs, pool, count):
        made = relabel(key, folder, inputs, model, variables, pool.spec, dataset.class_names, count)
        if made.meta["teacher"] != pool.meta["teacher"]:
            raise UserError(f"the teacher in {workdir} did not make the pool there; keep its own beside the pool")
        return made

    return label


make = SoftLabels
