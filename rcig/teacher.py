"""The teacher that a run keeps: a trained network whose statistics and labels the large-scale methods live on."""

from pathlib import Path
from typing import NamedTuple

import jax

from rcig.checkpoint import Checkpoints, zeros
from rcig.errors import UserError
from rcig.types import Model, Variables

FOLDER = "teacher"


class Teacher(NamedTuple):
    """A trained network, on the host."""

    variables: Variables
    test_accuracy: float


def load(workdir: Path, model: Model) -> Teacher:
    """Return the teacher that a workdir keeps. Raises UserError where it keeps none, or one of another network."""
    folder = Path(workdir) / FOLDER
    if not folder.is_dir():
        raise UserError(f"{workdir} must be the workdir of a run with a teacher, and holds none; run method lpld there")
    with Checkpoints(folder, keep=1) as checkpoints:
        return Teacher(**checkpoints.restore(empty(model))[1])


def empty(model: Model) -> dict:
    """Return what a teacher looks like on disk, with zeros for numbers."""
    return {"variables": zeros(jax.eval_shape(model.init, jax.random.key(0))), "test_accuracy": 0.0}
