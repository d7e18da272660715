"""Seconds of one step of matching and of training for an evaluation, at CIFAR-10's shape, against the plain program.

Parts: ``dm`` one iteration of DM, ``dc`` and ``dsa`` one match of DC and DSA (the training of the network between two
matches is not in it), ``epoch`` one pass over the set in the training of ``networks`` networks for an evaluation, with
DSA's augmentation. ``ours`` are the library's compiled steps; ``plain`` is _plain_matching.py: a Python loop over the
classes, one network after another. ``difference`` is the largest between both meta-gradients, relative to the largest
entry. On 2 idle cores the PyTorch reference took 3.5 s for ``dm``, 7.2 s for ``dsa``, 0.40 s (one core) for ``epoch``
at 10 images per class.

    python benchmarks/matching_step.py --quick
    python benchmarks/matching_step.py --case=part=dm,ipc=1
"""

import itertools
from collections.abc import Callable

import _measure
import jax
import jax.numpy as jnp
import numpy as np
from _plain_matching import Plain

from methods import _matching
from methods.distribution_matching import DistributionMatching
from methods.gradient_matching import GradientMatching
from rcig import command, sharding, training
from rcig.models import dc_convnet
from rcig.types import Batch, Model, Synthetic

_DSA = "dsa:color_crop_cutout_flip_scale_rotate"
_AUGMENTATION = {"dm": _DSA, "dc": "none", "dsa": _DSA, "epoch": _DSA}
_EPOCHS = 8  # timed together
PROGRAMS = ("ours", "plain")


def _case(part: str, ipc: int, program: str, width: int = 128, batch: int = 256, networks: int = 1) -> dict:
    return {"part": part, "ipc": ipc, "program": program, "width": width, "batch": batch, "networks": networks}


CASES = [
    *(_case(*case) for case in itertools.product(("dm", "dc", "dsa", "epoch"), (1, 10), PROGRAMS)),
    *(_case("epoch", 10, program, networks=20) for program in PROGRAMS),
]
QUICK = [
    *(_case(part, 2, program, 8, 8) for part, program in itertools.product(("dm", "dc", "dsa"), PROGRAMS)),
    *(_case("epoch", 2, program, 8, 8, networks) for networks, program in itertools.product((1, 3), PROGRAMS)),
]


def measure(part: str, ipc: int, program: str, width: int, batch: int, networks: int) -> dict:
    command.one_device_a_core()  # as the commands do
    model = dc_convnet.make((32, 32, 3), 10, width=width)
    rng = np.random.default_rng(0)
    labels = np.eye(10, dtype=np.float32).repeat(ipc, 0)
    synthetic = Synthetic(jnp.asarray(rng.standard_normal((10 * ipc, 32, 32, 3), np.float32)), jnp.asarray(labels))
    if part == "epoch":
        run = _epochs(program, model, synthetic, networks)
        times = _measure.timed(run)
        return {"seconds": times.median / _EPOCHS, "compile_s": times.first, "peak_gb": _measure.peak_memory()}
    real = jnp.asarray(rng.standard_normal((10 * batch, 32, 32, 3), np.float32))
    train = Batch(real, jnp.arange(10 * batch, dtype=jnp.int32) % 10)  # class-minor, as the methods want it
    step, plain_step = _steps(part, model, synthetic, train)
    times = _measure.timed(step if program == "ours" else plain_step)
    readings = {"seconds": times.median, "compile_s": times.first, "peak_gb": _measure.peak_memory()}
    if program == "ours":
        return readings
    gradient, expected = step()[1], plain_step()[1]
    return readings | {"difference": float(jnp.max(jnp.abs(gradient - expected)) / jnp.max(jnp.abs(expected)))}


def _steps(part: str, model: Model, synthetic: Synthetic, train: Batch) -> tuple[Callable, Callable]:
    """Return our step and the plain one, from the same images at the same network; each returns images, gradient."""
    augmentation, key = _AUGMENTATION[part], jax.random.key(1)
    plain = Plain(model, augmentation)
    if part == "dm":
        method = DistributionMatching(model, augmentation=augmentation)

        def gradient(key, variables, synthetic, train):
            key_network, key_augment = jax.random.split(key)
            fresh = model.init(key_network)
            loss = jax.value_and_grad(method.loss, has_aux=True)
            return loss(synthetic.inputs, synthetic, key_augment, fresh, train)

        plain_gradient = lambda: plain.distribution_matching(key, synthetic, train)[1]
    else:
        method = GradientMatching(model, augmentation=augmentation)
        gradient = method.matching_gradient
        plain_gradient = lambda: plain.gradient_matching(key, variables, synthetic, train)[1]
    variables, optimizer = jax.jit(model.init)(jax.random.key(0)), method._optimizer()

    layout = sharding.layout()
    images = sharding.fetch(_matching.start(synthetic, augmentation, optimizer))
    fixed = layout.replicate((key, variables, train))

    @layout.compile
    def ours(images, key, variables, train):
        metrics, found = gradient(key, variables, images.synthetic, layout.split(train))
        return _matching.move(images, found, optimizer), (found, metrics)

    def our_step():
        moved, (found, _) = ours(layout.replicate(images), *fixed)
        return moved, found

    def plain_step():
        found = plain_gradient()
        return plain.move(synthetic.inputs, found, at_rest)[0], found

    at_rest = plain.start(synthetic)
    return our_step, plain_step


def _epochs(program: str, model: Model, synthetic: Synthetic, networks: int) -> Callable:
    """Return the training of ``networks`` networks for a few epochs; a set of at most 256 is one step an epoch."""
    plain = Plain(model, _AUGMENTATION["epoch"])
    if program == "plain":
        return lambda: [plain.epochs(seed, synthetic, _EPOCHS) for seed in range(networks)]
    recipe = training.Recipe(
        _EPOCHS, 256, "cross_entropy", "sgd", 0.01, weight_decay=5e-4, augmentation=_AUGMENTATION["epoch"]
    )
    return lambda: training.train_networks(jax.random.key(0), model, synthetic, recipe, networks)


def ratios(rows: list[dict]) -> str:
    same = lambda a, b: all(a[key] == b[key] for key in a if key in ("part", "ipc", "width", "batch", "networks"))
    pairs = [(row, other) for row in rows for other in rows if row["program"] == "ours" and other["program"] == "plain"]
    return "\n".join(
        f"{row['part']}, ipc {row['ipc']}, width {row['width']}, {row['networks']} networks, plain / ours: "
        f"{plain['seconds'] / row['seconds']:.2f}"
        for row, plain in pairs
        if same(row, plain)
    )


if __name__ == "__main__":
    _measure.main(__doc__, "matching_step", CASES, QUICK, measure, ratios)
