"""Resumable state on disk: whole steps only, found again after any kill, checked bit for bit when they are read.

Example:
    with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
        if checkpoints.latest() is not None:
            step, state = checkpoints.restore(state)
        ...
        checkpoints.save(step, state)

A step is an orbax folder with two items: ``state``, the leaves as numpy arrays, so that any number of devices can read
them, and ``note``, their paths, shapes, dtypes and SHA-256 digests. Orbax commits a step by a rename, so a kill leaves
the steps before; the digests catch what rots later, which the array store itself does not notice.
"""

import contextlib
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from rcig.errors import UserError
from rcig.files import check_plain, digest, disk_errors, json_digest
from rcig.types import PyTree

_FORMAT = "rcig-state-1"
_ITEMS = ("state", "note")


class Checkpoints:
    """The steps of one run. In a run of several processes every process makes the same calls; orbax decides who writes.

    Args: folder, made if missing; keep, how many newest steps stay. Raises UserError for a folder that is not ours.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = Path(folder).absolute()
        check_plain(self.folder)
        self._broken: dict[int, str] = {}
        self._quiet = contextlib.ExitStack()
        _refuse_foreign(self.folder)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, save_root_metadata=False, lightweight_initialize=True
        )
        with disk_errors(self.folder):
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=_ITEMS)
        self._quiet.enter_context(quiet_orbax())

    def save(self, step: int, state: PyTree) -> None:
        """Save a state under its step, in the background; a step that is there already is left as it is.

        The leaves are copied before this returns, so the caller may donate them. Waits for the save before.
        Raises UserError where the disk refuses, now or at the next ``save`` or ``close``.
        """
        self.wait()
        if step in self._whole():
            return
        self._set_aside()
        leaves = _copies(state)
        with disk_errors(self.folder):
            _refuse_full_disk(self.folder, sum(leaf.nbytes for leaf in leaves.values()))
            # orbax refuses arrays of size zero; the target says all there is to know of them
            items = {f"{i:05d}": leaf for i, leaf in enumerate(leaves.values()) if leaf.size}
            args = ocp.args.Composite(state=ocp.args.StandardSave(items), note=ocp.args.JsonSave(_note(leaves)))
            if not self._manager.save(step, args=args):
                raise ValueError(f"step {step} is not above the newest of {self._manager.all_steps()} in {self.folder}")

    def latest(self) -> int | None:
        """Return the newest committed step, or None; whether its bits are sound, ``restore`` finds out."""
        return max(self._whole(), default=None)

    def restore(self, target: PyTree) -> tuple[int, PyTree]:
        """Read the newest step that is sound, in the structure of ``target``.

        Leaves come back as the target's are: jax arrays (on the default device), numpy arrays or Python numbers. A
        broken newer step is warned of, passed over and left untouched. Raises UserError where the newest readable step
        belongs to another structure, and where no step is sound.
        """
        self.wait()
        for step in sorted(self._whole(), reverse=True):
            try:
                note = self._read_note(step)
                _refuse_mismatch(note["leaves"], target, f"{self.folder}/{step}")
                leaves = self._read_leaves(step, note["leaves"])
            except (UserError, MemoryError):
                raise
            except Exception as error:  # which bits have rotted decides which type of error orbax raises
                self._broken[step] = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                continue
            for broken, reason in sorted(self._broken.items()):
                warnings.warn(f"checkpoint {broken} in {self.folder} is broken ({reason}); using {step}", stacklevel=2)
            return step, _rebuild(target, leaves)
        raise UserError(
            f"no whole checkpoint in {self.folder} (broken: {sorted(self._broken) or 'none'}); "
            "restore the folder from a copy, or start anew in another workdir"
        )

    def wait(self) -> None:
        """Wait until the last save is on disk. Raises UserError where the disk refused it."""
        with disk_errors(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish the last save and let go of the folder."""
        with self._quiet, disk_errors(self.folder):
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # a second error must not hide the first, above all not a KeyboardInterrupt
        with contextlib.suppress(UserError) if kind else contextlib.nullcontext():
            self.close()

    def _whole(self) -> set[int]:
        """Return the committed steps, without those already found broken."""
        steps = self._manager.all_steps()
        return {s for s in steps if s not in self._broken and (self.folder / str(s) / "note").is_dir()}

    def _set_aside(self) -> None:
        """Rename broken steps to ``<step>.broken``: they would block saving, or be kept in place of whole ones."""
        broken = set(self._manager.all_steps()) - self._whole()
        if not broken:
            return
        with disk_errors(self.folder):
            for s in broken if jax.process_index() == 0 else ():
                shutil.rmtree(self.folder / f"{s}.broken", ignore_errors=True)
                (self.folder / str(s)).rename(self.folder / f"{s}.broken")
        ocp.multihost.sync_global_processes("rcig:set_aside")
        self._manager.reload()
        self._broken.clear()

    def _read_note(self, step: int) -> dict[str, Any]:
        note = self._manager.restore(step, args=ocp.args.Composite(note=ocp.args.JsonRestore()))["note"]
        if note["format"] != _FORMAT or note["sha256"] != json_digest(note["leaves"]):
            raise ValueError("its note does not match the note's own digest")
        return note

    def _read_leaves(self, step: int, described: list[list[Any]]) -> list[np.ndarray]:
        state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]
        leaves = []
        for i, (path, shape, dtype, sha256) in enumerate(described):
            leaf = np.asarray(state[f"{i:05d}"]) if np.prod(shape) else np.zeros(shape, jnp.dtype(dtype))
            if digest(leaf) != sha256:
                raise ValueError(f"leaf {path} does not match its digest")
            leaves.append(leaf)
        return leaves


def zeros(shapes: PyTree) -> PyTree:
    """Return zeros on the host, in the shapes and dtypes that ``jax.eval_shape`` gave: what ``restore`` fills."""
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)


def kept(folder: Path, make: Callable[[], PyTree], target: PyTree) -> PyTree:
    """Return what a folder keeps, in the structure of ``target``; where it keeps nothing yet, ``make`` makes it."""
    with Checkpoints(folder, keep=1) as checkpoints:
        if checkpoints.latest() is None:
            checkpoints.save(1, make())
        return checkpoints.restore(target)[1]


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Keep the log and the stray tracebacks of orbax's threads off stderr: what matters is raised as well."""
    outer = sys.unraisablehook

    def not_orbax(record: logging.LogRecord) -> bool:
        return "orbax" not in Path(record.pathname).parts

    def not_orbax_loop(unraisable: Any) -> None:
        # after the first write that fails, those still under way find the event loop closed
        if str(unraisable.exc_value) != "Event loop is closed":
            outer(unraisable)

    logger = logging.getLogger("absl")
    logger.addFilter(not_orbax)
    sys.unraisablehook = not_orbax_loop
    try:
        yield
    finally:
        logger.removeFilter(not_orbax)
        if sys.unraisablehook is not_orbax_loop:
            sys.unraisablehook = outer


def _refuse_foreign(folder: Path) -> None:
    """Raise UserError unless the folder is missing, empty or holds nothing but our steps and their leftovers."""
    remedy = "choose another workdir"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} must be a folder of checkpoints but is a file; {remedy}")
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name.startswith(".") or entry.name.endswith(".broken") or ".orbax-checkpoint-tmp" in entry.name:
            continue
        inside = {item.name for item in entry.iterdir()} if entry.is_dir() else {"a file"}
        if not entry.name.isdecimal() or inside and inside.isdisjoint(_ITEMS):
            raise UserError(f"{folder} holds {entry.name!r}, which is not a checkpoint of this program; {remedy}")


def _refuse_full_disk(folder: Path, size: int) -> None:
    """Raise OSError before a save that cannot fit: failing half-way costs more and says less."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"the state needs {size / 1e6:.0f} MB and {free / 1e6:.0f} MB are free")


def _copies(state: PyTree) -> dict[str, np.ndarray]:
    """Return path -> own numpy copy of every leaf: on the CPU a jax array's numpy view is its (donated) memory."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
    for path, leaf in zip(paths, jax.tree.leaves(state), strict=True):
        _shape_and_dtype(path, leaf)
    return {path: np.array(leaf) for path, leaf in zip(paths, jax.device_get(jax.tree.leaves(state)), strict=True)}


def _note(leaves: dict[str, np.ndarray]) -> dict[str, Any]:
    described = [[path, list(leaf.shape), leaf.dtype.name, digest(leaf)] for path, leaf in leaves.items()]
    return {"format": _FORMAT, "leaves": described, "sha256": json_digest(described)}


def _shape_and_dtype(path: str, leaf: Any) -> tuple[list[int], str]:
    """Return what a leaf must look like on disk. Raises TypeError for what is no plain number or array of them."""
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        raise TypeError(f"state leaf {path} is a typed key; store jax.random.key_data of it")
    if not isinstance(leaf.dtype, np.dtype) or leaf.dtype.kind in "OSUM":
        raise TypeError(f"state leaf {path} has dtype {leaf.dtype}; a state holds numbers only")
    return list(leaf.shape), leaf.dtype.name


def _refuse_mismatch(described: list[list[Any]], target: PyTree, name: str) -> None:
    """Raise UserError that names the first leaf in which a checkpoint and the target differ."""
    stored = {path: (shape, dtype) for path, shape, dtype, _ in described}
    leaves = jax.tree_util.tree_flatten_with_path(target)[0]
    wanted = {jax.tree_util.keystr(path): _shape_and_dtype(jax.tree_util.keystr(path), leaf) for path, leaf in leaves}
    for path in [*wanted, *stored]:
        if stored.get(path) != wanted.get(path):
            raise UserError(
                f"checkpoint {name} has {_say(stored.get(path))} at state{path} where this run needs "
                f"{_say(wanted.get(path))}; resume with the config it was made with, or choose another workdir"
            )


def _say(described: tuple[list[int], str] | None) -> str:
    return "nothing" if described is None else f"{described[1]}{described[0]}"


def _rebuild(target: PyTree, leaves: list[np.ndarray]) -> PyTree:
    return jax.tree.unflatten(
        jax.tree.structure(target), [_like(t, leaf) for t, leaf in zip(jax.tree.leaves(target), leaves, strict=True)]
    )


def _like(target: Any, leaf: np.ndarray) -> Any:
    """Return a leaf as the kind of object its target is."""
    if isinstance(target, jax.Array):
        return jnp.array(leaf)
    if isinstance(target, bool | int | float | complex):
        return leaf.item()
    return leaf
