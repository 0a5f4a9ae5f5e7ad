"""S_C: embeddings from where the anchors are not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hyperrep.samplers.sampler import Anchors, Sampler, noise_widths

CELLS = 512  # of (-1, 1), on each of which a density is taken to be constant


@dataclass
class CounterfactualSampler(Sampler):
    """z_j uniform over the part of (-1, 1) where the KDE of dimension j is lowest. Independent.

    S_C of Hyper-Representations as Generative Models (2022) draws from regions of low probability; how is not said, and
    there is no code. The choice here: in each dimension, U(-1, 1) is rejected unless its density is among the lowest
    `density_quantile` of the interval. So a share `density_quantile` of the interval is left (more where the density is
    0 on more than that), whatever the anchors look like. The rejection is done once, cell by cell, in `fit`. Where two
    cells on either side of the limit are almost equally dense, anchors that hardly differ may swap them.

    Args:
        bandwidth: of the KDE, above 0, in units of the anchors' standard deviation in each dimension. What is below a
            cell, 1/256, counts as one cell.
        bandwidth_absolute: take it as it is.
        density_quantile: in (0, 1).
    """

    bandwidth: float
    bandwidth_absolute: bool
    density_quantile: float
    kind = "independent"
    space = "latent"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Find the cells of low density in every dimension."""
        width = 2 / CELLS
        self.starts = -1 + width * np.arange(CELLS)
        widths = np.maximum(noise_widths(anchors, self.bandwidth, self.bandwidth_absolute), width)
        self.cells = []  # for each dimension, the indices of the cells to draw from
        for values, h in zip(anchors.embeddings.T, widths):
            distance = (self.starts[:, None] + width / 2 - values) / h
            density = np.exp(-0.5 * distance**2).mean(axis=1)  # up to a factor, which no comparison sees
            highest = np.sort(density)[math.ceil(self.density_quantile * CELLS) - 1]
            self.cells.append(np.flatnonzero(density <= highest))

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Points of low density, float32 [n, D] in [-1, 1]."""
        random = np.random.default_rng(seed)
        starts = np.stack([self.starts[random.choice(cells, n)] for cells in self.cells], axis=1)
        return (starts + 2 / CELLS * random.random(starts.shape)).astype(np.float32)
