"""Distilled sets made elsewhere, and ours for elsewhere: one function a format, found by its name.

Example:
    distilled = read("checkpoint_15000", "rcig", num_classes=10)  # (M, H, W, C) and (M, 10), class-major
    export(distilled, "set.safetensors")                          # or "set.npz"; the card travels along

rcig, frepo        Flax checkpoints of these references
vico               res_*.pt of DC, DSA and DM: the last experiment's images (M, C, H, W) and class numbers
mtt                images_best.pt, with labels_best.pt beside it and perhaps lr_best.pt (MTT, TESLA, DATM; DD-Ranking's
                   images.pt, labels.pt, lr.pt); labels (M, K) are logits and become their softmax
idc, idc_i         data.pt of IDC, a list [images, class numbers] of pixels in [0, 1], an image holding 2 x 2 examples,
                   from 128 pixels on 3 x 3; of IDC-I one
kip                npz of KIP: images (M, H, W, C) and centred labels
npz, safetensors   ours, and anybody's with images (or inputs) and labels

Inputs stay in the space of their maker: preprocess test examples alike (KIP's images have unit norm; VICO's sets want
preprocessing dc_standard, MTT's mtt_zca or mtt_standard, which no file says). IDC's pixels are encoded as real ones.
"""

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcig import torch_sets
from rcig.card import Distilled, check, new_card, seal
from rcig.errors import UserError, unknown
from rcig.files import write
from rcig.torch_sets import Arrays
from rcig.types import Synthetic

_OURS = b"rcig"  # the comment of the archives that we write
_MAX_BYTES = 16 * 2**30  # of a file, and of what a compressed file claims to unpack to
_NAMES = {"images": "inputs", "x": "inputs", "y": "labels"}  # what others call ours


class Content(NamedTuple):
    """What a file holds, unchecked."""

    path: Path
    format: str
    arrays: Arrays  # under the names of their maker
    card: Any  # ours, or None where the file has none


def read(path: Path, format: str, num_classes: int, encode: Callable[[Any], Any] = np.asarray) -> Distilled:
    """Read a distilled set from a file of another program, checked.

    Args: format, one of ``FORMATS``; num_classes, K; encode, of the data set, from pixels in [0, 1], for formats that
    hold these.
    Returns inputs (M, ...) in the model-input space of their maker, labels (M, K). Raises UserError for any bad file.
    """
    content = parse(path, format)
    distilled = own(content)
    if distilled is None:
        return adopt(content, num_classes, encode)
    if distilled.card["num_classes"] != num_classes:
        found = distilled.card["num_classes"]
        raise UserError(f"{path} has {found} classes, the data set {num_classes}; choose its own")
    return distilled


def parse(path: Path, format: str) -> Content:
    """Read a file as one of ``FORMATS``. Raises UserError for any bad file."""
    path = Path(path)
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if not path.is_file():
        raise UserError(f"{path} must be a file of format {format!r} but {_what(path)}; check the path")
    if path.stat().st_size > _MAX_BYTES:
        raise UserError(f"{path} must be at most {_MAX_BYTES} bytes, it has {path.stat().st_size}")
    try:
        return Content(path, format, *FORMATS[format](path))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # which bits are wrong decides which type of error a decoder raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path} must be a file of format {format!r} but is not ({reason}); fetch it again") from error


def own(content: Content) -> Distilled | None:
    """Return a set of ours with the config on its card, checked; None where there is no card of ours."""
    return None if content.card is None else check(content.arrays, content.card, str(content.path))


def adopt(
    content: Content,
    num_classes: int,
    encode: Callable[[Any], Any] = np.asarray,
    about: Mapping[str, Any] | None = None,
) -> Distilled:
    """Give a foreign set our names, layout and a card, checked.

    Images whose channels, 1 or 3, are not the last axis but the second are turned; rows become class-major where their
    labels say of which class they are. Args: as in `read`; about, fields of the card that the caller knows.
    """
    path, format = content.path, content.format
    named = {_NAMES.get(key, key): value for key, value in content.arrays.items()}
    if format in PIXELS:
        try:
            named["inputs"] = encode(named["inputs"])
        except ValueError:
            shape = np.shape(named["inputs"])
            raise UserError(f"{path}: the data set has no images {shape[1:]}; choose the one it was made for") from None
    inputs, labels = (_real(named.get(key), key, path) for key in ("inputs", "labels"))
    if inputs.ndim == 4 and inputs.shape[-1] not in (1, 3):
        if inputs.shape[1] not in (1, 3):
            raise UserError(
                f"{path}: images {inputs.shape} must have 1 or 3 channels, as their last axis or the second"
            )
        inputs = inputs.transpose(0, 2, 3, 1)
    if inputs.ndim < 2 or inputs.dtype.kind != "f":
        raise UserError(f"{path}: inputs {inputs.dtype}{inputs.shape} must be floats (M, ...) in model-input space")
    if labels.ndim == 1:
        labels = _one_hot(labels, num_classes, path)
    fits = labels.shape == (len(inputs), num_classes)
    order, groups = _class_major(labels, num_classes, format in _ORDERED) if fits else ((), ())
    rates = _rates(named.get("learning_rates"), path)
    parts = np.size(rates, -1) if np.ndim(rates) else 1  # of a schedule, whose rows are in order
    if not groups or parts > 1 and np.any(np.diff(order) < 0):
        raise UserError(
            f"{path}: inputs {inputs.shape} and labels {labels.shape} must have the same number of rows, a multiple of "
            f"num_classes = {num_classes} or as many of each class that there is, one class after the other, and "
            f"labels {num_classes} columns; choose the data set it was made for"
        )
    fields: dict[str, Any] = dict(
        method=format,
        config={},
        dataset="unknown",
        ipc=len(inputs) // len(groups),
        num_classes=num_classes,
        class_names=[str(k) for k in range(num_classes)],
        preprocessing={"kind": "unknown"},
        pixel_space=_SPACES.get(format, "unknown"),
        seed=0,
        step=0,
        init_labels=() if len(groups) == num_classes else groups,
    )
    card = new_card(**fields | dict(about or {})) | {"source": path.name}
    return seal(Synthetic(inputs[order], labels[order], rates), card)


def export(distilled: Distilled, path: Path) -> None:
    """Write a set to one file, ``.npz`` or ``.safetensors`` by its suffix, with the card inside."""
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise unknown("suffix", path.suffix, _WRITERS)
    arrays = {k: v for k, v in distilled.synthetic._asdict().items() if v is not None}
    if (size := sum(array.nbytes for array in arrays.values())) > _MAX_BYTES:
        raise UserError(
            f"a file must be at most {_MAX_BYTES} bytes to be read again, the set has {size}; copy its folder"
        )
    write(path, _WRITERS[path.suffix](arrays, json.dumps(distilled.card, sort_keys=True, allow_nan=False)))


def _rcig(path: Path) -> tuple[Arrays, None]:
    """Read a checkpoint of the RCIG reference (Flax msgpack); the moving average is what its paper evaluates."""
    return _prototypes(path, "ema_average"), None


def _frepo(path: Path) -> tuple[Arrays, None]:
    """Read a checkpoint of the FRePo reference (Flax msgpack), which keeps no average."""
    return _prototypes(path, "params"), None


def _npz(path: Path) -> tuple[Arrays, Any]:
    """Read a zip of npy arrays: images (or inputs), labels, perhaps learning_rates and our card."""
    with zipfile.ZipFile(path) as archive:
        known = {"inputs", "labels", "learning_rates", "card", *_NAMES}
        names = {n: n.removesuffix(".npy") for n in archive.namelist() if n.removesuffix(".npy") in known}
        if sum(archive.getinfo(name).file_size for name in names) > _MAX_BYTES:
            raise ValueError(f"it claims to hold more than {_MAX_BYTES} bytes")
        arrays = {key: _npy(archive.read(name)) for name, key in names.items()}
        if archive.comment == _OURS and "card" not in arrays:  # a broken directory hides entries
            raise ValueError("its card is missing")
    card = arrays.pop("card", None)
    return arrays, None if card is None else json.loads(card.tobytes())


def _safetensors(path: Path) -> tuple[Arrays, Any]:
    """Read a safetensors file: the names of npz, our card in the metadata."""
    import safetensors

    with safetensors.safe_open(path, framework="numpy") as file:
        card = (file.metadata() or {}).get("card")
        return {key: file.get_tensor(key) for key in file.keys()}, None if card is None else json.loads(card)


FORMATS: dict[str, Callable[[Path], tuple[Arrays, Any]]] = {
    "rcig": _rcig,
    "frepo": _frepo,
    "vico": torch_sets.vico,
    "mtt": torch_sets.mtt,
    "idc": torch_sets.idc,
    "idc_i": torch_sets.idc_i,
    "kip": _npz,
    "npz": _npz,
    "safetensors": _safetensors,
}
PIXELS = ("idc", "idc_i")  # formats that hold pixels, not model inputs
_ORDERED = ("rcig", "frepo")  # formats whose row i is of class i // ipc, whatever its label has become
_SPACES = {"vico": "dc_standard"}  # format -> pixel space; of the others it depends


def _prototypes(path: Path, tree: str) -> Arrays:
    """Read ``x_proto`` and ``y_proto`` of one subtree of a Flax msgpack file (arrays are views of its bytes)."""
    import flax.serialization

    content = flax.serialization.msgpack_restore(path.read_bytes())
    subtree = content.get(tree) if isinstance(content, dict) else None
    if not isinstance(subtree, dict) or not {"x_proto", "y_proto"} <= subtree.keys():
        raise ValueError(f"it has no {tree}/x_proto and {tree}/y_proto")
    return {"inputs": subtree["x_proto"], "labels": subtree["y_proto"]}


def _npy(data: bytes) -> np.ndarray:
    """Decode a npy file, once its header claims no more than there is; object arrays (pickles) are refused."""
    file = io.BytesIO(data)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = header[np.lib.format.read_magic(file)](file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"an array of shape {shape} and dtype {dtype} does not fit its {len(data)} bytes")
    return np.load(io.BytesIO(data), allow_pickle=False)


def _class_major(labels: np.ndarray, num_classes: int, ordered: bool) -> tuple[np.ndarray, list[int]]:
    """Return the order in which rows are class-major, and the classes of its equal groups: none where there are none.

    Learned labels need not say it: where rows allow, these come as they are, for all classes, as those of formats that
    are ``ordered`` do.
    """
    classes = np.argmax(labels, axis=1)
    present, counts = np.unique(classes, return_counts=True)
    hard = np.all(np.sum(labels == labels.max(axis=1, keepdims=True), axis=1) == 1) and len(np.unique(labels)) == 2
    told = not ordered and (hard or len(present) == num_classes or len(labels) % num_classes)
    if len(labels) and told and np.all(counts == counts[0]):
        return np.argsort(classes, kind="stable"), present.tolist()
    whole = len(labels) and len(labels) % num_classes == 0 and (ordered or not hard)
    return np.arange(len(labels)), list(range(num_classes)) if whole else []


def _real(array: Any, key: str, path: Path) -> np.ndarray:
    """Return an array of real numbers, or raise UserError."""
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise UserError(f"{path}: {key} must be an array of real numbers, not {_kind(array)}; check the format")
    return array


def _rates(array: Any, path: Path) -> np.ndarray | None:
    """Return learned rates, if any; a single one as a matrix, as ours are. Raises UserError for what is no numbers."""
    rates = None if array is None else _real(array, "learning_rates", path)
    return rates.reshape(1, 1) if rates is not None and rates.size == 1 else rates


def _one_hot(labels: np.ndarray, num_classes: int, path: Path) -> np.ndarray:
    """Return class numbers (M,) as targets (M, K)."""
    if labels.dtype.kind not in "iu" or not labels.size or labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(f"{path}: labels must be whole numbers from 0 to {num_classes - 1}; check the data set")
    return np.eye(num_classes, dtype=np.float32)[labels]


def _kind(value: Any) -> str:
    return "missing" if value is None else f"{getattr(value, 'dtype', type(value).__name__)}"


def _what(path: Path) -> str:
    return "is a folder" if path.is_dir() else "does not exist"


def _write_npz(arrays: Arrays, card: str) -> bytes:
    buffer = io.BytesIO()
    named: dict[str, Any] = {**arrays, "card": np.frombuffer(card.encode(), np.uint8)}
    np.savez(buffer, **named)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = _OURS
    return buffer.getvalue()


def _write_safetensors(arrays: Arrays, card: str) -> bytes:
    import safetensors.numpy

    return safetensors.numpy.save(arrays, metadata={"card": card})


_WRITERS: dict[str, Callable[[Arrays, str], bytes]] = {".npz": _write_npz, ".safetensors": _write_safetensors}
