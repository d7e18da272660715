"""Cross-architecture: is a set good for other networks, too? The standard evaluation, with every network of a pool.

    python eval.py --distilled=checkpoints/dsa_mnist_ipc10 --protocol=cross_arch
    python eval.py --distilled=runs/quickstart --protocol=cross_arch --config.eval.architectures=ConvNetD2,MLP

Pools and names are those of DC's command line (Zhao et al. 2021), see rcig/models/_names.py: M, different families;
B, families with batch norm; W, D, A, P, N, ConvNets by width, depth, activation, pooling and norm. Every network is
trained from nothing under the options of `rcig.evaluation.standard`; the preset by which a set is judged there stays.

Deviation from DC's script: it trains ConvNetBN of DC's sets with ``dc:crop_noise``; here one augmentation is for all.
"""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from rcig.errors import UserError, unknown
from rcig.evaluation import standard
from rcig.evaluation.standard import Result, Standard
from rcig.lookup import find
from rcig.models._names import POOLS, network
from rcig.training import counted
from rcig.types import Dataset, Key, Model, Synthetic

PRESETS = standard.PRESETS


@dataclass(frozen=True)
class CrossArch(Standard):
    """The options ``eval.*``: those of the standard protocol, and whom to ask."""

    pool: str = "M"  # M, B, W, D, A, P, N
    architectures: str = ""  # instead of a pool: names with commas between, such as "ConvNetW32,ResNet18BN_AP"

    def __post_init__(self):
        super().__post_init__()
        for name in self.names:
            network(name)  # checks it

    @property
    def names(self) -> tuple[str, ...]:
        """The networks' names, in the papers' spelling."""
        if self.architectures:
            names = tuple(name.strip() for name in self.architectures.split(","))
            if len(set(names)) < len(names):
                raise UserError(f"eval.architectures must name each network once, not {self.architectures}")
            return names
        if self.pool not in POOLS:
            raise unknown("eval.pool", self.pool, POOLS)
        return POOLS[self.pool]


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: CrossArch) -> Result:
    """Train and test ``num_networks`` of each architecture; ``model`` is not used.

    Returns: the mean accuracy of each architecture, in order; ``details["architectures"]`` maps its name to {accuracy,
    std, n} over its networks. An architecture's networks draw the same keys in every pool.
    Raises: UserError, before anything is trained, for one that does not fit the examples.
    Cost: the sum of the architectures'; each is compiled once.
    """
    del model
    models = {name: named_model(name, dataset.example_shape, dataset.num_classes) for name in protocol.names}
    key_of = lambda name: jax.random.fold_in(key, zlib.crc32(name.encode()))
    results = {
        name: standard.evaluate(key_of(name), synthetic, dataset, model, protocol)
        for name, model in counted(list(models.items()))
    }
    collected = _collect(list(results.values()))
    details = {"model": ", ".join(results), "architectures": {name: one.summary() for name, one in results.items()}}
    return Result(collected.accuracies, collected.augmentation, collected.augmented, details)


@functools.cache  # equal models, so that the next set is evaluated without compiling
def named_model(name: str, example_shape: tuple[int, ...], num_classes: int) -> Model:
    """Make a network by its name in the papers, see rcig/models/_names.py."""
    plugin, options = network(name)
    return find("rcig.models", plugin).make(example_shape, num_classes, **options)


def _collect(results: Sequence[Result]) -> Result:
    """Return the means, and those of the runs with augmentation where both were asked for."""
    augmented = [result.augmented for result in results if result.augmented]
    means = np.array([result.accuracy for result in results])
    return Result(means, results[0].augmentation, _collect(augmented) if augmented else None)


make = CrossArch
