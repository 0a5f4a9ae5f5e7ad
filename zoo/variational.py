"""Variational dropout: each weight has a variance of its own, learnt; where noise drowns a weight, it can go.

Sparse Variational Dropout (Molchanov, Ashukha and Vetrov, 2017) with automatic relevance determination, as the sparsified
twins of Model Zoos (Schürholt et al., 2022) have it: a weight θ is N(θ, σ²) in training, α = σ² / θ², and 0 in
evaluation where log α ≥ 3. The noise is drawn where it arrives, in a layer's outputs (local reparametrisation).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class VariationalConv2d(nn.Conv2d):
    """A convolution whose weights and biases are noisy in training.

    `draw` makes standard normal numbers of the shape of a tensor; None: torch's own.
    """

    log_sigma2: nn.Parameter
    log_sigma2_bias: nn.Parameter
    draw: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(cls, layer: nn.Conv2d) -> VariationalConv2d:
        """The same convolution, its parameters shared, with variances at their start."""
        made = cls(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,  # type: ignore[arg-type]
            layer.groups, layer.bias is not None, layer.padding_mode,
        )  # fmt: skip
        made.weight, made.bias = layer.weight, layer.bias
        made.log_sigma2 = nn.Parameter(torch.full_like(layer.weight, START))
        if layer.bias is not None:
            made.log_sigma2_bias = nn.Parameter(torch.full_like(layer.bias, START))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps [n, C, H, W]: noisy in training, of the kept weights in evaluation."""
        if not self.training:
            bias = None if self.bias is None else kept(self.bias, self.log_sigma2_bias, CONV_LIMITS)
            return self._conv_forward(x, kept(self.weight, self.log_sigma2, CONV_LIMITS), bias)
        spread_bias = None if self.bias is None else variance(self.bias, self.log_sigma2_bias, CONV_LIMITS)
        mean = self._conv_forward(x, self.weight, self.bias)
        spread = self._conv_forward(x.square(), variance(self.weight, self.log_sigma2, CONV_LIMITS), spread_bias)
        return noisy(mean, spread, self.draw(mean) if self.draw else torch.randn_like(mean))

    def divergence(self) -> Tensor:
        """Summed over weights and biases."""
        total = divergence(self.weight, self.log_sigma2, CONV_LIMITS).sum()
        if self.bias is None:
            return total
        return total + divergence(self.bias, self.log_sigma2_bias, CONV_LIMITS).sum()


class VariationalLinear(nn.Linear):
    """A linear layer whose weights are noisy in training; its biases are not. `draw` as of `VariationalConv2d`."""

    log_sigma2: nn.Parameter
    draw: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(cls, layer: nn.Linear) -> VariationalLinear:
        """The same layer, its parameters shared, with variances at their start."""
        made = cls(layer.in_features, layer.out_features, layer.bias is not None)
        made.weight, made.bias = layer.weight, layer.bias
        made.log_sigma2 = nn.Parameter(torch.full_like(layer.weight, START))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [n, features]: noisy in training, of the kept weights in evaluation."""
        if not self.training:
            return F.linear(x, kept(self.weight, self.log_sigma2, LINEAR_LIMITS), self.bias)
        spread = F.linear(x.square(), variance(self.weight, self.log_sigma2, LINEAR_LIMITS))
        mean = F.linear(x, self.weight, self.bias)
        return noisy(mean, spread, self.draw(mean) if self.draw else torch.randn_like(mean))

    def divergence(self) -> Tensor:
        """Summed over weights."""
        return divergence(self.weight, self.log_sigma2, LINEAR_LIMITS).sum()


def make_variational(module: nn.Module) -> nn.Module:
    """Put variational layers in the place of all convolutions and linear layers within a module; the module."""
    for name, layer in module.named_children():
        with torch.random.fork_rng(devices=[]):  # layers are drawn when they are made; nobody's random numbers move
            if type(layer) is nn.Conv2d:
                setattr(module, name, VariationalConv2d.of(layer))
            elif type(layer) is nn.Linear:
                setattr(module, name, VariationalLinear.of(layer))
            else:
                make_variational(layer)
    return module
