"""Baseline without an autoencoder: the mean of training models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperrep.samplers.sampler import Anchors, Sampler, require_anchors


@dataclass
class SoupSampler(Sampler):
    """w = the mean of `members` distinct anchors, drawn anew for each network. Independent.

    A uniform model soup (Wortsman et al., 2022) of unrelated models; in none of the papers on hyper-representations. The
    models should have been aligned. With all anchors as members, every draw is the same centroid, whatever the seed.

    Args:
        members: at least 2; None: all anchors.
    """

    members: int | None
    kind = "independent"
    space = "weights"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Keep the weights."""
        require_anchors(anchors, self.members or 1, "soup")
        self.weights = anchors.embeddings

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Means of weight vectors, float32 [n, P]."""
        if self.members is None:
            return np.repeat(self.weights.mean(axis=0, keepdims=True), n, axis=0)
        random = np.random.default_rng(seed)
        chosen = [random.choice(len(self.weights), self.members, replace=False) for _ in range(n)]
        return np.stack([self.weights[members].mean(axis=0) for members in chosen])
