"""Baseline without an autoencoder: a Gaussian on the principal components of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperrep.samplers.sampler import Anchors, Sampler, require_anchors


@dataclass
class PCASampler(Sampler):
    """w = mean + Σ_k s_k ε_k u_k over the first principal components u_k, s_k their standard deviation. Independent.

    In none of the papers: the linear counterpart of an autoencoder with a Gaussian sampler. What lies outside the
    components is left out, not replaced by noise.

    Args:
        components: at least 1, and fewer than anchors.
    """

    components: int
    kind = "independent"
    space = "weights"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Compute the mean, and the components with the anchors' places along them."""
        require_anchors(anchors, self.components + 1, "pca")
        self.mean = anchors.embeddings.mean(axis=0)
        left, singular, directions = np.linalg.svd(anchors.embeddings - self.mean, full_matrices=False)
        self.places = left[:, : self.components]  # [n, components], orthonormal columns
        deviations = singular[: self.components] / np.sqrt(len(anchors) - 1)
        self.axes = (deviations[:, None] * directions[: self.components]).astype(np.float32)  # [components, P]

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draws of the Gaussian, float32 [n, P]."""
        noise = np.random.default_rng(seed).standard_normal((n, len(self.places)), dtype=np.float32)
        return self.mean + noise @ self.places @ self.axes
