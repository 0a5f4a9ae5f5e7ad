"""The joint kernel density estimate: an anchor plus noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hyperrep.samplers.sampler import KernelSampler, Space


@dataclass
class KDEJointSampler(KernelSampler):
    """z = anchor i + h σ ⊙ ε, with one anchor i a draw and ε ~ N(0, I_D). Anchored.

    A draw from the D-dimensional Gaussian KDE: it keeps all dependence between dimensions, and in many dimensions it is
    a training model slightly moved. In no paper under this name; SANE (ICML 2024) has it as a mode. Draws are not
    clipped to (-1, 1).

    Args:
        bandwidth: h, above 0, in units of the anchors' standard deviation σ_j in each dimension.
        bandwidth_absolute: take h as it is (σ = 1).
    """

    kind = "anchored"
    space: ClassVar[Space] = "latent"  # weights in NoiseSampler

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Anchors plus noise, float32 [n, D]."""
        random = np.random.default_rng(seed)
        centres = self.centres[random.integers(len(self.centres), size=n)]
        return centres + self.widths * random.standard_normal(centres.shape, dtype=np.float32)
