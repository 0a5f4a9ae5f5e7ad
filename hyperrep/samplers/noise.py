"""Baseline without an autoencoder: a training model plus noise."""

from __future__ import annotations

from dataclasses import dataclass

from hyperrep.samplers.kde_joint import KDEJointSampler


@dataclass
class NoiseSampler(KDEJointSampler):
    """w = training model i + h σ ⊙ ε: the joint KDE on weight vectors. Anchored.

    In none of the papers; what a sampled network must be compared with before its accuracy means anything. The options
    are those of `KDEJointSampler`, with σ_j the standard deviation of weight j over the training models.
    """

    space = "weights"
