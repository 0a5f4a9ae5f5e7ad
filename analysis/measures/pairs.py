"""All unordered pairs of different models, a block of rows at a time: 4320 models have nine million pairs, and 37 MB."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zoo.base.console import tracked

BLOCK = 500  # models


def all_pairs(n: int, measure: Callable[[slice, slice], np.ndarray], block: int = BLOCK) -> np.ndarray:
    """A measure of all pairs.

    Args:
        n: how many models there are.
        measure: gives the values [rows, columns] of a range of models (rows) with another (columns).
        block: rows that are measured at once.

    Returns:
        float32 [n (n - 1) / 2], in the order of `numpy.triu_indices(n, 1)`; empty for one model.
    """
    parts = [np.zeros(0, np.float32)]
    for first in tracked(range(0, n, block), f"comparing {n} models with each other", f"blocks of {block}"):
        values = measure(slice(first, min(first + block, n)), slice(first, n))
        parts.append(values[np.triu_indices(len(values), 1, values.shape[1])].astype(np.float32))
    return np.concatenate(parts)
