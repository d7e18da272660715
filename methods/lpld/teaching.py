"""Training a network on the real data, as a method: the loop streams, splits, saves and resumes it like any other.

    variables = teach(key, model, dataset, recipe, folder)

Deviation from the evaluations' training of the same recipe: batches are drawn, not dealt out in passes.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from rcig import augment, loop, sharding, training
from rcig.data import sampling
from rcig.types import Batch, Dataset, Key, Metrics, Model, Synthetic, Variables


@dataclass(frozen=True)
class Teaching:
    """One network in training; what it makes is not a set but the network's variables."""

    model: Model
    recipe: training.Recipe
    num_classes: int

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> training.State:
        """Return a fresh network."""
        variables = self.model.init(key)
        opt_state = self._optimizer().init(variables["params"])
        return training.State(variables, opt_state, jnp.zeros(0, jnp.int32), jnp.float32(0))

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return a uniform batch of rows, all of a set that has no more."""
        return sampling.iid(key, len(labels), min(self.recipe.batch_size, len(labels)))

    def step(self, key: Key, state: training.State, batch: Batch) -> tuple[training.State, Metrics]:
        """Take one training step."""
        key_augment, key_apply = jax.random.split(key)
        inputs = augment.find(self.recipe.augmentation)(key_augment, batch.inputs)
        targets = jax.nn.one_hot(batch.labels, self.num_classes, dtype=inputs.dtype)
        loss = training.LOSSES[self.recipe.loss][0]
        state = training.learn(self.model, self._optimizer(), loss, state, inputs, targets, key_apply)
        return state, {"loss": state.loss}

    def synthetic(self, state: training.State) -> Variables:
        """Return the network as it is."""
        return state.variables

    def _optimizer(self):
        return training.OPTIMISERS[self.recipe.optimiser](self.recipe)


def teach(key: Key, model: Model, dataset: Dataset, recipe: training.Recipe, folder: Path) -> Variables:
    """Train a network on the training split, on all devices, going on from what ``folder`` holds of it.

    Returns: its variables, on the host. Raises UserError for a batch that does not divide over the devices, and a NaN.
    """
    schedule = loop.Schedule(
        recipe.num_steps,
        steps_per_dispatch=10,
        checkpoint_every=max(recipe.num_steps // 10, 1),
        seed=int(jax.random.bits(key, (), "uint32")),
    )
    stage, nothing = Teaching(model, recipe, dataset.num_classes), Synthetic((), ())
    ignore = lambda step, variables: {}
    return loop.run(stage, dataset, nothing, schedule, folder, sharding.layout(), evaluate=ignore, publish=ignore)
