"""Devices and hosts: the one file that knows how many there are.

A mesh with one axis, ``data``, over all devices of all processes. `Batch` leaves are split along it, everything else is
replicated; losses are means over the global batch, so XLA inserts every collective by itself. ``parallel="pmap"`` maps
the same step over devices with an explicit mean instead (`mean`), and must give the same numbers.
"""

import contextlib
import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rcig.errors import UserError, unknown
from rcig.types import Batch, PyTree

_AXIS = "data"
_mapped: ContextVar[bool] = ContextVar("mapped", default=False)  # whether a pmapped function is being traced
_CLUSTER = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri", "JAX_COORDINATOR_ADDRESS")


def connect(coordinator: str = "", num_processes: int = 0, process_id: int = -1) -> None:
    """Join the other processes of a run: as told, or as SLURM, Open MPI, Cloud TPU or Kubernetes tell; else do nothing.

    Must come before the first use of a device.
    """
    if coordinator:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    elif any(name in os.environ for name in _CLUSTER) or "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
        jax.distributed.initialize()


def is_writer() -> bool:
    """Return whether this process writes metrics, pictures and artefacts."""
    return jax.process_index() == 0


def wait_for_all(place: str) -> None:
    """Wait until every process of a run has come to this ``place``."""
    multihost_utils.sync_global_devices(place)


def mean(tree: PyTree) -> PyTree:
    """Return the mean over devices of values that are means over a device's part of the batch.

    The identity but for ``parallel="pmap"``: everywhere else a mean over the batch is the global mean already.
    """
    return jax.lax.pmean(tree, _AXIS) if _mapped.get() else tree


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

    def check(self, batch_size: int) -> None:
        """Raise UserError unless the batch divides over the devices."""
        if batch_size % self.mesh.size:
            raise UserError(
                f"batch size {batch_size} is not divisible by {self.mesh.size} devices; choose a multiple of "
                f"{self.mesh.size} or fewer devices"
            )

    def replicate(self, tree: PyTree) -> PyTree:
        """Put a host tree on every device."""
        return jax.device_put(tree, self._replicated)

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
        if self.parallel == "jit":
            return jax.jit(step, donate_argnums=0, out_shardings=self._replicated)

        def traced(_, args):
            with _tracing_map():
                return step(*args)

        devices = list(self.mesh.devices.flat)
        mapped = jax.pmap(traced, _AXIS, in_axes=(0, None), out_axes=None, devices=devices)
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

    def spread(tree: PyTree) -> PyTree:
        count = len(jax.tree.leaves(tree)[0])
        each = -(-count // jax.local_device_count())
        devices = jax.local_devices()[: -(-count // each)]
        if len(devices) == 1:
            return fn(tree)
        rows = np.minimum(np.arange(each * len(devices)), count - 1)
        specs = {"in_specs": P(_AXIS), "out_specs": P(_AXIS), "check_vma": False}
        parts = jax.shard_map(fn, mesh=Mesh(devices, (_AXIS,)), **specs)(jax.tree.map(lambda a: a[rows], tree))
        return jax.tree.map(lambda a: a[:count], parts)

    return spread


def device_memory() -> int:
    """Return the bytes of one device's memory, or 8 GiB where the platform does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", 8 << 30)


@contextlib.contextmanager
def _tracing_map():
    token = _mapped.set(True)
    try:
        yield
    finally:
        _mapped.reset(token)
