"""A weight vector as a sequence of tokens, one a neuron, and back.

The encoding "neuron" of Hyper-Representations (Schürholt et al., 2021 and 2022): a neuron of a linear layer, or an output
channel of a convolution, is one token: its incoming weights in PyTorch's order, then its bias.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.base.errors import UserError
from zoo.networks.architecture import Architecture
from zoo.networks.layout import Slot


@dataclass(frozen=True)
class TokenLayer:
    """The tokens of one layer; all have one length."""

    name: str  # of the layer, e.g. "conv1"
    count: int  # neurons
    length: int  # incoming weights of a neuron + 1 for its bias


class Tokens:
    """The neuron tokens of an architecture.

    Args:
        arch: an architecture that is a list of layers.

    Attributes:
        layers: the tokens of each layer, first layer first.
        n_tokens: number of tokens of a model.
        longest: length of the longest token.
        order: int64 [P]; `weights[:, order]` has a model's tokens one after another, in the order of `layers`.
        inverse: int64 [P]; undoes `order`.

    Raises:
        UserError: if the architecture is a module class.
    """

    def __init__(self, arch: Architecture) -> None:
        self.layers: list[TokenLayer] = []
        places = []
        for weight, bias in weights_and_biases(arch):
            count = weight.shape[0]
            incoming = torch.arange(weight.offset, weight.offset + weight.size).reshape(count, -1)
            own_bias = torch.arange(bias.offset, bias.offset + count)[:, None]
            tokens = torch.cat([incoming, own_bias], dim=1)
            self.layers.append(TokenLayer(weight.name.removesuffix(".weight"), count, tokens.shape[1]))
            places.append(tokens.flatten())
        self.n_tokens = sum(layer.count for layer in self.layers)
        self.longest = max(layer.length for layer in self.layers)
        self.order = torch.cat(places)
        self.inverse = self.order.argsort()

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens, for weights on a device."""
        moved = copy.copy(self)
        moved.order, moved.inverse = self.order.to(device), self.inverse.to(device)
        return moved

    def split(self, weights: Tensor) -> list[Tensor]:
        """The tokens of a population.

        Args:
            weights: [B, P], on the device of `order`.

        Returns:
            One tensor [B, count, length] a layer, in the order of `layers`.
        """
        parts = weights[:, self.order].split([layer.count * layer.length for layer in self.layers], dim=1)
        return [part.unflatten(1, (layer.count, layer.length)) for part, layer in zip(parts, self.layers)]

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """The weights [B, P] that have these tokens: the inverse of `split`, to the bit."""
        return torch.cat([part.flatten(1) for part in tokens], dim=1)[:, self.inverse]


def weights_and_biases(arch: Architecture) -> list[tuple[Slot, Slot]]:
    """The slots of each layer that has weights: its weight [neurons, ...] and its bias [neurons], first layer first.

    Raises:
        UserError: if the architecture is a module class (what its neurons are, a name and a shape do not tell), has variances,
            or is no plain chain of layers.
    """
    if arch.is_module:
        raise UserError(
            f"arch={arch.name}: {arch.module_path} is a module class, whose neurons and their symmetries cannot be told "
            "from a description; use an architecture that is a list of layers (arch.layers), such as arch=cnn_s"
        )
    if arch.variational:
        raise UserError(
            f"arch={arch.name}: has variances beside its weights; use its kept weights, the zoo of the same name with _masked"
        )
    if odd := dict.fromkeys(layer.form for layer in arch.layers if not layer.is_plain):
        raise UserError(
            f"arch={arch.name}: has {', '.join(odd)}, for which tokens and symmetries are not defined here; "
            "learn the weights of a plain chain, such as arch=cnn_s"
        )
    return list(zip(arch.layout[::2], arch.layout[1::2], strict=True))
