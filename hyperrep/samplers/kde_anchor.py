"""S_KDE as the released code runs it: a training model, moved along the diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperrep.samplers.sampler import KernelSampler


@dataclass
class KDEAnchorSampler(KernelSampler):
    """z = anchor i + h ε (1, …, 1), with one anchor i and one number ε ~ N(0, 1) a draw. Anchored.

    What the released code of Hyper-Representations as Generative Models (2022) does where the paper says S_KDE: it
    samples one KDE a dimension, but each with the same random state, so all dimensions take the same anchor and the same
    noise. With its h = 0.002 a draw is, in effect, a training model. Use `KDESampler` for what the paper says.

    Args:
        bandwidth: h, above 0, in units of the anchors' standard deviation in each dimension.
        bandwidth_absolute: take h as it is, as released.
    """

    kind = "anchored"
    space = "latent"

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Anchors moved along the diagonal, float32 [n, D]."""
        random = np.random.default_rng(seed)
        centres = self.centres[random.integers(len(self.centres), size=n)]
        return centres + self.widths * random.standard_normal((n, 1), dtype=np.float32)
