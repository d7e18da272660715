"""A network that any text fits and that compiles at once: a linear layer of the sentence's mean vector."""

import jax
import jax.numpy as jnp

from rcig.types import Model, Outputs


def make(example_shape: tuple[int, ...], num_classes: int, scale: float = 0.1) -> Model:
    def init(key):
        kernel = scale * jax.random.normal(key, (example_shape[-1], num_classes), jnp.float32)
        return {"params": {"head": {"kernel": kernel, "bias": jnp.zeros(num_classes, jnp.float32)}}}

    def apply(variables, inputs, train, key):
        head, features = variables["params"]["head"], inputs.mean(1)
        return Outputs(features @ head["kernel"] + head["bias"][None], features), variables

    return Model(init, apply)
