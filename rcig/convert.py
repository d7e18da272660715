"""The command `python -m rcig.convert`: a distilled set, from whatever it is in, to what another program reads."""

import csv
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from rcig import card, command, formats, torch_format
from rcig.card import Distilled
from rcig.data import export
from rcig.errors import UserError
from rcig.files import check_new, write
from rcig.render import contrast

EXAMPLES = """
examples:
  python -m rcig.convert runs/mnist mnist.npz && python eval.py --distilled=mnist.npz
  python -m rcig.convert checkpoints/rcig_mnist_ipc1 mnist.safetensors
  python -m rcig.convert checkpoints/rcig_mnist_ipc1 mnist_pictures
  python -m rcig.convert checkpoints/rcig_mnist_ipc1 distilled_mnist --to=tfds
  python -m rcig.convert checkpoints/rcig_mnist_ipc1 for_pytorch --to=torch
  python -m rcig.convert res_DM_CIFAR10_ConvNet_50ipc.pt dm.npz --format=vico --config.dataset=cifar10
  python -m rcig.convert res_DM_CIFAR10_ConvNet_50ipc.pt dm_pictures --format=vico --config=configs/dm.py:cifar10_ipc50
  python -m rcig.convert images_best.pt pictures --format=mtt --config.dataset=cifar10 --config.preprocessing=mtt_zca

SRC is a workdir, a distilled/ folder, or a file with its --format. DST ending in .npz or .safetensors becomes one file
that eval.py reads again, card and config and all. Any other DST, without a dot in its name, is a new folder of
pictures, <class>/<row>.png with labels.csv and card.json: 8 bits a channel, for the eye, within what a screen shows.
With --to=tfds it holds the set's own numbers and tfds.builder_from_directory(DST/1.0.0) reads it; with --to=torch
tensors for torch.load in the layout of MTT and DD-Ranking: images.pt (M, C, H, W) in model-input space, labels.pt (M,
K) as the set has them (RCIG's are targets of a regression, no logits) and, where rates were learned, their mean, lr.pt.
Pixels need the data set's way back, and files of other programs its classes: --config and --config.FIELD=VALUE say
which, default the set's own.
"""


def main() -> None:
    parser = command.parser("Write a distilled set for another program.", EXAMPLES, "python -m rcig.convert")
    parser.add_argument("src", type=command.place, help="a workdir, a distilled/ folder, or a file")
    parser.add_argument("dst", type=command.place, help="a .npz or .safetensors file, or a new folder for pictures")
    parser.add_argument("--format", default="", help=f"of a file SRC: {', '.join(formats.FORMATS)}")
    parser.add_argument("--to", default="", choices=("pictures", "tfds", "torch"), help="what a folder holds: pictures")
    parser.add_argument("--config", default="", help="config file, for sets that bring none")
    flags, overrides = parser.parse_known_args()

    from rcig import artefact
    from rcig.measure import check_space

    check_new(flags.dst)
    if flags.to and flags.dst.suffix:
        raise UserError(f"--to={flags.to} makes a folder, and {flags.dst} is named like a file; leave out one of them")
    as_it_is = _file if flags.dst.suffix else tensors if flags.to == "torch" else None
    if as_it_is and flags.src.is_dir() and not flags.format and not overrides:  # which needs no data set
        return as_it_is(artefact.load(flags.src), flags.dst)
    distilled, config, dataset = command.open_set(flags.src, flags.format, flags.config, overrides)
    if as_it_is:
        return as_it_is(distilled, flags.dst)
    if flags.to == "tfds":
        _warn_of_rates(distilled, "records hold none")
        print(f"{len(distilled.inputs)} examples in {export.distilled(distilled, flags.dst, dataset.class_names)}")
        return
    check_space(distilled, dataset, config.dataset)
    _warn_of_rates(distilled, "pictures hold none")
    note = pictures(distilled, flags.dst, dataset.decode, dataset.class_names)
    print(f"{len(distilled.inputs)} pictures in {flags.dst}" + (f" ({note})" if note else ""))


def pictures(
    distilled: Distilled, folder: Path, decode: Callable[[np.ndarray], np.ndarray], class_names: tuple[str, ...]
) -> str:
    """Write every example of a set as <class>/<row>.png, its labels to labels.csv and its card to card.json.

    A class's folder is its number and its name, so that their order is that of the labels; a row's class is the one it
    started from. Args: decode, of the data set, to pixels (M, H, W, C), which `render.contrast` brings into [0, 1].
    Returns what it says of that. Raises: UserError for what is no set of images, and rather than write into a folder
    that holds something.
    """
    check_new(folder)
    if distilled.inputs.ndim != 4 or distilled.inputs.shape[-1] not in (1, 3):
        raise UserError(f"only images become pictures, not examples {distilled.inputs.shape[1:]}; convert to .npz")
    pixels, note = contrast(decode(np.asarray(distilled.inputs, np.float32)))
    pixels = np.rint(255 * pixels).astype(np.uint8)
    digits = len(str(len(class_names) - 1))
    table = [["file", *(f"label {name}" for name in class_names)]]
    for row, (picture, labels) in enumerate(zip(pixels, distilled.labels, strict=True)):
        label = distilled.classes[row // distilled.card["ipc"]]
        safe = re.sub(r"[^\w-]+", "_", class_names[label])
        name = f"{label:0{digits}}_{safe}/{row}.png"
        write(folder / name, _png(picture))
        table.append([name, *map(str, labels)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    write(folder / "labels.csv", text.getvalue().encode())
    write(folder / "card.json", card.text(distilled.card))
    return note


def tensors(distilled: Distilled, folder: Path) -> None:
    """Write a set's inputs (images with channels first), labels and mean rate as tensors, its card beside them."""
    check_new(folder)
    images = distilled.inputs
    found = {"images": np.moveaxis(images, -1, 1) if images.ndim == 4 else images, "labels": distilled.labels}
    if distilled.learning_rates is not None:
        found["lr"] = np.mean(distilled.learning_rates)
        _warn_of_rates(distilled, "tensors hold the mean", kept=1)
    for name, array in found.items():
        write(folder / f"{name}.pt", torch_format.dump(array))
    write(folder / "card.json", card.text(distilled.card))
    print(f"{len(distilled.inputs)} examples in {folder}")


def _warn_of_rates(distilled: Distilled, told: str, kept: int = 0) -> None:
    """Warn where what is written forgets at which learned rates, and of a schedule when, rows are learned from."""
    rates = distilled.learning_rates
    if rates is not None and np.size(rates) > kept:
        warnings.warn(f"{told} of the set's {np.size(rates)} learned rates; an .npz keeps them", stacklevel=2)


def _file(distilled: Distilled, path: Path) -> None:
    formats.export(distilled, path)
    print(f"{len(distilled.inputs)} examples in {path}")


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    command.main(main)
