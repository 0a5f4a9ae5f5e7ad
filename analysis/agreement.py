"""How much networks agree: the share of images on which two predict the same class (Model Zoos, 2022, section 4.2)."""

from __future__ import annotations

import numpy as np

from analysis.pairs import BLOCK, all_pairs


def disagreement(first: np.ndarray, second: np.ndarray, classes: int) -> np.ndarray:
    """The share of images on which two networks predict different classes, for all pairs.

    One matrix product a class, never a loop over pairs.

    Args:
        first: int [n, images], predicted classes 0 … classes - 1.
        second: int [m, images], on the same images.
        classes: how many there are.

    Returns:
        float64 [n, m] in [0, 1].
    """
    same = np.zeros((len(first), len(second)))
    for c in range(classes):
        same += (first == c).astype(np.float32) @ (second == c).astype(np.float32).T
    return 1 - same / first.shape[1]


def pairwise_disagreement(predicted: np.ndarray, classes: int, block: int = BLOCK) -> np.ndarray:
    """`disagreement` of all unordered pairs of different networks: float32 [n (n - 1) / 2]; empty for one network."""
    return all_pairs(len(predicted), lambda i, j: disagreement(predicted[i], predicted[j], classes), block)
