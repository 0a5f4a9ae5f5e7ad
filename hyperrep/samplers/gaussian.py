"""One Gaussian with full covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf, ShrunkCovariance

from hyperrep.samplers.sampler import Anchors, Sampler, require_anchors


@dataclass
class GaussianSampler(Sampler):
    """z ~ N(mean, covariance) of the anchors, clipped to [-1, 1]. Independent.

    In none of the papers: the simplest sampler that knows how dimensions hang together. The covariance is shrunk towards
    a multiple of the identity, because anchors are hardly more than dimensions.

    Args:
        rotate: draw along the principal axes of the anchors. False: along the dimensions of the latent space, each by
            itself, as if the covariance were diagonal.
        shrinkage: 0 keeps the covariance, 1 leaves a multiple of the identity; None: as Ledoit and Wolf (2004) estimate.
        spread: standard deviations are multiplied by this; above 1, draws lie farther out than anchors do.
    """

    rotate: bool
    shrinkage: float | None
    spread: float
    kind = "independent"
    space = "latent"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Estimate mean and covariance."""
        require_anchors(anchors, 2, "gaussian")
        estimator = LedoitWolf() if self.shrinkage is None else ShrunkCovariance(shrinkage=self.shrinkage)
        estimate = estimator.fit(anchors.embeddings.astype(np.float64))
        covariance = estimate.covariance_ if self.rotate else np.diag(np.diag(estimate.covariance_))
        self.mean, self.covariance = estimate.location_, self.spread**2 * covariance

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draws of the Gaussian, float32 [n, D] in [-1, 1]."""
        # eigh, because a dimension may be constant and Cholesky's decomposition needs a definite matrix.
        draws = np.random.default_rng(seed).multivariate_normal(self.mean, self.covariance, n, method="eigh")
        return draws.clip(-1, 1).astype(np.float32)
