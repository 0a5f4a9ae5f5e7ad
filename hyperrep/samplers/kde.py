"""S_KDE as the paper writes it: a kernel density estimate in each dimension for itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperrep.samplers.sampler import KernelSampler


@dataclass
class KDESampler(KernelSampler):
    """z_j = (anchor i_j)_j + h_j ε_j, with another anchor i_j drawn for every dimension j. Independent.

    S_KDE of Hyper-Representations as Generative Models (2022) as it is written: the dimensions are presumed independent,
    each has a one-dimensional Gaussian KDE. The released code does something else: see `KDEAnchorSampler`. As there,
    draws are not clipped to (-1, 1).

    Args:
        bandwidth: h, above 0, in units of the anchors' standard deviation in each dimension.
        bandwidth_absolute: take h as it is.
    """

    kind = "independent"
    space = "latent"

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draws of the product of the marginal KDEs, float32 [n, D]."""
        random = np.random.default_rng(seed)
        shape = (n, self.centres.shape[1])
        centres = np.take_along_axis(self.centres, random.integers(len(self.centres), size=shape), axis=0)
        return centres + self.widths * random.standard_normal(shape, dtype=np.float32)
