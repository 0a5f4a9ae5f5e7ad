"""One Gaussian with full covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

from hyperrep.samplers.sampler import Anchors, Sampler, require_anchors


@dataclass
class GaussianSampler(Sampler):
    """z ~ N(mean, covariance) of the anchors, clipped to [-1, 1]. Independent.

    In none of the papers: the simplest sampler that knows how dimensions hang together. The covariance is shrunk towards
    a multiple of the identity (Ledoit and Wolf, 2004), because anchors are hardly more than dimensions.
    """

    kind = "independent"
    space = "latent"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Estimate mean and covariance."""
        require_anchors(anchors, 2, "gaussian")
        estimate = LedoitWolf().fit(anchors.embeddings.astype(np.float64))
        self.mean, self.covariance = estimate.location_, estimate.covariance_

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draws of the Gaussian, float32 [n, D] in [-1, 1]."""
        # eigh, because a dimension may be constant and Cholesky's decomposition needs a definite matrix.
        draws = np.random.default_rng(seed).multivariate_normal(self.mean, self.covariance, n, method="eigh")
        return draws.clip(-1, 1).astype(np.float32)
