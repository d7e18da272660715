"""Bring a data set to ``data_dir`` once, where there is a network: the only part of the data layer that uses one."""

import http.client
import importlib.util
import shutil
import tempfile
import urllib.request
from pathlib import Path

from rcig.data import records, sources
from rcig.data.raw import one_line
from rcig.errors import UserError
from rcig.files import disk_errors


def prepare(name: str, data_dir: Path) -> Path:
    """Download and prepare a data set, unless it is there; returns where it is.

    TFDS sets are written as array_record files, for which TensorFlow must be installed. Raises UserError, also for
    one that is there in another format.
    """
    source = sources.find(name)
    if source.locate is None:
        remedy = "it comes with scikit-learn" if not source.options else "it reads your own files, by path="
        raise UserError(f"data set {name!r} needs no preparation: {remedy}")
    if source.locate(data_dir) is None:
        folder = data_dir / source.folder
        with disk_errors(data_dir):
            folder.mkdir(parents=True, exist_ok=True)
        urls = [f"{source.url}/{file}" for file in source.files] or [source.url]
        for url in urls:
            _download(url, folder) if url else _prepare_tfds(source.tfds, data_dir)
    location = source.locate(data_dir)
    if location is None:
        raise UserError(f"data set {name!r} was prepared, but {source.sought} is not in {data_dir}: check that folder")
    if source.tfds:
        records.check_format(location)
    return location


def _prepare_tfds(name: str, data_dir: Path) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(f'preparing data set {name!r} needs TensorFlow: pip install ".[prepare]"')
    import tensorflow_datasets as tfds

    try:
        # TFDS writes TFRecord files by default, which cannot be read without TensorFlow
        tfds.builder(name, data_dir=data_dir, file_format="array_record").download_and_prepare()
    except AssertionError as error:  # of sets that have to be fetched by hand
        raise UserError(
            f"data set {name!r} cannot be prepared ({one_line(error)}): put its archives into "
            f"{data_dir / 'downloads' / 'manual'}"
        ) from None
    except (
        OSError,
        tfds.core.DatasetNotFoundError,
        tfds.download.DownloadError,
        tfds.download.download_manager.NonMatchingChecksumError,
    ) as error:
        raise UserError(f"data set {name!r} cannot be prepared in {data_dir} ({one_line(error)}): try again") from None


def _download(url: str, data_dir: Path) -> None:
    target = data_dir / url.rsplit("/", 1)[1]
    try:
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=f".{target.name}-") as folder:
            whole = Path(folder) / target.name
            with urllib.request.urlopen(url, timeout=60) as response, whole.open("wb") as file:
                shutil.copyfileobj(response, file)
                expected = response.headers.get("Content-Length")
            if expected is not None and whole.stat().st_size != int(expected):
                raise OSError(f"{whole.stat().st_size} of {expected} bytes arrived")
            whole.replace(target)  # only a whole archive ever has the name that is looked for
    except (OSError, http.client.HTTPException) as error:  # a URLError is an OSError
        remedy = f"try again, or put it into {data_dir}"
        raise UserError(f"{url} cannot be downloaded ({one_line(error)}): {remedy}") from None
