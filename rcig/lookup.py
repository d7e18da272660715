"""Plug-ins are found by their file name: there is no registry to edit.

``find("methods", "rcig")`` imports ``methods/rcig.py``; a file or folder whose name begins with ``_`` is not a plug-in.
"""

import importlib
import pkgutil
from types import ModuleType

from rcig.errors import unknown


def names(package: str) -> list[str]:
    """Return the names of all plug-ins of a package, sorted."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))


def find(package: str, name: str) -> ModuleType:
    """Import plug-in ``name`` of ``package``. Raises UserError that lists the known names."""
    known = names(package)
    if name not in known:
        raise unknown(package.rsplit(".")[-1].rstrip("s"), name, known)
    return importlib.import_module(f"{package}.{name}")
