"""When a network is a copy of a model: judged by how far apart the zoo's own models are.

A network is a copy of a model's state if it is less than half as far from it as that state is from the nearest state of any
other model. The distance may be any metric; here they are the share of images on which two networks predict different classes,
1 - intersection over union of their error sets (Jaccard's distance), and Euclid's distance of weights or of reconstructions.

Half is no free choice. By the triangle inequality, whatever lies within half of that distance is nearer to this model than to
any other: spheres of that radius do not overlap, as in the unique decoding of a code. The distance itself is the data's: what
models that were trained independently keep from each other, around this very model. A network that was trained independently
lies about as far from the model as those, so twice as far as a copy may. The same rule applied to models of the zoo, each
compared with the others, says how often it calls a copy what is none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def copied(
    distance: np.ndarray,
    models: np.ndarray,
    between: Callable[[np.ndarray], np.ndarray],
    own: np.ndarray | None = None,
) -> np.ndarray:
    """Which networks are copies of a model's state: bool [n].

    States that are the same as each other (distance 0) do not tell models apart, and count as one model's. Where all are, or
    there is one model only, nothing is called a copy; nor is a network whose distances are not finite.

    Args:
        distance: float [n, m], of networks to states.
        models: int [m], whose states these are; m is at least 1.
        between: gives the distances float [k, m] of some states, whose places int [k] it is given, to all states.
        own: int [n], for networks that are models of the zoo: the model that each is, whose states do not count for it.
    """
    counts = np.ones(distance.shape, bool) if own is None else own[:, None] != models
    distance = np.where(counts, distance, np.inf)
    nearest = distance.argmin(axis=1)
    places, of_network = np.unique(nearest, return_inverse=True)
    apart = between(places)[of_network]
    others = counts & (models[nearest][:, None] != models) & (apart > 0)
    radius = np.where(others, apart, np.inf).min(axis=1) / 2
    return (distance.min(axis=1) < radius) & np.isfinite(radius)
