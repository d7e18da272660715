"""Names of cells: configs/dm.py:cifar10_ipc10 is the file's ``get_config("cifar10_ipc10")``."""

import re


def parse(name: str) -> tuple[str, int, bool]:
    """Return data set, images per class, and whether it is for a few CPU cores: DATASET_ipcN or DATASET_ipcN_cpu."""
    parts = re.fullmatch(r"(\w+)_ipc(\d+)(_cpu)?", name)
    if parts is None:
        raise ValueError(f"a cell is DATASET_ipcN or DATASET_ipcN_cpu, such as cifar10_ipc10, not {name!r}")
    return parts[1], int(parts[2]), parts[3] is not None
