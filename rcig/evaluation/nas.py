"""Architecture search: does a set rank networks as the whole training set does? A grid of ConvNets, each trained twice.

    python eval.py --distilled=runs/dc_cifar10_ipc10 --protocol=nas                            # 720 networks
    python eval.py --distilled=checkpoints/rcig_digits_ipc10 --protocol=nas --config.eval.preset=small

Zhao et al. 2021, section 4.4: every network of the grid is trained on the set (its proxy accuracy) and on the training
split (its reference accuracy), both asked about a held-out part of the training split; the test split is only
told what the network of the best proxy accuracy is worth after its reference training. `Nas.top` asks for Spearman's
correlation over the networks of the best reference accuracy, too: a proxy must above all rank good ones.

Reference accuracies do not depend on the set. They are kept in the file ``eval.reference``, from which a stopped search
goes on and the next set starts; without a file as long as the process lasts.

Deviations: networks of the reference, the chosen one too, do not learn the held-out part, the paper trains its choice
again on everything; the set may have been distilled from the held-out part, too, as the papers' were; they do not say
whose top networks they mean, ours are the reference's. On NAS-Bench-201 others found no or a negative correlation.
"""

import dataclasses
import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcig.errors import UserError, must_be_positive, unknown
from rcig.evaluation import _details, _reference, standard
from rcig.evaluation._details import OneRun, chart, measure, points
from rcig.evaluation._ranks import spearman
from rcig.evaluation.cross_arch import named_model
from rcig.evaluation.standard import Result, Standard, check_fits
from rcig.files import digest, json_digest
from rcig.training import Recipe, counted, forget, test_accuracy, train_networks
from rcig.types import Batch, Dataset, Key, Model, Synthetic

_PROGRAMS = 32  # networks whose compiled programs are kept for the next set: about 50 MB each

# endings of names, see rcig/models/_names.py: width, depth, activation, norm, pooling
GRIDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "paper": (
        ("W32", "W64", "W128", "W256"),
        ("D1", "D2", "D3", "D4"),
        ("AS", "AR", "AL"),
        ("NN", "BN", "LN", "IN", "GN"),
        ("NP", "MP", "AP"),
    ),
    "small": (("W8", "W32"), ("D1", "D2", "D3"), ("AS", "AR"), ("NN", "IN"), ("AP",)),
}


@dataclass(frozen=True)
class Nas(OneRun):
    """The options ``eval.*``: those of the standard protocol, for the proxies, and those of grid and reference."""

    num_networks: int = 1  # of each architecture, on the set
    grid: str = "paper"  # a name in GRIDS
    top: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5)  # shares of the grid, rounded up
    validation: float = 0.1  # the share of the training split that chooses
    reference: str = ""  # file of the reference accuracies; empty: eval.py's choice, else kept by the process
    reference_epochs: int = 200  # by DC's protocol: SGD, momentum 0.9, batches of 256
    reference_rate: float = 0.01
    reference_networks: int = 1  # of each architecture, on the rest of the training split
    reference_seed: int = 0  # also of the held-out part

    def __post_init__(self):
        super().__post_init__()
        if self.grid not in GRIDS:
            raise unknown("eval.grid", self.grid, GRIDS)
        must_be_positive("eval", self, "reference_epochs", "reference_networks")
        for name, share in (("validation", self.validation), *(("top", share) for share in self.top)):
            if not 0 < share < 1:
                raise UserError(f"eval.{name} must be shares between 0 and 1, not {share}")

    @property
    def names(self) -> tuple[str, ...]:
        """The networks' names, in the papers' spelling."""
        return tuple("ConvNet" + "".join(endings) for endings in product(*GRIDS[self.grid]))

    def reference_recipe(self, size: int) -> Recipe:
        """Return how a reference learns from ``size`` examples."""
        options = {"num_epochs": self.reference_epochs, "learning_rate": self.reference_rate}
        return Standard(**standard.PRESETS["dc"] | options).recipe(size, "")


_SMALL = {
    **{"grid": "small", "num_steps": 300, "learning_rate": 1e-3},
    **{"reference_epochs": 100, "reference_rate": 0.03},
    "validation": 0.3,  # of a small set, lest many networks be equal
}
PRESETS: dict[str, dict[str, Any]] = {"dc": _details.PRESETS["dc"]} | _details.PRESETS | {"small": _SMALL}


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: Nas) -> Result:
    """Train the grid on the set and, as far as ``eval.reference`` does not know them, on the training split.

    ``model`` is not used. A network's draws depend on its name and the key alone.
    Returns: the test accuracies of the reference's networks of the architecture that the set chose (the first of
    equally good ones). ``details`` holds ``chosen`` and ``best`` (by the reference), ``spearman`` over all and the
    top shares (None where it is undefined), seconds and bytes of the proxies, and ``networks``: each one's accuracies.
    Raises: UserError, before anything is trained, for a network that does not fit the examples.
    Cost: the sum of the architectures', each compiled twice.
    """
    del model
    check_fits(synthetic, dataset, protocol="nas")
    models = {name: named_model(name, dataset.example_shape, dataset.num_classes) for name in protocol.names}
    learned, held_out = split(dataset, protocol.validation, protocol.reference_seed)
    path = Path(protocol.reference) if protocol.reference else None
    _reference.read(path)  # what is wrong with it is said before the proxies are trained
    began = time.monotonic()
    judged = dataclasses.replace(dataset, test=held_out)
    proxies = {}
    for name, model in _in_turn(models):
        proxies[name] = standard.evaluate(_key(key, name), synthetic, judged, model, protocol).accuracy
    seconds = time.monotonic() - began
    references = _references(models, dataset, learned, held_out, protocol, path)
    told = {"seconds": round(seconds, 1), "bytes": 4 * (np.size(synthetic.inputs) + np.size(synthetic.labels))}
    details = told | compare(proxies, {name: one["validation"] for name, one in references.items()}, protocol.top)
    tests = {name: one["test"] for name, one in references.items()}
    details |= {"reference_seconds": round(sum(one["seconds"] for one in references.values()), 1)}
    details |= {"best_accuracy": float(np.mean(tests[details["best"]]))}
    details["measures"] |= {"accuracy of the best": measure(tests[details["best"]]), "seconds": {"mean": seconds}}
    details["model"] = f"{details['chosen']}, chosen of {len(models)}"
    return Result(np.array(tests[details["chosen"]]), protocol.augmentation, details=details)


def split(dataset: Dataset, share: float, seed: int) -> tuple[Batch, Batch]:
    """Return the training split without its held-out part, and that part: random rows, a function of the seed."""
    order = np.random.default_rng(seed).permutation(len(dataset.train.labels))
    count = math.ceil(share * len(order))
    inputs, labels = dataset.train.inputs, np.asarray(dataset.train.labels)
    rest, held_out = (Batch(inputs[rows], labels[rows]) for rows in (np.sort(order[count:]), np.sort(order[:count])))
    return rest, held_out


def compare(
    proxies: Mapping[str, float], references: Mapping[str, Sequence[float]], top: Sequence[float]
) -> dict[str, Any]:
    """Return what the accuracies, name -> accuracy (of each network, for a reference), say of the proxy.

    ``top`` shares are of the networks of the best reference accuracy; equals in the order of the grid.
    """
    names = list(proxies)
    proxy = np.array([proxies[name] for name in names])
    reference = np.array([np.mean(references[name]) for name in names])
    order = np.argsort(-reference, kind="stable")
    counts = {f"top {100 * share:g} %": math.ceil(share * len(names)) for share in top}
    found = {"all": spearman(proxy, reference)}
    found |= {label: spearman(proxy[order[:count]], reference[order[:count]]) for label, count in counts.items()}
    return {
        "chosen": names[int(np.argmax(proxy))],
        "best": names[order[0]],
        "spearman": found,
        "networks": {
            name: {"proxy": float(mine), "reference": float(whole)}
            for name, mine, whole in zip(names, proxy, reference, strict=True)
        },
        "measures": {f"Spearman, {label}": {"mean": value} for label, value in found.items()},
        "chart": chart(
            "accuracy after training on everything",
            "accuracy after training on the set",
            {"validation accuracies of the grid": {"": points(reference, proxy)}},
        ),
    }


def _references(
    models: Mapping[str, Model], dataset: Dataset, learned: Batch, held_out: Batch, protocol: Nas, path: Path | None
) -> dict[str, _reference.Reference]:
    """Return the reference of every network, of the file or trained now and then written to it."""
    recipe = protocol.reference_recipe(len(learned.labels))
    same = {
        "dataset": dataset.name,
        "preprocessing": dict(dataset.preprocessing),
        "recipe": dataclasses.asdict(recipe),
        "examples": len(learned.labels),
        "test": digest(np.asarray(dataset.test.labels)),
        "networks": protocol.reference_networks,
        "seed": protocol.reference_seed,
    }
    formats = {"precision": jax.config.jax_default_matmul_precision, "x64": jax.config.jax_enable_x64}
    same |= {name: value for name, value in formats.items() if value}  # what was kept under the defaults stays known
    if "data" not in dataset.preprocessing:  # a caller's own in Python, whose name says little
        same["inputs"] = digest(np.asarray(learned.inputs))
    whole = Synthetic(learned.inputs, jax.nn.one_hot(learned.labels, dataset.num_classes, dtype=jnp.float32))
    known, made = _reference.read(path), {}
    for name, model in _in_turn(models):
        told = json_digest(same | {"network": name})
        if told not in known:
            began, key = time.monotonic(), _key(jax.random.key(protocol.reference_seed), name)
            variables = train_networks(key, model, whole, recipe, protocol.reference_networks)
            parts = {"validation": held_out, "test": dataset.test}
            one = {
                part: test_accuracy(model, variables, of, protocol.test_chunk).tolist() for part, of in parts.items()
            }
            known = _reference.add(path, told, {"network": name, **one, "seconds": time.monotonic() - began})
        made[name] = known[told]
    return made


def _in_turn(models: Mapping[str, Model]) -> Iterator[tuple[str, Model]]:
    """Yield the networks, and say how many are done; memory holds the programs of the last few only."""
    for count, named in enumerate(counted(list(models.items()))):
        if count and count % _PROGRAMS == 0:
            forget()
        yield named


def _key(key: Key, name: str) -> Key:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


make = Nas
