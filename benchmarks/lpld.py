"""LPLD's stages against host loops, and its label pool against a file a batch.

recover     iterations a second of all classes together; the host loop takes class by class, and every image's crop and
            its transpose by themselves
students    steps a second of all networks together; the host loop takes network by network, reads a file a batch and
            makes every image's view in numpy
reads       records a second of a warm pool, in order and at random, checksums included the first time; beside it an npz
            file a batch
memory      what the resident set grows by while a pool of so many gigabytes is read at random
size        the published files of ImageNet-1K at 200 images a class, by arithmetic, and this pool's

    python benchmarks/lpld.py --quick                                # a minute
    python benchmarks/lpld.py --case=part=memory,gigabytes=2         # writes 2 GB to a temporary folder
    python benchmarks/lpld.py
"""

import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _measure
import jax
import jax.numpy as jnp
import numpy as np
import optax

from methods.lpld import squeeze
from methods.lpld.pixels import Pixels
from methods.lpld.recover import Recover
from methods.lpld.views import Views
from rcig import command
from rcig.augment.crops import crop, draw_boxes
from rcig.evaluation._students import train_students
from rcig.evaluation.soft_labels import SoftLabels
from rcig.label_files import Writer
from rcig.lookup import find
from rcig.losses import kl_divergence
from rcig.relabel import relabel
from rcig.soft_labels import LabelPool, layout, published_bytes
from rcig.training import State, learn
from rcig.types import Batch, Synthetic
from rcig.views import Labelling

CLASSES = 10
CASES = [
    {"part": "recover", "side": 8, "width": 16, "ipc": 10, "steps": 50},
    {"part": "recover", "side": 32, "width": 16, "ipc": 10, "steps": 5},
    {"part": "students", "side": 8, "width": 16, "networks": 5, "steps": 100},
    {"part": "students", "side": 32, "width": 16, "networks": 2, "steps": 20},
    {"part": "reads", "rows": 128, "num_classes": 1000, "records": 1000},
    {"part": "reads", "rows": 64, "num_classes": 200, "records": 2000},
    {"part": "memory", "gigabytes": 0.25},
    {"part": "memory", "gigabytes": 2},
    {"part": "size"},
]
QUICK = [
    {"part": "recover", "side": 8, "width": 8, "ipc": 2, "steps": 3},
    {"part": "students", "side": 8, "width": 8, "networks": 2, "steps": 5},
    {"part": "reads", "rows": 16, "num_classes": 100, "records": 100},
    {"part": "memory", "gigabytes": 0.02},
    {"part": "size"},
]


def measure(part: str, **case) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return PARTS[part](Path(folder), **case)


def network(side: int, width: int):
    """Return a small residual network with batch norm, and its variables."""
    make = find("rcig.models", "resnet").make
    model = make((side, side, 1), CLASSES, depth=10, stages=2, width=width, norm="batch", head_pooling="global")
    return model, model.init(jax.random.key(0))


def images(side: int, ipc: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(CLASSES * ipc, side, side, 1)).astype(np.float32)


# -- recover


def measure_recover(folder: Path, side: int, width: int, ipc: int, steps: int) -> dict:
    model, variables = network(side, width)
    shape = type("shape", (), {"example_shape": (side, side, 1)})
    targets = squeeze.global_moments(variables, squeeze.layers_of(model, shape))
    pixels, views = Pixels(np.zeros(1, np.float32), np.ones(1, np.float32)), Views(0.35, flip=False, jitter=0)
    stage = Recover(model, variables, targets, pixels, views, ipc, True, 10**6, 0.1, 0.05, 10.0, 0)
    start = Synthetic(jnp.asarray(images(side, ipc)), jnp.repeat(jnp.eye(CLASSES), ipc, 0))
    groups = Batch(jnp.zeros((CLASSES, 1)), jnp.arange(CLASSES))
    state = stage.init(jax.random.key(0), start, groups)

    @jax.jit
    def ours(state):
        step = lambda t, state: stage.step(jax.random.fold_in(jax.random.key(1), t), state, groups)[0]
        return jax.lax.fori_loop(0, steps, step, state)

    ours, plain = _measure.timed(partial(ours, state), 5), _measure.timed(plain_recover(stage, state), 5)
    return compared(steps / ours.median, 1 / plain.median)


def plain_recover(stage: Recover, state) -> Callable[[], list]:
    """Return one iteration as a host loop: over classes, and over the images of a class."""
    side, still = state.images.shape[2], Views(1.0, flip=False, jitter=0, jitter_back=0)
    still = Recover(*(getattr(stage, name) if name != "views" else still for name in stage.__dataclass_fields__))
    one = jax.jit(lambda image, box: crop(image[None], box, side)[0])
    back = jax.jit(lambda box, gradient: jax.vjp(lambda x: one(x, box), gradient)[1](gradient)[0])  # linear in x
    targets = jax.tree.map(lambda a: a[0], state.targets)
    gradient = jax.jit(
        lambda x, classes: jax.grad(
            lambda x: still.loss(x, jax.random.key(0), 0, classes, targets, state.variables)[0]
        )(x)
    )
    optimiser = stage._optimizer()
    move = jax.jit(lambda x, opt, g: (lambda d, opt: (jnp.clip(x - 0.1 * d, 0, 1), opt))(*optimiser.update(g, opt)))
    sets = [list(group) for group in state.images]
    states = [optimiser.init(group) for group in state.images]
    box_of = jax.jit(lambda key: draw_boxes(key, 1, side, 0.35)[0])
    keys = iter(jax.random.split(jax.random.key(2), 10_000))

    def iteration() -> list:
        for k, classes in enumerate(state.classes):
            box = box_of(next(keys))
            views = jnp.stack([one(image, box) for image in sets[k]])
            found = jnp.stack([back(box, g) for g in gradient(views, classes)])
            moved, states[k] = move(jnp.stack(sets[k]), states[k], found)
            sets[k] = list(moved)
        return sets

    return iteration


# -- students


def measure_students(folder: Path, side: int, width: int, networks: int, steps: int) -> dict:
    command.one_device_a_core()  # as eval.py does
    model, variables = network(side, width)
    inputs, spec = images(side, 10), Labelling(epochs=20, batch_size=20, min_scale=0.35)
    pool = relabel(jax.random.key(1), folder / "pool", inputs, model, variables, spec)
    protocol = SoftLabels(num_networks=networks, num_steps=steps, draw="with_replacement")
    ours = _measure.timed(lambda: train_students(jax.random.key(2), model, inputs, pool, protocol), 5)
    write_files(pool, folder / "files")
    plain = _measure.timed(plain_students(model, inputs, pool, folder / "files", networks), 5)
    return compared(steps / ours.median, 1 / plain.median)


def plain_students(model, inputs: np.ndarray, pool: LabelPool, files: Path, networks: int) -> Callable[[], list]:
    """Return one step of every network as a host loop."""
    optimiser, rng = optax.adamw(1e-3, weight_decay=0.01), np.random.default_rng(0)
    loss = lambda logits, teacher: kl_divergence(teacher.astype(jnp.float32) / 20, logits / 20)
    step = jax.jit(lambda state, x, y: learn(model, optimiser, loss, state, x, y, jax.random.key(0)))
    starts = [model.init(key) for key in jax.random.split(jax.random.key(3), networks)]
    states = [State(start, optimiser.init(start["params"]), jnp.zeros(0), jnp.zeros(())) for start in starts]

    def one() -> list:
        for i, state in enumerate(states):
            record = np.load(files / f"{rng.integers(len(pool))}.npz")
            x = np.stack(
                [by_hand(inputs[row], *at) for row, *at in zip(*map(record.get, ("image", "box", "flip")), strict=True)]
            )
            top, left, height, width = record["mix_box"].astype(int)
            here = (slice(None), slice(top, top + height), slice(left, left + width))
            mixed = x.copy()
            mixed[here] = x[record["partner"]][here]
            states[i] = step(state, mixed, record["logits"])
        return states

    return one


def by_hand(image: np.ndarray, box: np.ndarray, flip: bool) -> np.ndarray:
    """Return one view of one image (S, S, C), in numpy."""
    side = len(image)
    for axis in (0, 1):
        start, length = int(box[axis]), int(box[axis + 2])
        place = start + np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
        low = place.astype(int)
        high, share = np.minimum(low + 1, start + length - 1), (place - low).astype(np.float32)
        share = share.reshape(-1, *[1] * (2 - axis))
        image = np.take(image, low, axis) * (1 - share) + np.take(image, high, axis) * share
    return image[:, ::-1] if flip else image


# -- the pool on disk


def measure_reads(folder: Path, rows: int, num_classes: int, records: int) -> dict:
    write_pool(folder / "pool", rows, num_classes, records)
    pool = LabelPool.open(folder / "pool")
    write_files(pool, folder / "files")
    order = np.random.default_rng(1).permutation(records)
    readings = {}
    for name, ids in (("sequential", np.arange(records)), ("random", order)):
        fresh = LabelPool.open(folder / "pool")
        checked = rate(lambda ids, pool=fresh: pool.read(ids), ids)
        ours = rate(lambda ids, pool=fresh: pool.read(ids), ids)
        plain = rate(lambda ids: [dict(np.load(folder / "files" / f"{i}.npz")) for i in ids], ids)
        readings |= {f"{name}_first": checked, f"{name}_ours": ours, f"{name}_npz": plain, f"{name}_x": ours / plain}
    return readings | {"record_kb": pool.record_bytes / 1e3}


def measure_memory(folder: Path, gigabytes: float) -> dict:
    spec, shape = Labelling(batch_size=128), (1280, 224, 224, 3)
    each = sum(np.dtype(dtype).itemsize * int(np.prod(size)) for dtype, size in layout(spec, shape, 1000).values())
    write_pool(folder / "pool", 128, 1000, int(gigabytes * 1e9 / each))
    pool = LabelPool.open(folder / "pool")
    order, before = np.random.default_rng(1).permutation(len(pool)), peak()
    began = time.perf_counter()
    for start in range(0, len(order), 8):
        pool.read(order[start : start + 8])
    seconds = time.perf_counter() - began
    return {"grown_mb": peak() - before, "gb_per_s": pool.nbytes / seconds / 1e9, "pool_gb": pool.nbytes / 1e9}


def measure_size(folder: Path) -> dict:
    spec = Labelling(epochs=300, batch_size=128)
    each = sum(np.dtype(d).itemsize * int(np.prod(s)) for d, s in layout(spec, (200_000, 224, 224, 3), 1000).values())
    whole = published_bytes(200_000, 300, 1000)
    records = 300 * spec.batches(200_000)
    return {"published_gib": whole / 2**30, "ours_gib": records * each / 2**30, "ours_40x_gb": 11_715 * each / 1e9}


def write_pool(folder: Path, rows: int, num_classes: int, records: int) -> None:
    """Write a pool of random records."""
    spec, shape, rng = Labelling(epochs=records, batch_size=rows), (rows, 64, 64, 3), np.random.default_rng(0)
    fields = layout(spec, shape, num_classes)
    about = {"format": "rcig-soft-labels-1", "labelling": {"epochs": records, "batch_size": rows, "mix": "cutmix"}}
    about |= {"image_shape": shape, "num_classes": num_classes}
    with Writer(folder, about, fields) as writer:
        while writer.count < records:
            count = min(64, records - writer.count)
            writer.append({k: rng.integers(0, 60, (count, *s)).astype(d) for k, (d, s) in fields.items()})


def write_files(pool: LabelPool, folder: Path) -> None:
    """Write every record to an npz file of its own."""
    folder.mkdir()
    for record in range(len(pool)):
        view, logits = pool.read(np.array(record))
        np.savez(folder / f"{record}.npz", logits=logits, **{k: v for k, v in view._asdict().items() if v is not None})


def rate(read: Callable, ids: np.ndarray) -> float:
    """Return the records a second of reading, eight at a time."""
    began = time.perf_counter()
    for start in range(0, len(ids), 8):
        read(ids[start : start + 8])
    return len(ids) / (time.perf_counter() - began)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def compared(ours: float, plain: float) -> dict:
    return {"ours_per_s": ours, "host_loop_per_s": plain, "times": ours / plain}


PARTS = {
    "recover": measure_recover,
    "students": measure_students,
    "reads": measure_reads,
    "memory": measure_memory,
    "size": measure_size,
}

if __name__ == "__main__":
    _measure.main(__doc__, "lpld", CASES, QUICK, measure)
