"""One Gaussian with full covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from hyperrep.samplers.sampler import Anchors, Sampler, require_anchors

ROWS = 1000  # draws that are made at once


@dataclass
class GaussianSampler(Sampler):
    """z ~ N(mean, covariance) of the anchors, clipped to [-1, 1]. Independent.

    In none of the papers: the simplest sampler that knows how dimensions hang together. The covariance S is shrunk towards
    a multiple of the identity, because anchors are hardly more than dimensions: (1 - s) S + s v I, where v is the mean
    variance of a dimension.

    No matrix is decomposed: a draw is mean + sqrt((1 - s) / n) Σ_i ε_i (anchor_i - mean) + sqrt(s v) η with ε ~ N(0, I_n) and
    η ~ N(0, I_D), which has that covariance exactly. So it hardly moves when the anchors hardly do. An eigenbasis is
    arbitrary where eigenvalues are equal, as they are with fewer anchors than dimensions; a Cholesky factor does not exist
    where a dimension is constant and nothing is shrunk.

    Args:
        rotate: draw along the principal axes of the anchors. False: along the dimensions of the latent space, each by
            itself, as if the covariance were diagonal.
        shrinkage: s; 0 keeps the covariance, 1 leaves a multiple of the identity; None: as Ledoit and Wolf (2004) estimate.
        spread: standard deviations are multiplied by this; above 1, draws lie farther out than anchors do.
    """

    rotate: bool
    shrinkage: float | None
    spread: float
    kind = "independent"
    space = "latent"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Estimate the mean, and what the noise is multiplied by."""
        require_anchors(anchors, 2, "gaussian")
        points = anchors.embeddings.astype(np.float64)
        shrinkage = ledoit_wolf_shrinkage(points) if self.shrinkage is None else self.shrinkage
        self.mean, variances = points.mean(axis=0), points.var(axis=0)
        if self.rotate:
            self.factor = np.sqrt((1 - shrinkage) / len(points)) * (points - self.mean)  # [n, D]
            self.widths = np.full_like(self.mean, np.sqrt(shrinkage * variances.mean()))
        else:
            self.factor = np.zeros((0, len(self.mean)))
            self.widths = np.sqrt((1 - shrinkage) * variances + shrinkage * variances.mean())

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draws of the Gaussian, float32 [n, D] in [-1, 1]."""
        random = np.random.default_rng(seed)
        anchors, dimensions = self.factor.shape
        parts = []
        for first in range(0, n, ROWS):
            noise = random.standard_normal((min(ROWS, n - first), anchors + dimensions))
            parts.append(noise[:, :anchors] @ self.factor + noise[:, anchors:] * self.widths)
        return (self.mean + self.spread * np.concatenate(parts)).clip(-1, 1).astype(np.float32)
