"""S_U: uniform in the latent cube."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperrep.samplers.sampler import Anchors, Sampler


@dataclass
class UniformSampler(Sampler):
    """z ~ U(-1, 1)^D: knows the anchors' number of dimensions and nothing else. Independent.

    S_U of Hyper-Representations as Generative Models (2022), a lower bound near chance there. It presumes an
    autoencoder whose embeddings are bounded by tanh.
    """

    kind = "independent"
    space = "latent"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Take over the number of dimensions."""
        self.dimensions = anchors.embeddings.shape[1]

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Points in the cube, float32 [n, D] in [-1, 1]."""
        return np.random.default_rng(seed).uniform(-1, 1, (n, self.dimensions)).astype(np.float32)
