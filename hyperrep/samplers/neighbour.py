"""S_Neigh: uniform in a three-dimensional map of the anchors, and back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from hyperrep.samplers.sampler import Anchors, Sampler, require_anchors

NEIGHBOURS = 15
MIN_DISTANCE = 0.01
MAP_DIMENSIONS = 3


@dataclass
class NeighbourSampler(Sampler):
    """UMAP of the anchors to three dimensions, a uniform draw in the map's bounding box, `inverse_transform`. Independent.

    S_Neigh of Hyper-Representations as Generative Models (2022): n_neighbors 15, min_dist 0.01, euclidean. A draw is
    interpolated from the anchors around a place in the map. The paper's notation suggests a box with its own range for
    each axis; the released code takes one range, the least and the largest number of the whole map, for all three.
    UMAP begins at eigenvectors and pushes points apart at random: anchors that differ in their last bit give another map.

    Args:
        cube: "per_axis", as the paper, or "global", as released.
        fit_seed: UMAP's random state (42 as released).
    """

    cube: str
    fit_seed: int
    kind = "independent"
    space = "latent"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Compute the map and its bounds."""
        require_anchors(anchors, NEIGHBOURS + 1, "neighbour")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # it misses TensorFlow, which is for something else
            import umap  # takes about 15 s the first time

        self.map = umap.UMAP(
            n_components=MAP_DIMENSIONS,
            n_neighbors=NEIGHBOURS,
            min_dist=MIN_DISTANCE,
            metric="euclidean",
            random_state=self.fit_seed,
            n_jobs=1,
        )
        with _torch_threads_kept():
            self.map.fit(anchors.embeddings)
        axis = 0 if self.cube == "per_axis" else None
        places = self.map.embedding_
        self.low = np.broadcast_to(places.min(axis=axis), MAP_DIMENSIONS)
        self.high = np.broadcast_to(places.max(axis=axis), MAP_DIMENSIONS)

    def sample(self, n: int, seed: int) -> np.ndarray:
        """What lies at uniform places of the map, float32 [n, D]."""
        places = np.random.default_rng(seed).uniform(self.low, self.high, (n, MAP_DIMENSIONS))
        with _torch_threads_kept():
            return self.map.inverse_transform(places).astype(np.float32)


@contextmanager
def _torch_threads_kept() -> Iterator[None]:
    """Undo what UMAP does to torch: numba starts its threads through the OpenMP that torch uses, and sets their number."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
