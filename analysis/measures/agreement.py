"""How much networks agree: the share of images on which two predict the same class (Model Zoos, 2022, section 4.2), and how
much of their errors they share."""

from __future__ import annotations

import numpy as np

from analysis.measures.pairs import BLOCK, all_pairs


def disagreement(first: np.ndarray, second: np.ndarray, classes: int) -> np.ndarray:
    """The share of images on which two networks predict different classes, for all pairs.

    One matrix product a class and `BLOCK` networks of the second kind, never a loop over pairs.

    Args:
        first: int [n, images], predicted classes 0 … classes - 1.
        second: int [m, images], on the same images.
        classes: how many there are.

    Returns:
        float64 [n, m] in [0, 1].
    """
    same = np.zeros((len(first), len(second)))
    for c in range(classes):
        same += _intersections(first == c, second == c)
    return 1 - same / first.shape[1]


def error_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of the sets of images that two networks get wrong, for all pairs.

    The critics' measure of what generators copy (weight_memorization, CVPR 2026): 1 for a copy.

    Args:
        first: bool [n, images], whether a network is wrong; fewer than 2^24 images.
        second: bool [m, images], on the same images.

    Returns:
        float64 [n, m] in [0, 1]; 1 for two networks without errors.
    """
    both = _intersections(first, second)
    either = first.sum(axis=1)[:, None] + second.sum(axis=1) - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def _intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How many images two sets have in common, for all pairs of bool [n, images] and [m, images]: float64 [n, m]."""
    sets = first.astype(np.float32)  # counts are exact in it up to 2^24
    common = np.empty((len(first), len(second)))
    for start in range(0, len(second), BLOCK):
        part = slice(start, start + BLOCK)
        common[:, part] = sets @ second[part].astype(np.float32).T
    return common


def pairwise_disagreement(predicted: np.ndarray, classes: int, block: int = BLOCK) -> np.ndarray:
    """`disagreement` of all unordered pairs of different networks: float32 [n (n - 1) / 2]; empty for one network."""
    return all_pairs(len(predicted), lambda i, j: disagreement(predicted[i], predicted[j], classes), block)
