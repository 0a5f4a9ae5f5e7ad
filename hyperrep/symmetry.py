"""The permutation symmetries of an architecture: orders of its hidden neurons that leave the function as it is.

Reorder the neurons of a hidden layer (the rows of its weight, and its bias) and the inputs of the next layer in the same
way, and every output stays. What may lie between the two (pooling, activation, dropout, flatten) treats each channel
alone; flatten lays the height × width values of a channel side by side, so that they move as one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperrep.tokens import weights_and_biases
from zoo.networks.architecture import Architecture


@dataclass(frozen=True)
class Group:
    """The neurons that may change places among each other: those of one hidden layer."""

    name: str  # of the layer, e.g. "conv1"
    size: int  # neurons


class Permutations:
    """The permutations of hidden neurons of many models at once.

    Everywhere, `perms` is a list of one int64 tensor [n, size] a group, one row a model, and it says where from:
    **new neuron i is old neuron perm[i]**.

    Args:
        arch: an architecture that is a list of layers.

    Attributes:
        groups: every layer with weights but the last, first layer first. The last is tied to the classes.

    Raises:
        UserError: if the architecture is a module class.
    """

    def __init__(self, arch: Architecture) -> None:
        self._slots = weights_and_biases(arch)
        self.groups = [Group(weight.name.removesuffix(".weight"), weight.shape[0]) for weight, _ in self._slots[:-1]]

    def identity(self, n: int, device: torch.device | str = "cpu") -> list[Tensor]:
        """The permutations that change nothing."""
        return [torch.arange(group.size, device=device).repeat(n, 1) for group in self.groups]

    def random(self, n: int, generator: torch.Generator) -> list[Tensor]:
        """Permutations drawn uniformly, each group and model by itself, on the generator's device."""
        keys = [torch.rand(n, group.size, generator=generator, device=generator.device) for group in self.groups]
        return [key.argsort(dim=1) for key in keys]

    def index(self, perms: Sequence[Tensor]) -> Tensor:
        """Where each weight of the permuted models comes from: int64 [n, P], for `weights.gather(1, index)`.

        Args:
            perms: at least one group; on any device, where the index will be too.
        """
        n, device = perms[0].shape[0], perms[0].device
        columns = torch.arange(self._inputs(0), device=device).repeat(n, 1)  # pixels keep their places
        classes = torch.arange(self._slots[-1][0].shape[0], device=device).repeat(n, 1)
        sources = []
        for i, (rows, (weight, bias)) in enumerate(zip([*perms, classes], self._slots, strict=True)):
            sources += [(weight.offset + rows[:, :, None] * self._inputs(i) + columns[:, None, :]).flatten(1)]
            sources += [bias.offset + rows]
            if i < len(self.groups):
                block = self._inputs(i + 1) // self.groups[i].size  # kernel, or height × width after flatten
                columns = (rows[:, :, None] * block + torch.arange(block, device=device)).flatten(1)
        return torch.cat(sources, dim=1)

    def _inputs(self, layer: int) -> int:
        """Number of weights that come into one neuron of a layer."""
        weight, _ = self._slots[layer]
        return weight.size // weight.shape[0]

    def apply(self, weights: Tensor, perms: Sequence[Tensor]) -> Tensor:
        """The permuted models: [n, P], each of the same function as before.

        Args:
            weights: [n, P].
            perms: on the same device.
        """
        if not self.groups:
            return weights
        return weights.gather(1, self.index(perms))

    def inverse(self, perms: Sequence[Tensor]) -> list[Tensor]:
        """The permutations that undo `perms`."""
        return [perm.argsort(dim=1) for perm in perms]

    def compose(self, first: Sequence[Tensor], then: Sequence[Tensor]) -> list[Tensor]:
        """The permutations that do what `first` and, after it, `then` do."""
        return [a.gather(1, b) for a, b in zip(first, then, strict=True)]

    def split(self, table: Tensor) -> list[Tensor]:
        """`perms` from one table int64 [n, neurons of all groups], in which they lie side by side."""
        return list(table.split([group.size for group in self.groups], dim=1))
