"""What the weights of models are like, and how far apart they lie (Model Zoos, 2022, section 4, Tables 2 and 3)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analysis.measures.pairs import BLOCK, all_pairs
from zoo.networks.architecture import Architecture

PERCENTILES = (1, 25, 50, 75, 99)
COLUMNS = 100_000  # weights of a model that are multiplied at once


def layer_statistics(weights: np.ndarray, arch: Architecture) -> tuple[np.ndarray, list[str]]:
    """The features s(w): mean, variance (ddof 0) and five percentiles of each layer's weights and of its biases.

    Percentiles are the 1st, 25th, 50th, 75th and 99th, linearly interpolated: 70 features for the CNNs of the paper.

    Args:
        weights: float [n, P], finite.
        arch: what they are weights of.

    Returns:
        float64 [n, 7 a tensor], and the names of the columns.
    """
    columns, names = [], []
    for slot in arch.layout:
        values = np.asarray(weights[:, slot.offset : slot.offset + slot.size], np.float64)
        columns += [values.mean(1), values.var(1), *np.percentile(values, PERCENTILES, axis=1)]
        names += [f"{slot.name} {what}" for what in ("mean", "variance", *(f"{p} %" for p in PERCENTILES))]
    return np.stack(columns, axis=1), names


def inner_products(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Inner products of all models: float64 [n, n].

    Args:
        parts: float [n, …], finite: the columns of the weights in parts, such as layers, so that they need not be in memory
            all at once; at least one.
    """
    total = np.zeros(())
    for part in parts:
        for first in range(0, part.shape[1], COLUMNS):
            values = np.asarray(part[:, first : first + COLUMNS], np.float64)
            total = total + values @ values.T
    return total


def pairwise_l2(products: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Euclidean distance of all unordered pairs over the mean norm of the models.

    The paper prints a squared ratio, but its numbers are of this one: in all eight CNN Seed zoos they are √(2 · cosine
    distance), as for vectors of one norm.

    Args:
        products: as `inner_products` gives them.
        block: models that are compared with all others at once.

    Returns:
        float32 [n (n - 1) / 2], ≥ 0, in the order of `numpy.triu_indices(n, 1)`; 0 if all models are 0.
    """
    squares = products.diagonal()

    def between(i: slice, j: slice) -> np.ndarray:
        return np.sqrt(np.maximum(squares[i, None] + squares[j] - 2 * products[i, j], 0))

    mean = np.sqrt(squares).mean()
    return all_pairs(len(products), between, block) / np.float32(mean if mean > 0 else 1)


def pairwise_cosine(products: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Cosine distance, 1 - cosine of the angle, of all unordered pairs: float32 [n (n - 1) / 2] in [0, 2].

    A model that is all 0 has no direction: its distances are 1. Arguments as of `pairwise_l2`.
    """
    norms = np.sqrt(products.diagonal())
    norms = np.where(norms > 0, norms, 1)

    def between(i: slice, j: slice) -> np.ndarray:
        return np.clip(1 - products[i, j] / (norms[i, None] * norms[j]), 0, 2)

    return all_pairs(len(products), between, block)
