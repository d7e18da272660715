"""Devices and hosts: the one file that knows how many there are.

A mesh with one axis, ``data``, over all devices of all processes. `Batch` leaves are split along it, everything else is
replicated; losses are means over the global batch, so XLA inserts every collective by itself. Functions of many rows
(`rcig.chunks`) are `spread`, so that the synthetic set, too, is shared out where a network sees it. ``parallel="pmap"``
maps the same step over devices with an explicit mean instead (`mean`), and must give the same numbers.
"""

import contextlib
import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rcig.errors import UserError, unknown
from rcig.types import Batch, PyTree

_AXIS = "data"
_traced: ContextVar["Layout | None"] = ContextVar("traced", default=None)  # the layout of the step in hand
_LEAST_BYTES = 1 << 16  # of a batch, for each of a CPU's cores: RCIG on digits, at half of it, is 1.4 times slower on 2


def is_writer() -> bool:
    """Return whether this process writes metrics, pictures and artefacts."""
    return jax.process_index() == 0


def whole_memory() -> int:
    """Return the bytes that an array on one device may have at most: the device's memory, for a CPU the machine's."""
    return _limit(jax.local_devices()[0]) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def spare_memory() -> int:
    """Return the bytes that a step may keep for its backward pass: a quarter of an accelerator's memory, else 1 GiB."""
    return (_limit(jax.local_devices()[0]) or 4 << 30) // 4


def _limit(device: Any) -> int:
    """Return the bytes of a device's memory; 0 where the platform does not say, as a CPU's."""
    return (device.memory_stats() or {}).get("bytes_limit", 0)


def wait_for_all(place: str) -> None:
    """Wait until every process of a run has come to this ``place``."""
    multihost_utils.sync_global_devices(place)


def agreed(number: int) -> int:
    """Return the largest of the numbers that the processes of a run bring; every one of them must ask."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def mean(tree: PyTree) -> PyTree:
    """Return the mean over devices of values that are means over a device's part of the batch.

    The identity but for ``parallel="pmap"``: everywhere else a mean over the batch is the global mean already.
    """
    layout = _traced.get()
    return jax.lax.pmean(tree, _AXIS) if layout and layout.parallel == "pmap" else tree


def in_parts() -> bool:
    """Return whether the step being compiled sees a device's part of the batch only, as for ``parallel="pmap"``."""
    layout = _traced.get()
    return bool(layout and layout.parallel == "pmap" and layout.mesh.size > 1)


def spread(fn: Callable[[PyTree, PyTree], PyTree]) -> Callable[[PyTree, PyTree], PyTree]:
    """Spread ``fn(params, rows)``, row-wise in a tree of (B, ...) arrays, over the devices of the step being compiled.

    Derivatives by ``params`` are summed over devices once. ``fn`` must close over nothing that is differentiated. The
    identity outside a step and, where every device sees only its own rows, for ``parallel="pmap"``.
    """
    mesh = _sharing()
    return partial(_in_parts, fn, mesh) if mesh else fn


def share(fn: Callable[[PyTree], PyTree], rows: PyTree) -> PyTree:
    """Return ``fn(rows)``, row-wise in rows (B, ...) that every device has whole: each takes a part, all get all.

    Nothing that ``fn`` closes over may be differentiated outside of it.
    """
    layout = _traced.get()
    if not in_parts():
        return spread(lambda _, rows: fn(rows))((), rows)
    count = count_rows(rows)
    mine = jnp.asarray(_even(count, layout.mesh.size).reshape(layout.mesh.size, -1))[jax.lax.axis_index(_AXIS)]
    parts = fn(jax.tree.map(lambda a: a[mine], rows))
    return jax.tree.map(lambda a: a[:count], jax.lax.all_gather(parts, _AXIS, tiled=True))


def num_sharing() -> int:
    """Return among how many devices the step being compiled shares out rows."""
    layout = _traced.get()
    return layout.mesh.size if layout else 1


def spread_mean(fn: Callable[[PyTree, PyTree], PyTree]) -> Callable[[PyTree, PyTree], PyTree]:
    """Spread likewise an ``fn`` that is a mean over rows: the result is the mean over all devices' rows."""
    mesh = _sharing()

    def shared(params, rows):
        if not mesh or count_rows(rows) % mesh.size:
            return mean(fn(params, rows))
        return _shared(lambda *args: jax.lax.pmean(fn(*args), _AXIS), mesh, P())(params, rows)

    return shared


def whole(tree: PyTree) -> PyTree:
    """Return the tree, laid whole on every device of the step being compiled.

    XLA likes to share out what later is spread, and to exchange the parts: two devices then wait for each other.
    """
    mesh = _sharing()
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, P())) if mesh else tree


def count_rows(rows: PyTree) -> int:
    """Return B of a tree of (B, ...) arrays."""
    return len(jax.tree.leaves(rows)[0])


def fetch(tree: PyTree) -> PyTree:
    """Return a replicated tree as numpy arrays of their own memory."""
    return jax.tree.map(lambda a: np.array(a, copy=True), tree)


@dataclass(frozen=True)
class Layout:
    """Where arrays live, and how a step is compiled for it."""

    mesh: Mesh
    parallel: str  # "jit" or "pmap"

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    @property
    def memory(self) -> int:
        """The bytes of one device's memory, or its share of 8 GiB where the platform does not say."""
        devices = self.mesh.local_devices
        return _limit(devices[0]) or (8 << 30) // len(devices)

    @property
    def _all_taken(self) -> bool:
        """Whether all devices must be taken: only of one process's cores are there ever fewer, see `fitted`."""
        return self.mesh.devices.flat[0].platform != "cpu" or jax.process_count() > 1

    def check(self, batch_size: int) -> None:
        """Raise UserError unless the batch divides over the devices that `fitted` leaves it."""
        if self._all_taken and batch_size % self.mesh.size:
            raise UserError(
                f"a step's batch of {batch_size} examples is not divisible by {self.mesh.size} devices; choose a "
                f"method.batch_size (of trajectory matching: method.segments) that makes it a multiple of "
                f"{self.mesh.size}, or fewer devices"
            )

    def fitted(self, batch_size: int, batch_bytes: int, state_bytes: int) -> "Layout":
        """Return the layout of as many of a CPU's cores as serve a step.

        They divide the batch, each has enough of it to be worth the others' waiting, and their copies of the state
        leave half the memory. Devices of another kind, and those of several processes, are all taken, or it raises
        UserError.
        """
        if self._all_taken:
            self.check(batch_size)
            return self
        count = self.mesh.size
        most = min(count, batch_bytes // _LEAST_BYTES, self.memory * count // 2 // state_bytes)
        return layout(self.parallel, next((n for n in range(most, 1, -1) if batch_size % n == 0), 1))

    def replicate(self, tree: PyTree) -> PyTree:
        """Put a host tree on every device."""
        if jax.process_count() == 1:
            return jax.device_put(tree, self._replicated)
        # device_put would compare the hosts' trees, for which every device holds as many copies of each leaf as hosts
        put = lambda a: jax.make_array_from_callback(np.shape(a), self._replicated, lambda index: np.asarray(a)[index])
        return jax.tree.map(put, tree)

    def put_rows(self, rows: np.ndarray, shape: tuple[int, ...], read: Callable[[np.ndarray], np.ndarray]) -> jax.Array:
        """Put ``read(rows)``, rows (T, B), on the devices as (T, B, *shape), split along B (for pmap: inside the step).

        A process reads the rows of its own devices only.
        """
        sharding = NamedSharding(self.mesh, P() if self.parallel == "pmap" else P(None, _AXIS))
        return jax.make_array_from_callback(rows.shape + shape, sharding, lambda index: read(rows[index[:2]]))

    def split(self, batch: Batch) -> Batch:
        """Inside a compiled step: lay a batch (B, ...) over the devices."""
        if self.parallel == "pmap":
            size = len(batch.labels) // self.mesh.size
            start = jax.lax.axis_index(_AXIS) * size
            return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), batch)
        return jax.lax.with_sharding_constraint(batch, NamedSharding(self.mesh, P(_AXIS)))

    def compile(self, step: Callable) -> Callable:
        """Compile ``(state, *args) -> (state, metrics)`` of replicated trees; the state's memory is reused."""

        def traced(*args):
            with _tracing(self):
                return step(*args)

        if self.parallel == "jit":
            return jax.jit(traced, donate_argnums=0, out_shardings=self._replicated)
        devices = list(self.mesh.devices.flat)
        mapped = jax.pmap(lambda _, args: traced(*args), _AXIS, in_axes=(0, None), out_axes=None, devices=devices)
        return lambda *args: mapped(np.arange(jax.local_device_count(), dtype=np.int32)[: len(devices)], args)


def layout(parallel: str = "jit", num_devices: int = 0) -> Layout:
    """Return the layout over all devices (or the first ``num_devices``)."""
    if parallel not in ("jit", "pmap"):
        raise unknown("parallel", parallel, ("jit", "pmap"))
    devices = jax.devices()[: num_devices or None]
    return Layout(jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices), parallel)


def over_devices(fn: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
    """Spread a map over the leading axis of a tree's leaves over this process's devices; for use inside ``jax.jit``.

    ``fn`` is given a part of the entries at a time. They are independent: nothing is communicated, and what ``fn``
    closes over is on every device. No device has more entries than it must, and no more devices take part than that
    needs; the last entry is computed again where they do not come out even.
    """

    def mapped(tree: PyTree) -> PyTree:
        each = -(-count_rows(tree) // jax.local_device_count())
        devices = jax.local_devices()[: -(-count_rows(tree) // each)]
        if len(devices) == 1:
            return fn(tree)
        return _in_parts(lambda _, tree: fn(tree), Mesh(devices, (_AXIS,)), (), tree)

    return mapped


def _in_parts(fn: Callable, mesh: Mesh, params: PyTree, rows: PyTree) -> PyTree:
    """Return ``fn(params, rows)`` from every device's part; the last row counts again where they are not even."""
    count = count_rows(rows)
    at = _even(count, mesh.size)
    if len(at) == count:
        return _shared(fn, mesh, P(_AXIS))(params, rows)
    parts = _shared(fn, mesh, P(_AXIS))(params, jax.tree.map(lambda a: a[at], rows))
    return jax.tree.map(lambda a: a[:count], parts)


def _even(count: int, parts: int) -> np.ndarray:
    """Return the numbers of rows in equal parts, the last row again and again where they are not even."""
    return np.minimum(np.arange(-(-count // parts) * parts), count - 1)


def _sharing() -> Mesh | None:
    """Return the devices over which the step that is being compiled shares out rows, if these are several."""
    layout = _traced.get()
    return layout.mesh if layout and layout.parallel == "jit" and layout.mesh.size > 1 else None


def _shared(fn: Callable, mesh: Mesh, out_specs: P) -> Callable:
    def part(*args):
        with _tracing(None):  # what is spread already is not spread again
            return fn(*args)

    return jax.shard_map(part, mesh=mesh, in_specs=(P(), P(_AXIS)), out_specs=out_specs, check_vma=False)


@contextlib.contextmanager
def _tracing(layout: Layout | None):
    token = _traced.set(layout)
    try:
        yield
    finally:
        _traced.reset(token)
