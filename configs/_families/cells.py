"""Names of cells: configs/dm.py:cifar10_ipc10 is the file's ``get_config("cifar10_ipc10")``."""


def parse(name: str) -> tuple[str, int, bool]:
    """Return data set, images per class, and whether it is for a few CPU cores: DATASET_ipcN or DATASET_ipcN_cpu."""
    dataset, _, ipc = name.removesuffix("_cpu").rpartition("_ipc")
    if not dataset or not ipc.isdecimal():
        raise ValueError(f"a cell is DATASET_ipcN or DATASET_ipcN_cpu, such as cifar10_ipc10, not {name!r}")
    return dataset, int(ipc), name.endswith("_cpu")
