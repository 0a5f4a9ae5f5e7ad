"""Variational dropout: each weight has a variance of its own, learnt; where noise drowns a weight, it can go.

Sparse Variational Dropout (Molchanov, Ashukha and Vetrov, 2017) with automatic relevance determination, as the sparsified
twins of Model Zoos (Schürholt et al., 2022) have it: a weight θ is N(θ, σ²) in training, α = σ² / θ², and 0 in
evaluation where log α ≥ 3. The noise is drawn where it arrives, in a layer's outputs (local reparametrisation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

DROPPED = 3.0  # log α from which on a weight is 0
START = -10.0  # log σ² before training
CONV_LIMITS, LINEAR_LIMITS = (-8.0, 8.0), (-10.0, 10.0)  # that log α is clamped to
K1, K2, K3 = 0.63576, 1.8732, 1.48695
TINY = 1e-15

Limits = tuple[float, float]


def log_alpha(weight: Tensor, log_sigma2: Tensor, limits: Limits) -> Tensor:
    """log α = log σ² - 2 log(|θ| + 1e-15), clamped; no gradient flows where it is."""
    return (log_sigma2 - 2 * torch.log(weight.abs() + TINY)).clamp(*limits)


def variance(weight: Tensor, log_sigma2: Tensor, limits: Limits) -> Tensor:
    """α θ²: σ² but for the clamp."""
    return log_alpha(weight, log_sigma2, limits).exp() * weight.square()


def kept(weight: Tensor, log_sigma2: Tensor, limits: Limits) -> Tensor:
    """The weight in evaluation: 0 where log α ≥ 3."""
    return torch.where(log_alpha(weight, log_sigma2, limits) >= DROPPED, 0.0, weight)


def divergence(weight: Tensor, log_sigma2: Tensor, limits: Limits) -> Tensor:
    """The Kullback-Leibler divergence from the log-uniform prior, value by value: k1 - k1 sigmoid(k2 + k3 log α) +
    ½ log(1 + 1/α) (Molchanov et al., equation 14, up to a constant): 5.64 at log α = -10, 0.43 at 0, 0.025 at 3."""
    of = log_alpha(weight, log_sigma2, limits)
    return K1 - K1 * torch.sigmoid(K2 + K3 * of) + 0.5 * torch.log1p(torch.exp(-of))


def noisy(mean: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
    """Outputs of a layer with this mean and variance."""
    return mean + (spread + TINY).sqrt() * noise
