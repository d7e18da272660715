"""Pools of trained networks, from which adaptation and attack start (Wang et al. 2018, §4.3 and §4.4).

    python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/usps_pool
    pool = load("runs/usps_pool", model)         # variables, every leaf (P, ...)

Networks are trained on the config's training split, a group together; after every group, of many after some, all are
saved, and a stopped command goes on with the next. A pool to learn on and a pool to measure on differ by
``config.seed``.
"""

import json
import warnings
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from rcig import experiment, sharding, training
from rcig.checkpoint import Checkpoints, zeros
from rcig.errors import UserError
from rcig.files import write
from rcig.initialize import everything
from rcig.metrics import Progress
from rcig.types import Model, Variables

_SAVES = 20  # at most: each writes the whole pool


def load(workdir: str | Path, model: Model) -> Variables:
    """Return a finished pool, every leaf (P, ...). Raises UserError where it is none, or of other networks."""
    workdir = Path(workdir)
    try:
        size = len(json.loads((workdir / "pool.json").read_text())["accuracies"])
    except (OSError, ValueError, LookupError) as error:
        raise UserError(
            f"{workdir} must be a finished pool of networks ({error}); make it with python -m rcig.pretrain"
        ) from error
    try:
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            return checkpoints.restore(_empty(model, size))[1]
    except UserError as error:
        reason = str(error).split(";")[0]
        raise UserError(f"pool {workdir}: {reason}; set --config.model as its config.json has it") from error


def pretrain(config: ConfigDict, workdir: Path) -> list[float]:
    """Train the pool that ``config.pretrain`` describes, or what is missing of it. Returns the test accuracies."""
    options = config.pretrain
    if options.num_networks < 1 or options.group < 1 or options.num_networks % options.group:
        raise UserError(
            f"pretrain.num_networks {options.num_networks} must be a positive multiple of pretrain.group "
            f"{options.group}; choose another group"
        )
    with experiment.claimed(config, workdir):
        dataset = experiment.load_dataset(config)
        experiment.check_data(dataset, workdir)
        model = experiment.make_model(config.model, dataset)
        recipe = _recipe(options)
        train_set = everything(dataset)
        pool, done = _empty(model, options.num_networks), 0
        every = options.group * -(-options.num_networks // (_SAVES * options.group))
        with Checkpoints(workdir / "checkpoints") as checkpoints, Progress(options.num_networks) as progress:
            if checkpoints.latest() is not None:
                done, pool = checkpoints.restore(pool)
            while done < options.num_networks:
                key = jax.random.fold_in(jax.random.key(config.seed), done)
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "the training of .* diverged")  # whose remedy is an evaluation's
                    group = sharding.fetch(training.train_networks(key, model, train_set, recipe, options.group))
                if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(group)):
                    raise UserError(
                        f"networks {done} to {done + options.group - 1} diverged with pretrain.learning_rate "
                        f"{options.learning_rate}; lower it, in another --workdir if this one holds networks"
                    )
                for leaf, new in zip(jax.tree.leaves(pool), jax.tree.leaves(group), strict=True):
                    leaf[done : done + options.group] = new
                done += options.group
                if done % every == 0 or done == options.num_networks:
                    checkpoints.save(done, pool)
                progress.update(done, {})
        accuracies = [float(a) for a in training.test_accuracy(model, pool, dataset.test)]
        write(workdir / "pool.json", (json.dumps({"accuracies": accuracies}, indent=1) + "\n").encode())
    return accuracies


def _recipe(options: ConfigDict) -> training.Recipe:
    return training.Recipe(
        options.num_steps,
        options.batch_size,
        "cross_entropy",
        "adam_halving",
        options.learning_rate,
        drop_step=options.halve_every,
        augmentation=options.augmentation,
    )


def _empty(model: Model, size: int) -> Variables:
    return zeros(jax.eval_shape(jax.vmap(model.init), jax.random.split(jax.random.key(0), size)))
