"""Baseline without an autoencoder: the training models themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperrep.samplers.sampler import Anchors, Sampler


@dataclass
class NearestSampler(Sampler):
    """w = a training model, unchanged: the copy that every nearest-anchor measure calls distance 0. Anchored.

    The baseline B_F of Hyper-Representations as Generative Models (2022) takes the first models of the training split;
    here they come in random order, none twice before all have come.
    """

    kind = "anchored"
    space = "weights"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Keep the weights."""
        self.weights = anchors.embeddings

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Training models, float32 [n, P]."""
        order = np.random.default_rng(seed).permutation(len(self.weights))
        return self.weights[np.resize(order, n)]
