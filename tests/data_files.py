"""Files that the tests of the data layer read: pictures, trees, archives, prepared TFDS sets, arrays."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcig.data import export


def real_folder() -> Path:
    """Return where prepared data sets would be, if this machine has any."""
    return Path(os.environ.get("TFDS_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data" / "tfds")


def real_data_dir(*inside: str) -> Path:
    """Return the folder of prepared sets, or skip."""
    folder = real_folder()
    if not folder.joinpath(*inside).exists():
        pytest.skip(f"no {'/'.join(inside)} in {folder}: set TFDS_DATA_DIR")
    return folder


def picture(shape: tuple[int, ...], form: str = "PNG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return encoded(pixels, form)


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, contents in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(contents)
    return root


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return path


def write_tfds(data_dir: Path, name: str, config: str, shape, splits: dict[str, list], version: str = "1.0.0") -> Path:
    """Write a prepared set as TFDS itself does; ``splits`` maps a split's name to (pixels, label) pairs."""
    import tensorflow_datasets as tfds

    files = {
        split: [(io.BytesIO(encoded(pixels)), label) for pixels, label in pairs] for split, pairs in splits.items()
    }
    return _write_tfds(data_dir, name, config, ("image", tfds.features.Image(shape=shape)), files, version)


def write_tfds_texts(data_dir: Path, name: str, config: str, splits: dict[str, list]) -> Path:
    """The same for (text, label) pairs."""
    import tensorflow_datasets as tfds

    return _write_tfds(data_dir, name, config, ("text", tfds.features.Text()), splits, "1.0.0")


def _write_tfds(data_dir: Path, name: str, config: str, feature: tuple, splits: dict[str, list], version: str) -> Path:
    import tensorflow_datasets as tfds

    num_classes = max(label for pairs in splits.values() for _, label in pairs) + 1
    features = {feature[0]: feature[1], "label": tfds.features.ClassLabel(num_classes=num_classes)}
    rows = {split: [{feature[0]: x, "label": label} for x, label in pairs] for split, pairs in splits.items()}
    export.write(data_dir, name, features, rows, config, version)
    return data_dir


def colours(shape, num_classes: int, per_class: int, seed: int) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 256, shape, np.uint8), row % num_classes) for row in range(num_classes * per_class)]


def tiny_files(wnids=("n2", "n1"), prefix="tiny-imagenet-200/") -> dict[str, bytes]:
    files = {"wnids.txt": "\n".join(wnids).encode(), "words.txt": b"n1\tcat, felis\nn2\tdog\nn9\tother\n"}
    annotations = ""
    for number, wnid in enumerate(wnids):
        for row in range(3):
            shape = (64, 64) if row == 0 else (64, 64, 3)  # a grey one in every class
            files[f"train/{wnid}/images/{wnid}_{row}.JPEG"] = picture(shape, "JPEG", 10 * number + row)
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"x"
        files[f"val/images/val_{number}.JPEG"] = picture((64, 64, 3), "JPEG", 50 + number)
        annotations += f"val_{number}.JPEG\t{wnid}\t0\t0\t1\t1\n"
    files["val/val_annotations.txt"] = annotations.encode()
    return {prefix + name: contents for name, contents in files.items()}


def save(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path
