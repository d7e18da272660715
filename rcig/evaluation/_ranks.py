"""Statistics of ranks: Spearman's correlation, and the area under the ROC curve as Mann and Whitney's statistic."""

import numpy as np

from rcig.types import Array


def ranks(values: Array) -> np.ndarray:
    """Return the places (N,) of values (N,) in ascending order, from 1; equal values share their mean place."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman(a: Array, b: Array) -> float | None:
    """Return the correlation of the ranks of a (N,) and b (N,); None of fewer than 3, or where all of one are equal."""
    if len(a) < 3:
        return None
    x, y = (of - of.mean() for of in (ranks(a), ranks(b)))
    scale = np.sqrt((x @ x) * (y @ y))
    return None if scale == 0 else float(x @ y / scale)


def auc(positive: Array, negative: Array) -> float:
    """Return P(p > n) + P(p = n) / 2 for a score p of positive (P,) and n of negative (N,), each drawn uniformly."""
    count = len(positive)
    above = ranks(np.concatenate([positive, negative]))[:count].sum() - count * (count + 1) / 2
    return float(above / (count * len(negative)))
