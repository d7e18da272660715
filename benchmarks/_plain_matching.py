"""DC, DSA, DM and an evaluation's training as their papers' scripts go: the yardstick of matching_step.py.

Driven from Python: a loop over classes with a compiled function for each piece of the work, one network after another,
one call a training step, losses fetched as the scripts print them. Networks, convolution, augmentations and distance
are the library's, so that only the structure of the computation differs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from methods.gradient_matching import ours as distance
from rcig import augment, losses
from rcig.types import Batch, Model, Synthetic

_unit = partial(jax.jit, static_argnums=0)  # the program's description is static, all else is data
_images = optax.sgd(0.1, 0.5)
_network = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.01, 0.9))


@dataclass(frozen=True)
class Plain:
    model: Model
    augmentation: str
    num_classes: int = 10

    @_unit
    def initialise(self, key):
        return self.model.init(key)

    @_unit
    def mean_features(self, variables, images):
        return jnp.mean(self.model.apply(variables, images, False, None)[0].features, 0)

    @_unit
    def gradient(self, variables, images, labels):
        return self._gradient(variables, images, labels)

    @_unit
    def change(self, key, images, labels):
        """Augment images of one class: the same draw for real and synthetic ones."""
        return augment.siamese(self.augmentation, self.num_classes)(key, images, labels)

    @_unit
    def match_means(self, key, variables, images, labels, target):
        def loss(images):
            return jnp.sum(jnp.square(self.mean_features(variables, self.change(key, images, labels)) - target))

        return jax.value_and_grad(loss)(images)

    @_unit
    def match_gradients(self, key, variables, images, labels, target):
        def loss(images):
            return distance(self._gradient(variables, self.change(key, images, labels), labels), target)

        return jax.value_and_grad(loss)(images)

    @_unit
    def move(self, images, gradient, opt_state):
        updates, opt_state = _images.update(gradient, opt_state, images)
        return optax.apply_updates(images, updates), opt_state

    def distribution_matching(self, key, synthetic: Synthetic, batch: Batch):
        """One DM iteration at a fresh network; returns the loss and the images' gradient."""
        key_network, key_augment = jax.random.split(key)
        variables, results = self.initialise(key_network), []
        for labels, real, images in self._classes(synthetic, batch):
            target = self.mean_features(variables, self.change(key_augment, real, labels[0]))
            results.append(self.match_means(key_augment, variables, images, labels[1], target))
        return self._sum(results)

    def gradient_matching(self, key, variables, synthetic: Synthetic, batch: Batch):
        """One match of DC or DSA at a network; returns the loss and the images' gradient."""
        results = []
        for labels, real, images in self._classes(synthetic, batch):
            target = self.gradient(variables, self.change(key, real, labels[0]), labels[0])
            results.append(self.match_gradients(key, variables, images, labels[1], target))
        return self._sum(results)

    @_unit
    def train_step(self, key, variables, opt_state, images, labels):
        images = augment.find(self.augmentation)(key, images)

        def loss(params):
            outputs, _ = self.model.apply({"params": params}, images, True, None)
            return losses.cross_entropy(outputs.logits, labels)

        value, gradient = jax.value_and_grad(loss)(variables["params"])
        updates, opt_state = _network.update(gradient, opt_state, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates)}, opt_state, value

    def epochs(self, seed: int, synthetic: Synthetic, num_epochs: int, batch_size: int = 256):
        """Train one fresh network for some passes over the set; rows are shuffled on the host."""
        rng, key = np.random.default_rng(seed), jax.random.key(seed)
        images, labels = np.asarray(synthetic.inputs), np.argmax(synthetic.labels, 1)
        variables = self.initialise(key)
        opt_state = _network.init(variables["params"])
        for epoch in range(num_epochs):
            order = rng.permutation(len(images))
            for start in range(0, len(images), batch_size):
                rows = order[start : start + batch_size]
                key_step = jax.random.fold_in(key, epoch * len(images) + start)
                variables, opt_state, value = self.train_step(
                    key_step, variables, opt_state, images[rows], labels[rows]
                )
                float(value)
        return variables

    def _classes(self, synthetic: Synthetic, batch: Batch) -> Iterator[tuple]:
        """Yield each class's labels, real and synthetic, and its real and synthetic images."""
        ipc = len(synthetic.inputs) // self.num_classes
        for c in range(self.num_classes):
            real = batch.inputs[c :: self.num_classes]  # class-minor
            labels = (jnp.full(len(real), c, jnp.int32), jnp.full(ipc, c, jnp.int32))
            yield labels, real, synthetic.inputs[c * ipc : (c + 1) * ipc]

    def _gradient(self, variables, images, labels):
        def loss(params):
            logits = self.model.apply({**variables, "params": params}, images, False, None)[0].logits
            return losses.cross_entropy(logits, labels)

        return jax.grad(loss)(variables["params"])

    def _sum(self, results):
        values, gradients = zip(*results, strict=True)
        return sum(float(value) for value in values), jnp.concatenate(gradients)

    def start(self, synthetic: Synthetic):
        """Return the optimiser's state of the images."""
        return _images.init(synthetic.inputs)
