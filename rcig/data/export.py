"""Write a prepared TFDS set, which ``tfds.builder_from_directory(folder).as_data_source("train")`` reads again.

TFDS's own `store_as_tfds_dataset` does the same but needs TensorFlow; this does not.
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rcig.card import Distilled
from rcig.errors import UserError
from rcig.files import check_new, disk_errors

Rows = Iterable[Mapping[str, Any]]


def distilled(set_: Distilled, folder: Path, class_names: tuple[str, ...]) -> Path:
    """Write a distilled set: features ``inputs``, ``labels`` (raw targets) and ``label``, the class a row started from.

    Returns the folder ``folder/<version>`` to read. Raises UserError where ``folder`` holds something.
    """
    import tensorflow_datasets as tfds

    check_new(folder)
    if len(set(class_names)) < len(class_names):
        raise UserError("TFDS wants classes of different names; convert to .npz, or name them in the data")
    features = {
        "inputs": tfds.features.Tensor(shape=set_.inputs.shape[1:], dtype=np.float32),
        "labels": tfds.features.Tensor(shape=set_.labels.shape[1:], dtype=np.float32),
        "label": tfds.features.ClassLabel(names=class_names),
    }
    classes = [set_.classes[row // set_.card["ipc"]] for row in range(len(set_.inputs))]
    rows = [
        {"inputs": np.asarray(x), "labels": np.asarray(y), "label": int(label)}
        for x, y, label in zip(set_.inputs, set_.labels, classes, strict=True)
    ]
    return write(folder.parent, folder.name, features, {"train": rows})


def write(
    data_dir: Path,
    name: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Rows],
    config: str = "",
    version: str = "1.0.0",
) -> Path:
    """Write splits of rows, whose fields are TFDS features, as array_record files. Returns the version's folder."""
    import tensorflow_datasets as tfds

    with disk_errors(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)  # TFDS lists it before it makes it
    body = {
        "VERSION": tfds.core.Version(version),
        "BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=config)] if config else [],
        "_info": lambda self: self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features)),
        "_split_generators": lambda self, manager: {split: enumerate(rows) for split, rows in splits.items()},
        "_generate_examples": lambda self, rows: rows,
        "pkg_dir_path": data_dir,
        "__module__": __name__,
    }
    with tfds.core.registered.skip_registration():
        builder_class = type(name, (tfds.core.GeneratorBasedBuilder,), body)
    builder_class.name = name
    builder = builder_class(data_dir=data_dir, file_format="array_record", **({"config": config} if config else {}))
    with disk_errors(data_dir), tempfile.TemporaryDirectory() as nothing:  # is downloaded, but the folder is made
        settings = tfds.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(download_dir=nothing, download_config=settings)
    return Path(builder.data_dir)
