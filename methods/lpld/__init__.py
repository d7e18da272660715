"""LPLD: images recovered from a teacher's batch-norm statistics, class by class, and pruned soft labels for them.

Xiao & He, "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?", NeurIPS 2024; with its
forerunners SRe2L (Yin et al., NeurIPS 2023) and CDA (Yin & Shen, TMLR 2024). The stages and where they are:

    squeeze    train a teacher, measure what its batch norms see of every class      methods/lpld/squeeze.py
    recover    optimise images against it: the stage that the loop runs              methods/lpld/recover.py
    relabel    the teacher's logits for many views of the images, or a share of it   rcig/relabel.py
    validate   students learn from these alone                                       rcig/evaluation/soft_labels.py

A stage leaves its result in the workdir (teacher/, class_statistics/, checkpoints/, soft_labels/) and finds it there.

    supervision        a group is                   its statistics should be         published as
    class_statistics   all images of a class        those of the class               LPLD, "+CS"
    class_batches      all images of a class        the teacher's running ones       "+C"
    global             the i-th of every class      the teacher's running ones       SRe2L; with a curriculum CDA

Deviations: class statistics are exact by default, where the released code keeps a running average (``ema``); images
start at displayable values, where the released code clips after the first step only; they are kept at the nearest of
256 levels, not truncated to one and compressed as JPEG; SRe2L's batches hold every class, where the released ones hold
100. Teachers learn by the recipes of rcig/training.py, without the published warm-up, cosine and random
resized crops. Total variation and the l2 norm of the images are left out: their weights are 0 in every published
script.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from methods.lpld import pixels, squeeze
from methods.lpld.recover import Recover, Targets
from methods.lpld.taught import Taught, classes_of
from methods.lpld.views import Views
from rcig import sharding
from rcig.errors import must_be_positive, unknown
from rcig.types import Batch, Dataset, Key, Method, Synthetic

SUPERVISIONS = ("class_statistics", "class_batches", "global")


@dataclass(frozen=True)
class LPLD(Taught):
    """The stages' hyperparameters: Tiny-ImageNet's, but a small teacher, no flips, and labels as of ImageNet-1K.

    Those of squeeze and relabel are `Taught`'s; here are recover's, whose views have min_scale, too.
    """

    class_statistics: str = "exact"  # or ema
    supervision: str = "class_statistics"  # class_batches, global
    decay_steps: int = 4000  # the rate falls to 0 by a half cosine in so many steps, and the curriculum ends
    learning_rate: float = 0.1
    statistics_weight: float = 0.05  # r_bn
    stem_weight: float = 10.0  # of the first batch norm, beside 1 of every other
    curriculum: str = "none"  # CDA's: cosine, linear, step
    milestone: float = 1.0  # the share of the steps that it lasts
    recover_flip: bool = False  # half of the views are mirrored; of those that are labelled, view_flip
    jitter: int = 4  # pixels: images are rolled by -jitter_back to jitter
    jitter_back: int = 4
    shared_augmentation: bool = True  # one view for all images of a group, as published
    images_at_once: int = 200  # on each device, to bound memory; whole groups, one at least

    def __post_init__(self):
        self._views()
        super().__post_init__()
        positive = ("learning_rate", "decay_steps", "statistics_weight", "stem_weight", "images_at_once")
        must_be_positive("method", self, *positive)
        if self.class_statistics not in squeeze.KINDS:
            raise unknown("method.class_statistics", self.class_statistics, squeeze.KINDS)
        if self.supervision not in SUPERVISIONS:
            raise unknown("method.supervision", self.supervision, SUPERVISIONS)

    def prepare(self, key: Key, dataset: Dataset, start: Synthetic, folder: Path) -> tuple[Method, Dataset, Synthetic]:
        """Squeeze. Returns the recover stage, a data set that says nothing (a row a device), and the start."""
        key_teacher, key_statistics = jax.random.split(key)
        seen = pixels.of(dataset)
        classes, ipc = classes_of(start)
        self.labelling().records(len(start.labels))  # what is wrong is said before the teacher is trained
        teacher = squeeze.teacher(key_teacher, self, dataset, folder)
        targets = self._targets(key_statistics, dataset, teacher, folder)
        if self.supervision == "class_statistics":
            targets = jax.tree.map(lambda a: a[classes], targets)
        stage = Recover(
            self.model,
            teacher.variables,
            targets,
            seen,
            self._views(),
            ipc,
            self.supervision != "global",
            self.decay_steps,
            self.learning_rate,
            self.statistics_weight,
            self.stem_weight,
            self.images_at_once,
        )
        size = sharding.layout().mesh.size
        stand_ins = Batch(np.zeros((size, 1), np.float32), np.arange(size, dtype=np.int32))
        labels = jax.nn.one_hot(np.repeat(classes, ipc), dataset.num_classes, dtype=jnp.float32)
        return stage, replace(dataset, train=stand_ins), Synthetic(seen.rounded(jnp.asarray(start.inputs)), labels)

    def _targets(self, key: Key, dataset: Dataset, teacher: squeeze.Teacher, folder: Path) -> Targets:
        if self.supervision != "class_statistics":
            return squeeze.global_moments(teacher.variables, squeeze.layers_of(self.model, dataset))
        return squeeze.class_moments(key, self, self.class_statistics, teacher.variables, dataset, folder)

    def _views(self) -> Views:
        shared = self.shared_augmentation
        return Views(
            self.min_scale, self.curriculum, self.milestone, self.recover_flip, self.jitter, self.jitter_back, shared
        )


make = LPLD
