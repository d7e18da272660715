"""A method that compiles at once: it pulls every synthetic example towards the mean of its class in the batch."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rcig.data import sampling
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic


@dataclass(frozen=True)
class Pull:
    model: Model
    learning_rate: float = 0.1
    batch_size: int = 64
    nan_at: int = 0  # the step whose loss is NaN; 0: none

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> PyTree:
        return {"inputs": synthetic.inputs, "labels": synthetic.labels, "step": jnp.int32(0)}

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        return sampling.iid(key, len(labels), self.batch_size)

    def step(self, key: Key, state: PyTree, batch: Batch) -> tuple[PyTree, Metrics]:
        classes = jnp.argmax(state["labels"], 1)  # (M,)
        member = (classes[:, None] == batch.labels[None, :]).astype(jnp.float32)  # (M, B)
        size = jnp.maximum(member.sum(1), 1).reshape(-1, *[1] * (batch.inputs.ndim - 1))
        mean = jnp.tensordot(member, batch.inputs, 1) / size
        pull = mean - state["inputs"]
        loss = jnp.where((state["step"] == self.nan_at) & (self.nan_at > 0), jnp.nan, jnp.mean(pull**2))
        return state | {"inputs": state["inputs"] + self.learning_rate * pull, "step": state["step"] + 1}, {
            "loss": loss
        }

    def synthetic(self, state: PyTree) -> Synthetic:
        return Synthetic(state["inputs"], state["labels"])


make = Pull
