"""Parts of networks that PyTorch does not have, as ordinary modules."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.networks.variational import CONV_LIMITS, LINEAR_LIMITS, START, divergence, kept, noisy, variance


class ResidualSum(nn.Module):
    """The sum of two branches: main(x) + shortcut(x)."""

    def __init__(self, main: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both."""
        return self.main(x) + self.shortcut(x)


class Cut(nn.Module):
    """A part of a feature map: what a function gives for it."""

    def __init__(self, cut: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        """The part of the feature map [..., H, W]."""
        return self.cut(x)


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
