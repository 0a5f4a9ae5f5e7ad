"""Where the tensors of a network lie in its weight vector: names, shapes and places, found by walking through its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.base.errors import UserError
from zoo.networks.layers import Dropout, Layer, Shape


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies in the flat vector: values [offset, offset + size), row-major."""

    name: str
    shape: Shape
    offset: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def slots(tensors: Sequence[tuple[str, Shape]]) -> list[Slot]:
    """Tensors, given by names and shapes, one after another."""
    found, offset = [], 0
    for name, shape in tensors:
        found.append(Slot(name, shape, offset))
        offset += found[-1].size
    return found


@dataclass(frozen=True)
class Named:
    """A layer with its name in the module, the shape of its input, and the layers of its branches."""

    name: str
    layer: Layer
    given: Shape
    branches: dict[str, list[Named]] = field(default_factory=dict)


class Walk:
    """An image's way through the layers of an architecture.

    Layers of a kind are counted through all branches: conv1, conv2 …; convolutions of shortcuts are skip1, skip2 ….

    Attributes:
        tensors: names and shapes of all parameters, in order.
        dropout_shapes: of what each dropout layer sees.
        noise_shapes: of what each layer with weights gives.
    """

    def __init__(self, arch: str, image: Shape, variational: bool) -> None:
        self.arch, self.image, self.variational = arch, image, variational
        self.counts: dict[str, int] = {}
        self.tensors: list[tuple[str, Shape]] = []
        self.dropout_shapes: list[Shape] = []
        self.noise_shapes: list[Shape] = []

    def follow(
        self, layers: Sequence[Layer], given: Shape, prefix: str = "", entries: Sequence[Any] = ()
    ) -> tuple[list[Named], Shape]:
        """The layers of a sequence with their names, and the shape of its output.

        Args:
            layers: of the sequence.
            given: the shape of its input.
            prefix: of the names of its tensors.
            entries: the layers as they were written, for errors.

        Raises:
            UserError: if a layer does not take what the one before it gives, or leaves nothing of it.
        """
        named = []
        for i, layer in enumerate(layers):
            where = f"arch={self.arch}: layer {i + 1} ({entries[i] if i < len(entries) else layer})"
            name = self._name(layer, prefix)
            if layer.needs_map and len(given) != 3:
                raise UserError(f"{where} needs a feature map, but the layers before it already gave a vector")
            tensors = layer.tensors(given, self.variational)
            self.tensors += [(f"{prefix}{name}.{of}", shape) for of, shape in tensors]
            branches = {
                branch: self.follow(inner, given, f"{prefix}{name}.{branch}.")[0]
                for branch, inner in layer.branches.items()
            }
            try:
                shape = layer.shape(given)
            except ValueError as error:
                raise UserError(f"{where} {error}") from error
            if min(shape) < 1:
                raise UserError(f"{where} leaves nothing of images of {self.image[1]}x{self.image[2]} pixels")
            if isinstance(layer, Dropout):
                self.dropout_shapes.append(shape)
            if tensors:
                self.noise_shapes.append(shape)
            named.append(Named(name, layer, given, branches))
            given = shape
        return named, given

    def _name(self, layer: Layer, prefix: str) -> str:
        kind = "skip" if layer.name == "conv" and ".shortcut." in prefix else layer.name
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return kind if kind == "flatten" else f"{kind}{self.counts[kind]}"
