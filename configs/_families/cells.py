"""Names of cells, and what data sets have in common: configs/dm.py:cifar10_ipc10 is its get_config("cifar10_ipc10")."""

GREY = ("mnist", "fashion_mnist", "digits", "usps")
_TEN = (*GREY, "mnist_rgb", "svhn_cropped", "cifar10", "imagenette", "imagewoof")
_NUM_CLASSES = dict.fromkeys(_TEN, 10) | {
    **{"cifar100": 100, "tiny_imagenet": 200, "caltech_birds2011": 200},
    **{"imagenet_resized/64x64": 1000, "imagenet2012": 1000},
}
WRITTEN = ("mnist", "mnist_rgb", "svhn_cropped", "digits", "usps")  # a mirrored digit is another one, or none


def num_classes(dataset: str) -> int:
    """Return how many classes an image data set has. Raises ValueError where a config cannot know."""
    if dataset not in _NUM_CLASSES:
        raise ValueError(f"its settings depend on the number of classes, which is known for {', '.join(_NUM_CLASSES)}")
    return _NUM_CLASSES[dataset]


def nearest(published: dict[tuple[str, int], tuple], dataset: str, ipc: int) -> tuple[str, int]:
    """Return the published (data set, images per class) whose options a cell takes: its data set's, else CIFAR-10's."""
    known = [cell for cell in published if cell[0] == dataset] or [cell for cell in published if cell[0] == "cifar10"]
    return min(known, key=lambda cell: max(cell[1], ipc) / min(cell[1], ipc))


def parse(name: str) -> tuple[str, int, bool]:
    """Return data set, images per class, and whether it is for a few CPU cores: DATASET_ipcN or DATASET_ipcN_cpu."""
    dataset, _, ipc = name.removesuffix("_cpu").rpartition("_ipc")
    if not dataset or not ipc.isdecimal() or int(ipc) < 1:
        raise ValueError(
            f"a cell is DATASET_ipcN or DATASET_ipcN_cpu, N at least 1, such as cifar10_ipc10, not {name!r}"
        )
    return dataset, int(ipc), name.endswith("_cpu")
