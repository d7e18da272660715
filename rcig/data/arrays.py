"""Your own arrays from an .npz file: pictures, tables, embeddings. Nothing is unpickled.

np.savez("mine.npz", inputs=inputs, labels=labels)     # or train_inputs, train_labels, test_inputs, test_labels
rcig.data.load("npz", path="mine.npz", test_fraction=0.2)
"""

import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from rcig.data.raw import HELD_OUT, Raw, one_line, split, split_already
from rcig.errors import UserError
from rcig.files import local_path

_WHOLE = {"inputs", "labels"}
_SPLIT = {"train_inputs", "train_labels", "test_inputs", "test_labels"}


def read_npz(location: None, cache_dir: Path, path: str = "", test_fraction: float = 0.0) -> Raw:
    """Read an .npz of ``inputs, labels`` (a stratified share, a fifth, is held out) or of four train_ and test_ arrays.

    Inputs: uint8 (N, H, W) or (N, H, W, C), or floats (N, ...), in [0, 1] if they are images. Labels: integers (N,)
    in 0..K-1. An optional ``class_names`` is text (K,). Raises UserError naming the file, the array and the rule.
    """
    if not path:
        raise UserError("data set 'npz' needs path= an .npz file with arrays inputs and labels")
    found = _load(local_path(path))
    names = found.pop("class_names", None)
    if set(found) == _WHOLE:
        inputs, labels = _inputs("inputs", found, path), _labels("labels", found, path)
        if len(inputs) != len(labels):
            raise UserError(f"{path}: {len(inputs)} inputs but {len(labels)} labels: give one label each")
        return split(inputs, labels, test_fraction or HELD_OUT, _class_names(names, labels, path))
    if set(found) == _SPLIT:
        split_already(path, test_fraction)
        train_labels = _labels("train_labels", found, path)
        return Raw(
            _inputs("train_inputs", found, path),
            train_labels,
            _inputs("test_inputs", found, path),
            _labels("test_labels", found, path),
            _class_names(names, train_labels, path),
        )
    raise UserError(
        f"{path} must hold arrays {', '.join(sorted(_WHOLE))} or {', '.join(sorted(_SPLIT))} "
        f"(and class_names if you like), found {', '.join(sorted(found)) or 'none'}"
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's remarks on odd headers; what is wrong becomes an error below
            # our own handle: np.load leaves the one it opens open when the file is damaged
            with path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise ValueError("it is a single array, not an .npz of named arrays")
                return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"no file {path}: check path=") from None
    # All the ways in which NumPy and zipfile report damage; the file may come from a stranger.
    except (
        *(OSError, EOFError, ValueError, TypeError, KeyError, MemoryError, SyntaxError, RuntimeError, OverflowError),
        *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, UnicodeError),
    ) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}): save it again with numpy.savez") from None


def _inputs(name: str, found: dict[str, np.ndarray], path: str) -> np.ndarray:
    inputs = found[name]
    if inputs.dtype != np.uint8 and not np.issubdtype(inputs.dtype, np.floating):
        raise UserError(
            f"{path}: {name} must be uint8 or floating, got {inputs.dtype}: convert it, e.g. astype('uint8')"
        )
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3) and inputs.shape[3] > 4:
        told = f"{path}: {name} {inputs.shape} look like images (N, C, H, W); here channels are last: transpose them"
        warnings.warn(told, stacklevel=2)
    least = 3 if inputs.dtype == np.uint8 else 2
    if inputs.ndim < least or 0 in inputs.shape:
        kind = "uint8 images (N, H, W) or (N, H, W, C)" if least == 3 else "numbers (N, D) or (N, H, W, C)"
        raise UserError(f"{path}: {name} must be {kind}, none of them 0, got shape {inputs.shape}")
    if inputs.dtype == np.uint8:
        if inputs.ndim > 4:
            raise UserError(f"{path}: {name} must be uint8 images (N, H, W) or (N, H, W, C), got shape {inputs.shape}")
        return inputs[..., None] if inputs.ndim == 3 else inputs
    if inputs.ndim == 4 and inputs.shape[3] in (1, 3) and (inputs.min() < 0 or inputs.max() > 1):
        told = f"{path}: {name} are not in [0, 1] and are no pictures; if they are, divide by 255, or give uint8"
        warnings.warn(told, stacklevel=2)
    with np.errstate(over="ignore"):  # an overflow becomes Inf, which ``check`` refuses
        return inputs.astype(np.float32)


def _labels(name: str, found: dict[str, np.ndarray], path: str) -> np.ndarray:
    labels = found[name]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path}: {name} must be integers of shape (N,), got {labels.dtype} of shape {labels.shape}")
    most = np.inf if name == "test_labels" else labels.size  # training rows: a class has one at least
    if labels.size and (labels.min() < 0 or labels.max() >= most):
        raise UserError(f"{path}: {name} must be class numbers 0..K-1, got {labels.min()}..{labels.max()}")
    return labels.astype(np.int32)


def _class_names(names: np.ndarray | None, labels: np.ndarray, path: str) -> np.ndarray:
    num_classes = int(labels.max(initial=-1)) + 1
    if names is None:
        return np.array([str(label) for label in range(num_classes)])
    if names.shape != (num_classes,) or names.dtype.kind != "U":
        raise UserError(f"{path}: class_names must be text of shape ({num_classes},), got {names.dtype}{names.shape}")
    return names
