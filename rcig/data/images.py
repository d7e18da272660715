"""From compressed bytes to a uint8 array: one decoder (Pillow) for every source, so that a digest means one thing.

Resizing is by area, as the RCIG reference does: an output pixel is the mean of the input area it covers, fractions
included. From 6 pixels to 4, output pixel 0 is (2/3) input 0 + (1/3) input 1.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from rcig.data.cache import scratch
from rcig.data.raw import one_line
from rcig.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VERSION = 2  # of the rule from bytes to pixels: what a cache holds of another is made again
MAX_PIXELS = 1 << 26  # a larger picture is taken for a decompression bomb
_CHUNK = 256  # pictures one thread decodes at a time
_TURNS = {  # EXIF's orientation -> what sets it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Named = tuple[str, bytes]  # what to call a picture in an error, and its bytes


def decode(name: str, data: bytes, channels: int = 3, resolution: int | None = None) -> np.ndarray:
    """Decode a picture's bytes to (H, W, channels) uint8; with a resolution: centre square, area resize to it.

    It is turned as its camera says, if that can be read, and lies on white where it is transparent, as viewers show it.
    Raises UserError, naming the picture, for bytes that are no picture, 16-bit ones or more than 2**26 pixels.
    """
    with _opened(name, data) as image:
        mode, upright = "L" if channels == 1 else "RGB", _upright(image)
        if upright.has_transparency_data:
            coloured = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
        pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    return pixels if resolution is None else area_resize(centre_square(pixels), resolution)


def decode_all(
    load: Callable[[Sequence[int]], Sequence[Named]],
    count: int,
    channels: int,
    resolution: int | None,
    cache_dir: Path,
) -> np.ndarray:
    """Decode ``count`` pictures of one size in threads, to (count, H, W, channels) uint8.

    ``load(rows)`` returns the names and bytes of some rows. More than a gigabyte is kept on the cache's disk, in a file
    without a name, not in memory. Raises UserError when sizes differ, naming two pictures.
    """
    first_name, first_data = load([0])[0]
    shape = decode(first_name, first_data, channels, resolution).shape
    pictures = scratch(cache_dir, (count, *shape))

    def fill(start: int) -> None:
        rows = range(start, min(start + _CHUNK, count))
        for row, (name, data) in zip(rows, load(rows), strict=True):
            picture = decode(name, data, channels, resolution)
            if picture.shape != shape:
                sizes = f"{first_name} is {shape[0]}x{shape[1]}, {name} is {picture.shape[0]}x{picture.shape[1]}"
                raise UserError(f"pictures must have one size, but {sizes}: pass resolution=, e.g. resolution=32")
            pictures[row] = picture

    with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 1)) as pool:  # Pillow releases the interpreter's lock
        list(pool.map(fill, range(0, count, _CHUNK)))
    return pictures


def is_grey(name: str, data: bytes) -> bool:
    """Return whether a picture has no colour channels, by its header alone. Raises UserError as ``decode`` does."""
    with _opened(name, data) as image:
        return image.mode in ("1", "L", "LA")


def centre_square(pixels: np.ndarray) -> np.ndarray:
    """Return the largest centred square of an (H, W, C) image."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def area_resize(pixels: np.ndarray, resolution: int) -> np.ndarray:
    """Return a square (S, S, C) uint8 image at (resolution, resolution, C), each pixel the mean of its area."""
    side = pixels.shape[0]
    if side == resolution:
        return pixels
    weights = _overlaps(side, resolution)
    rows = np.tensordot(weights, pixels.astype(np.float32), (1, 0))  # (R, S, C)
    resized = np.tensordot(weights, rows, (1, 1)).swapaxes(0, 1)  # (R, R, C)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


@contextmanager
def _opened(name: str, data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "BMP")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels is over {MAX_PIXELS}")
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"mode {image.mode} has more than 8 bits a channel")
            yield image
    # Pillow reports damage by any of these; its bytes come from strangers.
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise UserError(f"picture {name} cannot be decoded ({one_line(error)}): remove or replace it") from None


def _upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF data say, or as it lies where these are damaged."""
    image.load()  # that pixels are damaged is not to be passed over
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow reports damaged EXIF data by struct.error, TypeError, SyntaxError, as it comes
        turn = None
    return image if turn is None else image.transpose(turn)


@cache
def _overlaps(side: int, resolution: int) -> np.ndarray:
    """Return (resolution, side) weights: the share of output cell a that input cell b covers."""
    edges = np.arange(resolution + 1) * (side / resolution)
    low = np.maximum(edges[:-1, None], np.arange(side))
    high = np.minimum(edges[1:, None], np.arange(side) + 1)
    return (np.maximum(high - low, 0) * (resolution / side)).astype(np.float32)
