"""Load a data set as host arrays in model-input space, with the way back to pixels or words.

dataset = rcig.data.load("digits")
dataset.train.inputs.shape, dataset.test.inputs.shape     # (1198, 8, 8, 1), (599, 8, 8, 1)
rcig.data.load("cifar10", data_dir="~/tensorflow_datasets", preprocessing="zca")
rcig.data.load("npz", path="mine.npz"), rcig.data.load("folder", path="pictures", resolution=32)
rcig.data.load("trec6"), rcig.data.load("tsv", path="mine.tsv", length=40)                    # text: see rcig.data.text
"""

from pathlib import Path
from typing import Any

import numpy as np

from rcig.data import cache, preprocess, sources
from rcig.data.raw import fingerprint
from rcig.errors import UserError
from rcig.files import local_path
from rcig.types import Batch, Dataset

__all__ = ["load"]


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    preprocessing: str = "default",
    cache_dir: str | Path | None = None,
    max_bytes: int = 8 * 2**30,
    **options: Any,
) -> Dataset:
    """Load data set ``name``; `python -m rcig.data list` shows the names.

    Args:
      data_dir: where prepared sets are; by default TFDS_DATA_DIR, else ~/tensorflow_datasets.
      preprocessing: ``none``, ``standard``, ``zca``, ``dc_standard``, ``mtt_zca``, ``mtt_standard``, or ``default``:
        what RCIG uses for that set.
      cache_dir: where decoded pixels and whitening matrices are kept; by default RCIG_CACHE, else ~/.cache/rcig.
      max_bytes: a split whose float32 inputs would be larger stays as it is and is encoded when rows are taken.
      options: of the set: ``path`` (npz, folder, tsv), ``test_path`` (tsv), ``test_fraction``, ``resolution``; of
        texts ``vocabulary``, ``length``, ``embedding_dim``, ``embeddings``.

    Returns inputs float32 (N, H, W, C), (N, ...) for your own arrays, (N, L, E) for texts, and labels int32 (N,).
    Raises UserError for unknown names and options, missing sets and broken files; never goes to the network.
    """
    from joblib import cpu_count
    from threadpoolctl import threadpool_limits

    data_folder = local_path(data_dir) if data_dir else None
    cache_folder = local_path(cache_dir or cache.default_folder())
    raw = sources.read(name, data_folder, cache_folder, options)

    def batch(inputs: np.ndarray, labels: np.ndarray) -> Batch:
        fits = inputs.size * 4 <= max_bytes or raw.embedding is not None  # which encodes when rows are taken, always
        encoded = fitted.encode(inputs) if fits else preprocess.EncodedRows(inputs, fitted.encode)
        if isinstance(encoded, np.ndarray) and not np.isfinite(encoded).all():
            raise UserError(f"data set {name} becomes infinite where it is scaled; set --config.preprocessing=none")
        return Batch(encoded, np.array(labels, np.int32))

    with threadpool_limits(cpu_count(), "blas"):  # a command leaves it one thread: see rcig/command.py
        fitted = preprocess.fit(preprocessing, name, raw, cache_folder)
        train, test = batch(raw.train_inputs, raw.train_labels), batch(raw.test_inputs, raw.test_labels)
    return Dataset(
        name=name,
        train=train,
        test=test,
        num_classes=len(raw.class_names),
        class_names=tuple(str(label) for label in raw.class_names),
        decode=fitted.decode,
        preprocessing=fitted.describe() | {"data": fingerprint(raw)},
        encode=fitted.encode,
    )
