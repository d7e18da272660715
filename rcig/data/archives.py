"""A folder, a tar or a zip as one mapping from paths to contents.

An archive is read directly and its paths are only ever compared, never written to: a hostile name or link is no danger.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rcig.data import cache
from rcig.data.raw import one_line
from rcig.errors import UserError

Tree = Mapping[str, Callable[[], bytes]]  # from a file's path, with forward slashes, to a reader of its contents

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_FILE = 1 << 26  # bytes; nothing in a picture set comes near


@contextmanager
def opened(location: Path) -> Iterator[Tree]:
    """Open a folder or archive for reading; a tar is held in memory, as it cannot be read out of order quickly.

    Raises UserError for a broken archive or a file in it of more than 64 MiB.
    """
    try:
        if location.is_dir():
            yield {path.relative_to(location).as_posix(): path.read_bytes for path in cache.files_below(location)}
        elif zipfile.is_zipfile(location):
            with zipfile.ZipFile(location) as archive:
                infos = [info for info in archive.infolist() if not info.is_dir()]
                yield {
                    info.filename: partial(archive.read, info)
                    for info in infos
                    if _small(info.filename, info.file_size)
                }
        else:
            yield _tar(location)
    except (OSError, EOFError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{location} cannot be read ({one_line(error)}): fetch or make it again") from None


def _tar(location: Path) -> Tree:
    tree = {}
    with tarfile.open(location) as archive:
        for member in archive:
            if member.isreg() and _small(member.name, member.size):
                contents = archive.extractfile(member)
                tree[member.name] = partial(bytes, contents.read() if contents else b"")
    return tree


def _small(name: str, size: int) -> bool:
    if size > MAX_FILE:
        raise UserError(f"file {name} has {size} bytes, over {MAX_FILE}: this is not the archive it should be")
    return True
