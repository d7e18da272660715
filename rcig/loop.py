"""The one outer loop: it drives any method, on any devices, and can be killed at any instant.

`_Feeder` compiles K outer steps into one call: for each step t, a key folded from (seed, t), the rows the method asks
for, the batch laid over the devices, the method's step. The host sees one round trip per K steps: there it checks that
all is finite, writes metrics, and now and then a checkpoint. Keys and rows are functions of (seed, t), so a run that is
killed and started again equals one that was not, bit for bit.
"""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rcig import sharding
from rcig.checkpoint import Checkpoints, zeros
from rcig.data import streaming
from rcig.data.text import as_leaves
from rcig.errors import UserError
from rcig.metrics import MetricsWriter, Progress
from rcig.sharding import Layout
from rcig.types import Batch, Dataset, Key, Method, PyTree, Synthetic

Report = Callable[[int, Synthetic], dict[str, float]]  # (step, distilled set) -> scalars for the metrics


@dataclass(frozen=True)
class Schedule:
    """How long, how often, how wide; see configs/default.py."""

    num_steps: int
    steps_per_dispatch: int = 50
    checkpoint_every: int = 500
    eval_every: int = 0
    seed: int = 0
    max_resident_bytes: int = 0

    def __post_init__(self):
        for name, least in (("num_steps", 1), ("steps_per_dispatch", 1), ("checkpoint_every", 1), ("eval_every", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")


def run(
    method: Method,
    dataset: Dataset,
    start: Synthetic,
    schedule: Schedule,
    workdir: Path,
    layout: Layout,
    *,
    evaluate: Report,
    publish: Callable[[int, Synthetic], None],
) -> Synthetic:
    """Distil ``dataset`` into ``start``'s shapes, from the newest checkpoint in ``workdir`` or from the beginning.

    Args:
      evaluate: called every ``eval_every`` steps for scalars that join the metrics.
      publish: called with the distilled set after every checkpoint and at the end, on the writing process.
    Returns: the distilled set. Raises UserError for a NaN or Inf; SystemExit 130 or 143 after Ctrl-C or SIGTERM, when
    the state is saved.
    """
    feeder, initial = begin(method, dataset, start, schedule, layout)
    progress = Progress(schedule.num_steps)
    with Checkpoints(workdir / "checkpoints") as checkpoints, progress, _signals(progress.note) as caught:
        done = skipped = 0
        if checkpoints.latest() is None:
            state = sharding.fetch(initial())
            if (workdir / "distilled").exists():
                progress.note(f"no checkpoint in {workdir}: the run begins anew")
        else:
            done, state = checkpoints.restore(zeros(jax.eval_shape(initial)))
            progress.note(f"resumed from step {done} in {workdir}")
        state = feeder.layout.replicate(state)
        with MetricsWriter(workdir, done) if sharding.is_writer() else nullcontext() as metrics:
            while done < schedule.num_steps:
                count = min(schedule.steps_per_dispatch, schedule.num_steps - done)
                state, trace = feeder.advance(state, done, count)
                trace = sharding.fetch(trace)
                skipped = _check_finite(trace.pop("finite"), trace, done, skipped, _max_skipped(method), checkpoints)
                done += count
                scalars = _means(trace)
                if _due(done, count, schedule.eval_every) or (schedule.eval_every and done == schedule.num_steps):
                    try:
                        scalars |= evaluate(done, sharding.fetch(method.synthetic(state)))
                    except UserError:  # the steps since the last checkpoint are not lost
                        checkpoints.save(done, state)
                        raise
                if metrics:  # of the process that writes
                    metrics.write(done, scalars)
                progress.update(done, scalars)
                signalled = sharding.agreed(max(caught, default=0))  # or one process would leave the others waiting
                if signalled or _due(done, count, schedule.checkpoint_every) or done == schedule.num_steps:
                    checkpoints.save(done, state)
                    if done < schedule.num_steps:
                        synthetic = sharding.fetch(method.synthetic(state))  # in every process: its arrays are all's
                        if sharding.is_writer():
                            publish(done, synthetic)
                if signalled:
                    checkpoints.wait()
                    progress.note(f"saved step {done} in {workdir}; the same command goes on from there")
                    raise SystemExit(128 + signalled)
        synthetic = sharding.fetch(method.synthetic(state))
        if sharding.is_writer():  # also by a run that was killed after its last checkpoint
            publish(done, synthetic)
        return synthetic


def begin(
    method: Method, dataset: Dataset, start: Synthetic, schedule: Schedule, layout: Layout
) -> tuple["_Feeder", Callable[[], PyTree]]:
    """Return the compiled steps, on as many of the layout's devices as serve, and what makes the state at step 0."""
    getattr(method, "check_start", lambda start: None)(start)
    labels = np.asarray(dataset.train.labels)
    rows = np.asarray(jax.jit(_rows_at(method, schedule))(0, labels))
    first = Batch(np.asarray(dataset.train.inputs[rows]), labels[rows])
    initial = partial(jax.jit(partial(_initial, method, _key(schedule, 0))), start, first)
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(initial)))
    layout = layout.fitted(len(first.labels), first.inputs.nbytes, state_bytes)
    budget = schedule.max_resident_bytes or layout.memory // 4
    streamed = sharding.agreed(int(dataset.train.inputs.nbytes > budget))  # one program, whatever a host has free
    return (_Streamed if streamed else _Resident)(method, dataset.train, schedule, layout), initial


def _key(schedule: Schedule, stream: int) -> Key:
    """Streams: 0 the method's start, 1 its steps, 2 the rows."""
    return jax.random.fold_in(jax.random.key(schedule.seed), stream)


def _rows_at(method: Method, schedule: Schedule) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return ``(step, labels) -> rows``."""
    key = _key(schedule, 2)
    return lambda step, labels: method.rows(jax.random.fold_in(key, step), labels)


def _initial(method, key, start, batch):
    return method.init(key, jax.tree.map(jnp.asarray, start), batch)


def _due(done: int, count: int, every: int) -> bool:
    """Return whether a multiple of ``every`` lies in the last ``count`` steps."""
    return every > 0 and done // every > (done - count) // every


class _Feeder:
    """Compiled steps over a training set that lives on the device, or on the host; both draw the same rows."""

    def __init__(self, method: Method, train: Batch, schedule: Schedule, layout: Layout) -> None:
        self.train, self.layout = train, layout
        key_steps, skips = _key(schedule, 1), _max_skipped(method) > 0

        def advance(state, step, batch):
            new, metrics = method.step(jax.random.fold_in(key_steps, step), state, layout.split(batch))
            finite = _finite((metrics, new) if skips else metrics)
            if skips:
                new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
                metrics |= {"skipped": 1.0 - finite}
            return new, metrics | {"finite": finite}

        self._labels = layout.replicate(np.asarray(train.labels))
        self._rows_at, self._step = _rows_at(method, schedule), advance
        self._rows = jax.jit(jax.vmap(self._rows_at, (0, None)))

    def _scan(self, body: Callable, state: PyTree, xs: PyTree) -> tuple[PyTree, dict]:
        """Scan, and look at the state once: looked at in every step, it would not be changed in place but copied."""
        state, trace = jax.lax.scan(body, state, xs)
        return state, trace | {"finite": trace["finite"].at[-1].min(_finite(state))}

    def rows(self, start: int, count: int) -> np.ndarray:
        """Return the rows that ``count`` steps draw, (count, B)."""
        return np.asarray(self._rows(start + np.arange(count), self._labels))


class _Resident(_Feeder):
    """The training set is an argument of the compiled steps: closed over, it would be baked into the program."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._data = self.layout.replicate(Batch(as_leaves(self.train.inputs), np.asarray(self.train.labels)))

        def body(data, state, step):
            rows = self._rows_at(step, data.labels)
            return self._step(state, step, Batch(data.inputs[rows], data.labels[rows]))

        def steps(state, steps, data):
            return self._scan(partial(body, data), state, steps)

        self._compiled = self.layout.compile(steps)

    def advance(self, state: PyTree, start: int, count: int) -> tuple[PyTree, dict]:
        """Take ``count`` steps. Returns the state and metrics (count,)."""
        return self._compiled(state, start + np.arange(count, dtype=np.int32), self._data)


class _Streamed(_Feeder):
    """The batches of K steps are read by threads on the host, while the device takes the K steps before."""

    def __init__(self, method: Method, train: Batch, schedule: Schedule, layout: Layout) -> None:
        super().__init__(method, train, schedule, layout)
        self._num_steps = schedule.num_steps
        self._reader, self._ahead = ThreadPoolExecutor(1), {}  # (start, count) -> future of their batches

        def steps(state, steps, batches):
            return self._scan(lambda state, at: self._step(state, *at), state, (steps, batches))

        self._compiled = self.layout.compile(steps)

    def advance(self, state: PyTree, start: int, count: int) -> tuple[PyTree, dict]:
        """Take ``count`` steps. Returns the state and metrics (count,)."""
        read = self._ahead.pop((start, count), None)
        batches = read.result() if read else self._read(self.rows(start, count))
        after = start + count, min(count, self._num_steps - start - count)
        rows = self.rows(*after) if after[1] > 0 else None  # before the device is busy
        taken = self._compiled(state, start + np.arange(count, dtype=np.int32), batches)
        self._ahead = {} if rows is None else {after: self._reader.submit(self._read, rows)}
        return taken

    def _read(self, rows: np.ndarray) -> Batch:
        """Put the batches of rows (count, B) on the devices."""
        labels, put = np.asarray(self.train.labels), self.layout.put_rows
        inputs = lambda rows: streaming.gather(self.train, rows).inputs
        return Batch(put(rows, self.train.inputs.shape[1:], inputs), put(rows, (), lambda rows: labels[rows]))


def _finite(tree: PyTree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _max_skipped(method: Method) -> int:
    return getattr(method, "max_skipped", 0)


def _means(trace: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the means over a dispatch's steps, those that were skipped left out; of none, nothing."""
    kept = {name: values[np.isfinite(values)] for name, values in trace.items()}
    return {name: float(np.mean(values)) for name, values in kept.items() if values.size}


def _check_finite(
    finite: np.ndarray, trace: dict[str, np.ndarray], start: int, skipped: int, most: int, checkpoints: Checkpoints
) -> int:
    """Return how many steps in a row have been skipped at the end; raises UserError for more than ``most``."""
    for step, good in enumerate(finite, start):
        skipped = 0 if good else skipped + 1
        if skipped > most:
            raise _became_nan(trace, step, checkpoints)
    return skipped


def _became_nan(trace: dict[str, np.ndarray], step: int, checkpoints: Checkpoints) -> UserError:
    names = [name for name, values in trace.items() if not np.all(np.isfinite(values))] or ["the state"]
    checkpoints.wait()
    saved = checkpoints.latest()
    where = "no state is saved yet" if saved is None else f"the last good state is step {saved} in {checkpoints.folder}"
    return UserError(
        f"{', '.join(names)} became NaN or infinite at step {step}; {where}; lower method.learning_rate, or raise "
        "method.ridge where there is one, in another --workdir"
    )


@contextmanager
def _signals(note: Callable[[str], None]) -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM, to be obeyed between dispatches; a second one interrupts at once."""
    caught: list[int] = []

    def handle(number, frame):
        caught.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)
        note("stopping after this dispatch; once more to stop at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
