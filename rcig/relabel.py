"""Label a set with a teacher: logits of many random views, as a pool on disk (Yin et al. 2023; Xiao and He 2024, LPLD).

    spec = Labelling(epochs=300, batch_size=128, mix="cutmix")
    pool = relabel(key, "runs/lpld/soft_labels", inputs, teacher, variables, spec, class_names=dataset.class_names)

Every epoch shuffles the set and takes it in whole batches. What record r shows is a function of (key, r) alone, so
that a stopped call goes on where it was, bit for bit, and a longer pool begins with the shorter one's records.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rcig import sharding
from rcig.chunks import map_rows
from rcig.errors import UserError
from rcig.label_files import Layout, Writer, read_meta, whole
from rcig.metrics import Progress
from rcig.soft_labels import LabelPool, about, layout
from rcig.types import Key, Model, Variables
from rcig.views import Labelling, View, apply_view, draw_view

_DISPATCHED = 1024  # images, about, that one call of the compiled function labels: Ctrl-C waits for them


def relabel(
    key: Key,
    folder: Path,
    inputs: np.ndarray,
    model: Model,
    variables: Variables,
    spec: Labelling,
    class_names: Sequence[str] = (),
    count: int = 0,
) -> LabelPool:
    """Write the pool that ``spec`` asks for, or what is missing of it, and return it.

    Args: inputs (N, S, S, C) in model-input space; a teacher with its variables, used in running-statistics mode;
    class_names, by which a pool is known to be of another label space; count, of records, if not all.
    Returns: the pool of exactly these records, in order; a finished one costs no more than opening it.
    Raises: UserError for images that are not square, too few of them, a pool in the folder that belongs to something
    else, logits that float16 cannot hold, and a disk that refuses; the records written before then stay.
    """
    inputs = np.asarray(inputs, np.float32)
    if inputs.ndim != 4 or inputs.shape[1] != inputs.shape[2]:
        raise UserError(f"soft labels want square images (N, S, S, C), not {inputs.shape}; resize the images")
    key = jax.random.fold_in(key, spec.seed)
    most = spec.records(len(inputs))
    wanted = min(count or most, most)
    outputs, _ = jax.eval_shape(lambda v, x: model.apply(v, x, False, None), variables, inputs[:1])
    num_classes = outputs.logits.shape[1]
    meta = about(inputs, variables, spec, key, num_classes, class_names)
    fields = layout(spec, inputs.shape, num_classes)
    if _held(Path(folder), meta, fields) < wanted:
        with Writer(folder, meta, fields) as writer, Progress(wanted) as progress:
            _write(key, writer, progress, jnp.asarray(inputs), model, variables, spec, wanted)
    pool = LabelPool.open(folder)
    return LabelPool(pool.records, pool.meta | {"labelling": meta["labelling"]}, pool.index).first(wanted)


def _held(folder: Path, meta: dict, fields: Layout) -> int:
    """Return how many whole records a folder holds; raise UserError where they are of something else."""
    if not (folder / "meta.json").exists():
        return 0
    found = read_meta(folder)
    both = [_identity(one) for one in (found, meta)]
    for field in both[1]:
        if both[0].get(field) != both[1][field]:
            raise UserError(
                f"{folder} holds soft labels of another {field} ({str(both[0].get(field))[:40]}, here "
                f"{str(both[1][field])[:40]}); choose another folder or delete this one"
            )
    return whole(folder, fields)


def _identity(meta: dict) -> dict:
    """Return what makes two pools one: all but the number of records."""
    same = {name: meta.get(name) for name in ("format", "images", "teacher", "num_classes", "class_names", "key")}
    extent = ("epochs", "pruning_ratio", "seed")  # the seed is in the key
    return same | {name: value for name, value in meta.get("labelling", {}).items() if name not in extent}


def _write(key, writer, progress, inputs, model, variables, spec, wanted) -> None:
    size = max(1, _DISPATCHED // spec.batch_size)
    while writer.count < wanted:
        records = np.arange(writer.count, writer.count + size)  # always as many, so that there is one program
        view, logits = sharding.fetch(_label(key, inputs, model, variables, spec, records.astype(np.int32)))
        if not np.isfinite(logits).all():
            raise UserError("the teacher's logits are not finite in float16; train it with weight decay, or check it")
        rows = {"logits": logits, **{name: part for name, part in view._asdict().items() if part is not None}}
        rows["flip"] = np.packbits(rows["flip"], axis=1)
        writer.append({name: part[: wanted - writer.count] for name, part in rows.items()})
        progress.update(writer.count, {})


@partial(jax.jit, static_argnames=("model", "spec"))
def _label(key, inputs, model, variables, spec, records) -> tuple[View, jax.Array]:
    """Return the views and the teacher's logits of some records: leaves (R, ...)."""
    num_images, size = len(inputs), spec.batch_size
    key_order, key_view = jax.random.split(key)

    def one(record):
        epoch, batch = jnp.divmod(record, num_images // size)
        order = jax.random.permutation(jax.random.fold_in(key_order, epoch), num_images)
        rows = jax.lax.dynamic_slice_in_dim(order, batch * size, size).astype(jnp.int32)
        view = draw_view(jax.random.fold_in(key_view, record), inputs, rows, spec)
        x = apply_view(inputs, view, spec.mix)
        logits = map_rows(lambda x: model.apply(variables, x, False, None)[0].logits, x)
        return view, logits.astype(jnp.float16)

    return sharding.over_devices(partial(jax.lax.map, one))(records)
