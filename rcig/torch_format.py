"""PyTorch's files (`torch.save`), read without PyTorch and without running anything that a file brings; and written.

    content = load(Path("res_DC_MNIST_ConvNet_1ipc.pt"))  # dicts, lists, numbers and texts; tensors are numpy arrays
    Path("images.pt").write_bytes(dump(images))           # torch.load("images.pt") is a tensor

Such a file is a zip archive: <name>/data.pkl, a pickle of protocol 2 in which a persistent id stands for the memory of
a tensor, that memory as raw bytes in <name>/data/<key>, and perhaps <name>/byteorder. A pickle is a program; this one
may only build containers, tensors and numpy's scalars: every other opcode is refused before the first one is executed,
every other global when it is asked for, and what a file names is never imported.
"""

import collections
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcig.errors import UserError

_MAX_PICKLE = 2**24  # bytes of structure; the numbers lie elsewhere
_REMEDY = "only tensors are read from strangers; open it where you trust it and save its tensors alone"
_OPCODES = frozenset(
    "PROTO STOP MARK GLOBAL REDUCE BUILD BINPERSID BINPUT LONG_BINPUT BINGET LONG_BINGET "
    "EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "BINUNICODE BININT BININT1 BININT2 LONG1 BINFLOAT NONE NEWTRUE NEWFALSE".split()
)
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SCALARS = {"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"}


def dump(array: np.ndarray) -> bytes:
    """Return a file that holds a float32 array as one tensor, as torch.save writes it (also for ``weights_only``)."""
    array = np.ascontiguousarray(array, "<f4")
    strides = [stride // array.itemsize for stride in array.strides]
    number = lambda n: b"J" + struct.pack("<i", n) if n < 2**31 else b"\x8a\x08" + struct.pack("<q", n)
    numbers = lambda shape: b"(" + b"".join(map(number, shape)) + b"t"
    text = lambda name: b"X" + struct.pack("<I", len(name)) + name
    storage = (
        b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + number(array.size) + b"tQ"
    )
    tensor = storage + number(0) + numbers(array.shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)R"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"tR.")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


class _Storage(NamedTuple):
    """The memory of a tensor; no pickle can build one but by a persistent id."""

    array: np.ndarray  # (n,)


class _Dtype:
    """A numpy dtype as a pickle describes it."""

    def __init__(self, name: str, *flags: Any):
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment; what the scalars of _SCALARS have is known."""


def load(path: Path) -> Any:
    """Return what a file of `torch.save` (version 1.6 or later) holds; tensors are read-only views of its bytes.

    Raises: UserError that names an opcode or a global that is not allowed; any Exception for a file broken otherwise.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("no zip archive; if PyTorch before 1.6 wrote it, save it again with a later one")
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in entries.values())
        if not stored or sum(info.file_size for info in entries.values()) > path.stat().st_size:
            raise ValueError("its entries must not be compressed and must not overlap")
        roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1 or entries[f"{roots[0]}data.pkl"].file_size > _MAX_PICKLE:
            raise ValueError(f"it must hold one data.pkl of at most {_MAX_PICKLE} bytes")
        files = {name.removeprefix(roots[0]): archive.read(name) for name in entries}
    data = files["data.pkl"]
    _check_opcodes(data, str(path))
    return _Unpickler(data, files, str(path)).load()


def _check_opcodes(data: bytes, name: str) -> None:
    """Raise UserError for an opcode that no file of tensors has, or one that reserves memory without bound."""
    for opcode, argument, place in pickletools.genops(data):
        if opcode.name not in _OPCODES or (opcode.name == "LONG_BINPUT" and int(argument or 0) > len(data)):
            raise UserError(f"{name} must hold tensors only but has pickle opcode {opcode.name} at {place}; {_REMEDY}")


class _Unpickler(pickle.Unpickler):
    """Builds what ``_GLOBALS`` knows and nothing else."""

    def __init__(self, data: bytes, files: Mapping[str, bytes], name: str):
        super().__init__(io.BytesIO(data))
        self._files, self._name = files, name
        self._storages: dict[tuple[str, str], _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a global stands for, never the global itself."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known = _GLOBALS.get(f"{module}.{name}")
        if known is None:
            raise UserError(f"{self._name} must hold tensors only but asks for {module}.{name}; {_REMEDY}")
        return lambda *args: known(*args)  # a new one each time: BUILD may change attributes of what it is given

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that ("storage", type, key, device, number of elements) means."""
        kind, number_type, key, _, size = pid
        if kind != "storage" or number_type not in _STORAGES.values():
            raise ValueError("a persistent id that is no storage")
        if (key, number_type) not in self._storages:
            order = ">" if self._files.get("byteorder") == b"big" else "<"
            dtype, data = np.dtype(order + number_type), self._files[f"data/{key}"]
            if len(data) != size * dtype.itemsize:
                raise ValueError(f"storage {key} has {len(data)} bytes, not {size} of {dtype}")
            self._storages[key, number_type] = _Storage(np.frombuffer(data, dtype))
        return self._storages[key, number_type]


def _tensor(storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> np.ndarray:
    """Return a view of a storage, all of which lies inside it. Args: strides in elements."""
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise ValueError("a tensor without storage or strides")
    if any(type(n) is not int or n < 0 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor's offset, shape and strides must be whole numbers from 0")
    array = storage.array
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if 0 in shape:
        return np.zeros(shape, array.dtype)
    if last >= array.size or math.prod(shape) > array.size:
        raise ValueError(f"a tensor of shape {tuple(shape)} is more than its storage of {array.size} holds")
    steps = [stride * array.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(array[offset:], shape, steps, writeable=False)


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    """Return a numpy scalar, as which accuracies are saved, as Python's."""
    if not isinstance(dtype, _Dtype) or dtype.name not in _SCALARS:
        raise ValueError("a numpy scalar must be a number")
    return np.frombuffer(data, "<" + dtype.name, 1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that protocol 2 writes as text."""
    if encoding != "latin1":
        raise ValueError(f"bytes written as {encoding}")
    return text.encode("latin1")


_GLOBALS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encode,
}
