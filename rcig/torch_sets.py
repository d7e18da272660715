"""Distilled sets that torch programs left, as arrays: a reader for each layout, see `rcig.formats`.

Inputs come as (M, H, W, C), labels as (M,) class numbers or (M, K). What a file lacks is said by a ValueError.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from rcig.tiles import unfold
from rcig.torch_format import load

Arrays = dict[str, np.ndarray]


def vico(path: Path) -> tuple[Arrays, None]:
    """Read the results of DC, DSA or DM, a list with a set for each experiment; the last, as DC-bench does."""
    content = load(path)
    if not isinstance(content, dict) or not isinstance(content.get("data"), list) or not content["data"]:
        raise ValueError("it has no list 'data' of experiments")
    images, labels = content["data"][-1]
    return {"inputs": _nhwc(images), "labels": labels}, None


def mtt(path: Path) -> tuple[Arrays, None]:
    """Read images and, from the files beside them that are called so, their labels (M,) or (M, K) and learned rate.

    Labels beside a card of ours (``rcig.convert --to=torch``) are raw targets.
    """
    labels, rate = (path.with_name(path.name.replace("images", other, 1)) for other in ("labels", "lr"))
    if labels == path or not labels.is_file():
        raise ValueError("it must be called like images_best.pt and have labels_best.pt beside it")
    inputs, targets, ours = _nhwc(load(path)), load(labels), path.with_name("card.json").is_file()
    arrays = {"inputs": inputs, "labels": targets if ours else _distributions(targets)}
    if rate.is_file():
        arrays["learning_rates"] = np.asarray(load(rate), np.float32).reshape(1, 1)
    return arrays, None


def idc(path: Path) -> tuple[Arrays, None]:
    """Read IDC's images and unfold the examples that each stores."""
    arrays, _ = idc_i(path)
    factor = 2 if arrays["inputs"].shape[1] < 128 else 3
    examples = np.asarray(unfold(arrays["inputs"], factor))
    return {"inputs": examples, "labels": np.repeat(arrays["labels"], factor**2, axis=0)}, None


def idc_i(path: Path) -> tuple[Arrays, None]:
    """Read IDC-I's images, one example each."""
    content = load(path)
    if not isinstance(content, list) or len(content) != 2:
        raise ValueError("it is no list of images and labels")
    images = _nhwc(content[0])
    if not (np.isfinite(images).all() and images.min(initial=0) >= 0 and images.max(initial=1) <= 1):
        raise ValueError("its images are no pixels in [0, 1]")
    return {"inputs": images, "labels": content[1]}, None


def _distributions(labels: Any) -> Any:
    """Return labels (M, K) as distributions: what is none is logits, DATM's and TESLA's."""
    if np.ndim(labels) != 2 or (np.min(labels) >= 0 and np.allclose(np.sum(labels, 1), 1, atol=1e-3)):
        return labels
    return softmax(labels, axis=1)


def _nhwc(images: Any) -> np.ndarray:
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise ValueError(f"its images must be a tensor (M, C, H, W), not {np.shape(images)}")
    return images.transpose(0, 2, 3, 1)
