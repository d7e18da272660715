"""MTT: trajectory matching (Cazenavette et al., CVPR 2022), in constant memory as TESLA (Cui et al., ICML 2023).

Experts learn the real data first (rcig/trajectories.py); theta*_t is one of them after epoch t. One step, t drawn:
  1 a student starts at theta*_t and takes N plain gradient steps on the synthetic set, augmented afresh every step:
        theta_{n+1} = theta_n - rate * g_n,   g_n = grad cross_entropy(theta_n; A(x), y)
  2 loss = |theta_N - theta*_{t+E}|^2 / |theta*_t - theta*_{t+E}|^2
  3 SGD with momentum on the images, on the rate and, where learned, on the labels.

``mode`` says how the loss is differentiated: the modes of rcig/unroll.py are exact. TESLA's is not: it leaves out how
x moves later g_n through theta_n. Then every g_n meets the same vector v = dloss/dtheta_N, and

        dloss/dx = sum_n d(v . -rate g_n)/dx

is summed step by step while the student trains once more: memory does not grow with N.

Deviations: segments of one step share minibatches and augmentations; a minibatch's rows left over from a pass wait for
another; the rate stays above a hundredth of where it starts (it has been seen to turn negative).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from methods import _matching
from rcig import augment, losses, schedule, sharding, trajectories, unroll
from rcig.errors import UserError, unknown
from rcig.files import write
from rcig.training import map_networks
from rcig.types import Batch, Dataset, Key, Metrics, Model, PyTree, Synthetic

MODES = ("auto", "tesla", *unroll.MODES)
_LOWEST = 0.01  # of the rate, as a share of its start


@struct.dataclass
class Learned:
    """What is learned; with other leaves, the learning rates of its parts."""

    inputs: jax.Array  # (M, ...)
    labels: jax.Array  # (M, K)
    rate: jax.Array  # ()


@struct.dataclass
class State:
    """What is learned, and its momentum."""

    learned: Learned
    velocity: PyTree


@dataclass(frozen=True)
class TrajectoryMatching:
    """The method's hyperparameters; defaults are the paper's for CIFAR-10 at one image per class."""

    model: Model
    student_steps: int = 50  # N
    expert_epochs: int = 2  # E
    max_start_epoch: int = 2  # t is drawn below it
    learning_rate: float = 100.0  # of the images
    rate_learning_rate: float = 1e-7
    label_learning_rate: float = 0.0  # 0: hard labels, which stay; else they are learned as the raw numbers they are
    momentum: float = 0.5  # of all three
    inner_rate: float = 0.01  # where the student's rate starts
    minibatch: int = 0  # synthetic examples a student's step; 0: all
    segments: int = 1  # students a step, shared out; a multiple of the number of devices
    augmentation: str = "dsa:color_crop_cutout_flip_scale_rotate"  # of experts and students; for digits leave out flip
    experts: str = ""  # folder of recorded experts, which runs may share; empty: the run's own
    num_experts: int = 100
    recorded_epochs: int = 50  # of every expert
    batch_size: int = 256  # real examples an expert's step
    expert_learning_rate: float = 0.01
    mode: str = "auto"  # tesla, or the unroll's full, remat, block, mix; auto: full where it fits ``budget``, else mix
    budget: int = 0  # bytes; 0: `sharding.spare_memory`

    def __post_init__(self):
        positive = ("student_steps", "expert_epochs", "max_start_epoch", "inner_rate", "segments", "num_experts")
        _matching.check(self, *positive, "expert_learning_rate")
        if self.mode not in MODES:
            raise unknown("method.mode", self.mode, MODES)
        if min(self.rate_learning_rate, self.label_learning_rate, self.minibatch) < 0:
            raise UserError("method.rate_learning_rate, label_learning_rate and minibatch must not be negative")
        if self.max_start_epoch - 1 + self.expert_epochs > self.recorded_epochs:
            raise UserError(
                f"method.max_start_epoch {self.max_start_epoch} and expert_epochs {self.expert_epochs} want snapshots "
                f"after method.recorded_epochs {self.recorded_epochs}; record more epochs"
            )

    def prepare(self, key: Key, dataset: Dataset, start: Synthetic, folder: Path) -> tuple[Self, Dataset, Synthetic]:
        """Record the experts that are missing. The loop then draws from their snapshots (N, P), labelled by epoch.

        Raises UserError for others than those with which the run in the folder began.
        """
        self.check_start(start)
        sharding.layout().check(2 * self.segments)
        expert = trajectories.Expert(
            self.recorded_epochs, self.batch_size, self.expert_learning_rate, self.augmentation
        )
        place = Path(self.experts) if self.experts else Path(folder) / "experts"
        snapshots = trajectories.record(key, self.model, dataset, expert, self.num_experts, place)
        told, known = trajectories.fingerprint(place, self.num_experts), folder / "experts.sha256"
        if known.exists() and known.read_text() != told:
            raise UserError(
                f"{place} holds other experts than those with which the run in {folder} began; put these back, or use "
                "another --workdir"
            )
        write(known, told.encode())
        epochs = np.tile(np.arange(snapshots.shape[1], dtype=np.int32), len(snapshots))
        return self, replace(dataset, train=Batch(snapshots.reshape(-1, snapshots.shape[2]), epochs)), start

    check_start = staticmethod(_matching.check_start)

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the set as it is, at rest."""
        start = _matching.start(synthetic, optax.identity()).synthetic
        learned = Learned(start.inputs, start.labels, jnp.asarray(self.inner_rate, start.inputs.dtype))
        return State(learned, optax.tree.zeros_like(learned))

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return the rows of ``segments`` pairs, start and target, one after the other."""
        key_expert, key_epoch = jax.random.split(key)
        size = self.recorded_epochs + 1
        experts = jax.random.randint(key_expert, (self.segments,), 0, len(labels) // size)
        start = experts * size + jax.random.randint(key_epoch, (self.segments,), 0, self.max_start_epoch)
        return jnp.stack([start, start + self.expert_epochs], 1).reshape(-1).astype(jnp.int32)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one outer step. ``accuracy``: the students' on a last minibatch."""
        if len(batch.inputs) % 2:
            raise UserError(
                f"method.segments {self.segments} does not divide over the devices; choose a multiple of their number"
            )
        pairs = batch.inputs.reshape(-1, 2, batch.inputs.shape[1])
        students = lambda learned, pairs: map_networks(partial(self.gradient, key, learned))(pairs)
        each = sharding.spread(students)(state.learned, pairs)
        (loss, accuracy), grads = sharding.mean(jax.tree.map(lambda a: jnp.mean(a, 0), each))
        velocity = jax.tree.map(lambda v, g: self.momentum * v + g, state.velocity, grads)
        rates = Learned(self.learning_rate, self.label_learning_rate, self.rate_learning_rate)
        learned = jax.tree.map(lambda value, rate, v: value - rate * v, state.learned, rates, velocity)
        learned = learned.replace(rate=jnp.maximum(learned.rate, _LOWEST * self.inner_rate))
        size = optax.tree.norm(grads.inputs)
        return State(learned, velocity), {
            "loss": loss,
            "accuracy": accuracy,
            "rate": learned.rate,
            "gradient_norm": size,
        }

    def synthetic(self, state: State) -> Synthetic:
        """Return the set with its one learned rate, (1, 1)."""
        learned = state.learned
        return Synthetic(learned.inputs, learned.labels, learned.rate[None, None])

    def gradient(self, key: Key, learned: Learned, pair: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Learned]:
        """Return (loss, accuracy) and the loss's gradient. pair (2, P): start and target."""
        if self.mode == "tesla":
            return self._tesla(key, learned, pair)
        return jax.value_and_grad(lambda learned: self.loss(key, learned, pair), has_aux=True)(learned)

    def loss(self, key: Key, learned: Learned, pair: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the loss, and the student's accuracy on a further minibatch. pair (2, P): start and target."""
        trained = self._learn(key, learned, self._begin(pair))
        return self._distance(key, learned, pair, trained.params)

    def _tesla(self, key: Key, learned: Learned, pair: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Learned]:
        begin = self._begin(pair)
        end = self._learn(key, learned, begin, mode="full")  # not differentiated: nothing is kept
        distance = jax.value_and_grad(partial(self._distance, key, learned, pair), has_aux=True)
        value, v = distance(end.params)

        def step(carry, n):
            trained, total = carry

            def along(learned):
                after = self._learn(key, learned, trained, n, 1, mode="full")
                return optax.tree.vdot(v, after.params), after

            grads, after = jax.grad(along, has_aux=True)(learned)
            return (after, optax.tree.add(total, grads)), None

        (_, total), _ = jax.lax.scan(step, (begin, optax.tree.zeros_like(learned)), jnp.arange(self.student_steps))
        return value, total

    def _begin(self, pair: jax.Array) -> unroll.Trained:
        return unroll.begin(trajectories.unflatten(self.model)(pair[0]), unroll.direction("sgd"))

    def _distance(self, key, learned, pair, params):
        """Return the loss and the accuracy of a student that has learned."""
        start, target = pair
        student = trajectories.flatten(params)
        loss = jnp.sum(jnp.square(student - target)) / jnp.sum(jnp.square(start - target))
        variables = self.model.init(jax.random.key(0))
        key_rows, key_apply = jax.random.split(jax.random.fold_in(key, self.student_steps))  # as one more step would
        inputs, targets = self._select(key, learned)(self.student_steps, key_rows)
        logits = self.model.apply({**variables, "params": params}, inputs, True, key_apply)[0].logits
        return loss, losses.accuracy(logits, jnp.argmax(targets, 1))

    def _learn(
        self,
        key: Key,
        learned: Learned,
        start: unroll.Trained,
        first: jax.Array | int = 0,
        count: int = 0,
        mode: str = "",
    ) -> unroll.Trained:
        """Take ``count`` of the student's steps (0: all), differentiable in what is learned."""
        rule, select = unroll.direction("sgd"), self._select(key, learned)
        loss = schedule.inner_loss(self.model, self.model.init(jax.random.key(0)))  # for its running statistics
        rates = jnp.broadcast_to(learned.rate, (count or self.student_steps,))
        mode = mode or self.mode
        if mode == "auto":
            budget = self.budget or sharding.spare_memory()  # one student at a time
            mode = unroll.choose_mode(budget, loss, rule, start, select(0, key), self.student_steps)
        return unroll.train(key, loss, rule, start, select, rates, first=first, mode=mode)

    def _select(self, key: Key, learned: Learned) -> Callable[[jax.Array, Key], tuple[jax.Array, jax.Array]]:
        """Return the student's minibatches: shuffled passes over the set, augmented."""
        num_rows, num_classes = learned.labels.shape
        classes = jnp.repeat(jnp.eye(num_classes, dtype=learned.labels.dtype), num_rows // num_classes, 0)
        targets = learned.labels if self.label_learning_rate else classes
        size = min(self.minibatch or num_rows, num_rows)
        change = augment.find(self.augmentation)
        key_order = jax.random.fold_in(key, self.student_steps + 1)  # a number that no step has

        def select(n, key_step):
            if size == num_rows:
                return change(key_step, learned.inputs), targets
            a_pass, place = jnp.divmod(n, num_rows // size)
            order = jax.random.permutation(jax.random.fold_in(key_order, a_pass), num_rows)
            rows = jax.lax.dynamic_slice_in_dim(order, place * size, size)
            return change(key_step, learned.inputs[rows]), targets[rows]

        return select


make = TrajectoryMatching
