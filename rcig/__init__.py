"""Dataset distillation in JAX: turn a training set into a few synthetic examples.

    import rcig
    d = rcig.load("runs/mnist")          # d.inputs, d.labels, d.card
    rcig.evaluate(d)                     # fresh networks, the protocol of the set's own config
    rcig.save("mine", d.synthetic, d.card)

Names are loaded when they are first used, so importing the package is cheap.
"""

import importlib

_PUBLIC = {
    "Distilled": "rcig.artefact",
    "load": "rcig.artefact",
    "save": "rcig.artefact",
    "evaluate": "rcig.measure",
    "Batch": "rcig.types",
    "Dataset": "rcig.types",
    "Synthetic": "rcig.types",
    "UserError": "rcig.errors",
}

__all__ = sorted(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    try:
        return importlib.import_module(f"rcig.{name}")  # rcig.data, rcig.unroll, ...
    except ModuleNotFoundError as error:
        if error.name != f"rcig.{name}":
            raise
    raise AttributeError(f"module 'rcig' has no attribute {name!r}")


def __dir__():
    return __all__
