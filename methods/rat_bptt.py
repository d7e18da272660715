"""RaT-BPTT: back-propagation through a random window of training (Feng, Vedantam & Kempe 2024).

One outer step, for a fresh network:
  1 N ~ U{0 .. T - M}; train N steps on the synthetic set without derivatives;
  2 train M steps more, differentiable: the inner optimiser (Adam, or SGD with momentum) goes on with its moments, each
    step on a minibatch of ``rows_per_class`` examples of every class;
  3 differentiate the cross-entropy of the network at step N + M on a real batch; clip the gradient of the images to
    twice the running mean of its norm; one Adam step.

With ``bases`` the images are mixtures of a few bases, and with inner="momentum", placement="end" and outer="sgd" it is
Deng & Russakovsky 2022, "Remember the Past".

Augmentations are drawn for each image, afresh in every inner step; with ``paired_augmentation`` (Deng & Russakovsky)
once an outer step, for all real and synthetic images together.

Deviations from the reference: N is drawn anew for every step, not every pass over the real data; real batches are
uniform draws (Deng & Russakovsky's have 64 images of every class); whitening is RCIG's, where the reference first takes
every image's mean away and gives it norm 1; inner="momentum" has no weight decay (theirs 5e-4, Deng & Russakovsky's
none); evaluation selects nothing on the test split. Boosting, which adds images to those that stay as they are, is not
there: the paper's sizes and rates for it are not known.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import struct

from methods import _addressing, _matching
from rcig import augment, losses, unroll
from rcig.chunks import mean_rows
from rcig.data import sampling
from rcig.errors import UserError, must_be_positive, unknown
from rcig.schedule import check_norm, check_targets, inner_loss
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic, Variables

PLACEMENTS = ("random", "end")
OUTER = ("adam", "sgd")


@struct.dataclass
class Psi:
    """What is learned."""

    inputs: jax.Array | _addressing.Addressed
    labels: jax.Array  # (M, K)


@struct.dataclass
class State:
    """Everything that changes."""

    psi: Psi
    opt_state: PyTree
    norm: jax.Array  # () running mean of the image gradient's norm; 0 before the first step
    step: jax.Array  # () int32
    shape: tuple[int, ...] = struct.field(pytree_node=False)  # of the set's inputs


@dataclass(frozen=True)
class RaTBPTT:
    """The method's hyperparameters; defaults are the paper's for CIFAR-10 at 10 images a class."""

    model: Model
    window: int = 60  # M
    horizon: int = 200  # T
    placement: str = "random"  # of the window; end: the last M of T steps
    inner: str = "adam"  # sgd, momentum, adam
    inner_rate: float = 1e-3
    rows_per_class: int = 0  # in an inner minibatch; 0: all
    classes_at_once: int = 0  # in an inner minibatch; 0: all
    outer: str = "adam"  # or sgd (momentum 0.5)
    learning_rate: float = 1e-3
    clip: float = 2.0  # times the running norm; 0: no clip
    learn_labels: bool = False  # kept non-negative
    batch_size: int = 5000  # real examples a step
    augmentation: str = ""  # of real and synthetic images
    paired_augmentation: bool = False  # one draw for all of them
    bases: int = 0  # memory addressing; 0: images as they are
    downsample: int = 2  # of the bases
    mode: str = "mix"  # of the unroll: full, remat, block, mix
    rows_at_once: int = 0  # of the outer pass; 0 chooses by platform
    max_skipped: int = 10  # steps in a row that may end in NaN or infinity, and count for nothing

    def __post_init__(self):
        choices = {"placement": PLACEMENTS, "inner": unroll.DIRECTIONS, "outer": OUTER, "mode": unroll.MODES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(f"method.{name}", getattr(self, name), known)
        must_be_positive("method", self, "window", "inner_rate", "learning_rate", "batch_size", "downsample")
        if self.window > self.horizon:
            raise UserError(f"method.window {self.window} must lie within method.horizon {self.horizon}")
        augment.find(self.augmentation)

    def check_start(self, synthetic: Synthetic) -> None:
        """Raise UserError for labels from which no network can learn, or that are not by class, as rows are drawn."""
        _matching.check_start(synthetic)
        if not self.learn_labels:
            check_targets(synthetic.labels)

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the state at step 0; with bases the start's inputs give the shape only."""
        (rows, num_classes), shape = synthetic.labels.shape, synthetic.inputs.shape
        if rows % num_classes or self.rows_per_class > rows // num_classes or self.classes_at_once > num_classes:
            raise UserError(
                f"method.rows_per_class {self.rows_per_class} and method.classes_at_once {self.classes_at_once} must "
                f"fit a set of {rows} examples, equally many of {num_classes} classes"
            )
        inputs = _addressing.create(key, shape, self.bases, self.downsample) if self.bases else synthetic.inputs
        psi = jax.tree.map(jnp.asarray, Psi(inputs, synthetic.labels))
        zero = jnp.zeros((), synthetic.inputs.dtype)
        return State(psi, self._optimizer().init(psi), zero, jnp.int32(0), shape)

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return a uniform batch of rows."""
        return sampling.iid(key, len(labels), self.batch_size)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one outer step."""
        key_network, key_window, key_train = jax.random.split(key, 3)
        variables = self.model.init(key_network)
        check_norm(variables)
        last = self.horizon - self.window
        first = jax.random.randint(key_window, (), 0, last + 1) if self.placement == "random" else jnp.int32(last)

        def outer_loss(psi):
            return self.outer_loss(key_train, variables, psi, state.shape, batch, first)

        (loss, accuracy), grads = jax.value_and_grad(outer_loss, has_aux=True)(state.psi)
        size = optax.tree.norm(grads.inputs)
        norm = jnp.where(state.step == 0, size, 0.9 * state.norm + 0.1 * size)
        scale = jnp.minimum(1, self.clip * norm / jnp.maximum(size, 1e-30)) if self.clip else 1.0
        grads = Psi(jax.tree.map(lambda g: (g * scale).astype(g.dtype), grads.inputs), grads.labels * self.learn_labels)
        updates, opt_state = self._optimizer().update(grads, state.opt_state, state.psi)
        psi = optax.apply_updates(state.psi, updates)
        psi = psi.replace(labels=jnp.maximum(psi.labels, 0) if self.learn_labels else psi.labels)
        metrics = {"loss": loss, "accuracy": accuracy, "gradient_norm": size, "first": first.astype(size.dtype)}
        return State(psi, opt_state, norm, state.step + 1, state.shape), metrics

    def synthetic(self, state: State) -> Synthetic:
        """Return the set; mixtures of bases as images."""
        return Synthetic(self._images(state.psi, state.shape), state.psi.labels)

    def outer_loss(
        self, key: Key, variables: Variables, psi: Psi, shape: tuple[int, ...], batch: Batch, first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return loss and accuracy on a real batch after the steps 0 .. first + M - 1, the last M differentiated."""
        num_classes = psi.labels.shape[1]
        key_augment, key_rows = jax.random.split(key)
        inputs, labels = self._images(psi, shape), psi.labels
        change = augment.find(self.augmentation)
        if self.augmentation and self.paired_augmentation:
            alike = augment.siamese(self.augmentation, 1)
            inputs, real = (alike(key_augment, x, jnp.zeros(len(x), int)) for x in (inputs, batch.inputs))
            change = augment.find("")
        else:
            real = change(key_augment, batch.inputs)

        def select(t, key):
            key_minibatch, key_change = jax.random.split(key)
            rows = self._minibatch(key_minibatch, len(inputs) // num_classes, num_classes)
            return change(key_change, inputs[rows]), labels[rows]

        rule = unroll.direction(self.inner)
        loss = inner_loss(self.model, variables)
        begin = unroll.begin(variables["params"], rule)
        begin = unroll.skip(key_rows, loss, rule, begin, select, self.inner_rate, first)
        rates = jnp.full(self.window, self.inner_rate, inputs.dtype)
        trained = unroll.train(key_rows, loss, rule, begin, select, rates, first=first, mode=self.mode)

        def outcome(params, batch):
            logits = self.model.apply({**variables, "params": params}, batch.inputs, False, None)[0].logits
            return losses.cross_entropy(logits, batch.labels), losses.accuracy(logits, batch.labels)

        return mean_rows(outcome, trained.params, batch._replace(inputs=real), self.rows_at_once)

    def _minibatch(self, key: Key, ipc: int, num_classes: int) -> jax.Array:
        """Draw rows of a class-major set: as many of each class, of all classes or of some."""
        key_rows, key_classes = jax.random.split(key)
        count = self.rows_per_class or ipc
        rows = jax.lax.top_k(jax.random.uniform(key_rows, (num_classes, ipc)), count)[1]  # (K, count)
        rows = rows + ipc * jnp.arange(num_classes)[:, None]
        if self.classes_at_once:
            rows = rows[sampling.iid(key_classes, num_classes, self.classes_at_once)]
        return rows.reshape(-1)

    def _images(self, psi: Psi, shape: tuple[int, ...]) -> jax.Array:
        return _addressing.images(psi.inputs, shape) if self.bases else psi.inputs

    def _optimizer(self) -> optax.GradientTransformation:
        if self.outer == "adam":
            return optax.adam(self.learning_rate)
        return optax.chain(optax.clip_by_global_norm(2.0), optax.sgd(self.learning_rate, 0.5))


make = RaTBPTT
