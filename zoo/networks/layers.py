"""The layers that a network may be described with. Each owns its form in YAML, its shapes, its module and its forward pass.

A new kind of layer is a class here, entered in `LAYERS`; its fields are what can be given in YAML. It works with `engine=torch`
and `engine=loop` at once. The fused engine says that it does not know it, until `zoo.engines.stages` and `kernels` do; tokens
and symmetries leave it out unless it says `is_plain`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, get_origin, get_type_hints

from zoo.base.errors import UserError
from zoo.base.lazy import F, nn, torch
from zoo.networks.variational import CONV_LIMITS, LINEAR_LIMITS, kept, noisy, variance

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]  # (channels, height, width) of a feature map, (features,) of a vector

ACTIVATIONS = {"tanh": "Tanh", "relu": "ReLU", "sigmoid": "Sigmoid", "gelu": "GELU"}  # names in F, and of modules in nn


class Layer(ABC):
    """A layer without weights, unless `tensors` says otherwise.

    In YAML, it is its `word` alone or, if it has fields, a dictionary: the word with the first field's value, and the others by
    their names.
    """

    word: ClassVar[str]  # in YAML
    form: ClassVar[str]  # how it is written there, for whoever mistypes it
    name: ClassVar[str]  # of its modules: conv1, conv2 …
    needs_map: ClassVar[bool] = True  # whether it takes feature maps only, and no vectors

    def tensors(self, given: Shape, variational: bool) -> list[tuple[str, Shape]]:
        """Its parameters, in PyTorch's order: names and shapes.

        Args:
            given: the shape of its input.
            variational: whether weights have variances.
        """
        return []

    @abstractmethod
    def shape(self, given: Shape) -> Shape:
        """The shape of its output for an input of the shape `given`. Raises ValueError if it does not take such."""

    @abstractmethod
    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """It as an ordinary module; `branches`: those of its `branches`."""

    @abstractmethod
    def forward(self, h: Tensor, run: Run) -> Tensor:
        """Its output of many models at once.

        Args:
            h: feature maps [n, models · channels, height, width], or vectors [models, n, features].
            run: what the pass needs beside it.
        """

    @property
    def branches(self) -> dict[str, tuple[Layer, ...]]:
        """The layers within it, by the name of the branch that they are in."""
        return {}

    @property
    def is_plain(self) -> bool:
        """Whether tokens and symmetries may take it for a link of a chain: it has a weight [out, in, …] with a bias [out] or
        none at all, and if the channels of its input change places, those of its output do, too, and nothing else changes."""
        return False


class Run:
    """A forward pass of many models, each on its own images.

    Args:
        models, n: how many, and images of each.
        parameters: of all layers in order, [models, *shape] each.
        activation: one of `ACTIVATIONS`.
        masks: of all dropout layers in order, [models, n, *shape of the layer] or None.
        noise: None without variances; else of all layers with weights in order, [models, n, *shape of the output] or None.
        seen: called with each layer and what it gives.
    """

    def __init__(
        self,
        models: int,
        n: int,
        parameters: Iterator[Tensor],
        activation: str,
        masks: Iterator[Tensor | None],
        noise: Iterator[Tensor | None] | None,
        seen: Callable[[Layer, Tensor], None] | None,
    ) -> None:
        self.models, self.n, self.parameters, self.masks, self.noise = models, n, parameters, masks, noise
        self.activation, self.seen = getattr(F, activation), seen

    def follow(self, layers: Sequence[Layer], h: Tensor) -> Tensor:
        """The output of layers one after another."""
        for layer in layers:
            h = layer.forward(h, self)
            if self.seen is not None:
                self.seen(layer, h if h.dim() == 3 else h.unflatten(1, (self.models, -1)).transpose(0, 1))
        return h


# --------------------------------------------------------------------------------------------- layers with weights


@dataclass(frozen=True)
class Conv(Layer):
    """A valid convolution with stride 1: `{conv: channels, kernel: k}`, without bias with `bias: false`."""

    channels: int
    kernel: int
    bias: bool = True

    word, form, name = "conv", "{conv: channels, kernel: k} (bias: false)", "conv"

    def tensors(self, given: Shape, variational: bool) -> list[tuple[str, Shape]]:
        """[out, in, k, k] and [out]; the same again of variances."""
        weight: Shape = (self.channels, given[0], self.kernel, self.kernel)
        plain: list[tuple[str, Shape]] = [("weight", weight), *([("bias", weight[:1])] if self.bias else [])]
        if not variational:
            return plain
        return [*plain, ("log_sigma2", weight), *([("log_sigma2_bias", weight[:1])] if self.bias else [])]

    def shape(self, given: Shape) -> Shape:
        """Smaller by the kernel less 1."""
        return (self.channels, given[1] - self.kernel + 1, given[2] - self.kernel + 1)

    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """`nn.Conv2d`."""
        return nn.Conv2d(given[0], self.channels, self.kernel, bias=self.bias)

    def forward(self, h: Tensor, run: Run) -> Tensor:
        """Models are the groups of one convolution."""
        w = next(run.parameters)
        w = w.reshape(-1, *w.shape[2:])
        b = next(run.parameters).reshape(-1) if self.bias else None
        if run.noise is None:
            return F.conv2d(h, w, b, groups=run.models)
        v = next(run.parameters).reshape(w.shape)
        vb = next(run.parameters).reshape(-1) if self.bias else None
        noise = next(run.noise)
        if noise is None:
            kept_b = None if b is None or vb is None else kept(b, vb, CONV_LIMITS)
            return F.conv2d(h, kept(w, v, CONV_LIMITS), kept_b, groups=run.models)
        spread_b = None if b is None or vb is None else variance(b, vb, CONV_LIMITS)
        mean = F.conv2d(h, w, b, groups=run.models)
        spread = F.conv2d(h.square(), variance(w, v, CONV_LIMITS), spread_b, groups=run.models)
        return noisy(mean, spread, noise.transpose(0, 1).reshape(mean.shape))

    @property
    def is_plain(self) -> bool:
        """With its bias."""
        return self.bias


@dataclass(frozen=True)
class Linear(Layer):
    """A fully connected layer: `{linear: features}`."""

    features: int

    word, form, name, needs_map = "linear", "{linear: features}", "fc", False

    def tensors(self, given: Shape, variational: bool) -> list[tuple[str, Shape]]:
        """[out, in] and [out]; variances of the weights alone: biases are not noisy."""
        weight: Shape = (self.features, given[0])
        plain: list[tuple[str, Shape]] = [("weight", weight), ("bias", weight[:1])]
        return [*plain, ("log_sigma2", weight)] if variational else plain

    def shape(self, given: Shape) -> Shape:
        """Of a vector."""
        if len(given) != 1:
            raise ValueError("needs a vector: put flatten before it")
        return (self.features,)

    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """`nn.Linear`."""
        return nn.Linear(given[0], self.features)

    def forward(self, h: Tensor, run: Run) -> Tensor:
        """Models are the batch of one matrix product."""
        w, b = next(run.parameters), next(run.parameters)
        if run.noise is None:
            return torch.baddbmm(b[:, None], h, w.transpose(1, 2))
        v, noise = next(run.parameters), next(run.noise)
        if noise is None:
            return torch.baddbmm(b[:, None], h, kept(w, v, LINEAR_LIMITS).transpose(1, 2))
        mean = torch.baddbmm(b[:, None], h, w.transpose(1, 2))
        return noisy(mean, h.square() @ variance(w, v, LINEAR_LIMITS).transpose(1, 2), noise)

    @property
    def is_plain(self) -> bool:
        """Yes."""
        return True


# ------------------------------------------------------------------------------------------ layers without weights


@dataclass(frozen=True)
class Pool(Layer):
    """Max-pooling over squares, which do not overlap unless `stride` is given: `{pool: size}`, `{pool: size, stride: s}`."""

    size: int
    stride: int | None = None

    word, form, name = "pool", "{pool: size} (stride: s)", "pool"

    def shape(self, given: Shape) -> Shape:
        """As many squares as fit."""
        step = self.stride or self.size
        return (given[0], *((side - self.size) // step + 1 for side in given[1:]))

    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """`nn.MaxPool2d`."""
        return nn.MaxPool2d(self.size, self.stride)

    def forward(self, h: Tensor, run: Run) -> Tensor:
        """Channel by channel."""
        return F.max_pool2d(h, self.size, self.stride)

    @property
    def is_plain(self) -> bool:
        """Without overlap."""
        return self.stride is None


@dataclass(frozen=True)
class Activation(Layer):
    """The non-linearity of the model (a generating factor of the zoo): `activation`."""

    word, form, name, needs_map = "activation", "activation", "act", False

    def shape(self, given: Shape) -> Shape:
        """The same."""
        return given

    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """`nn.Tanh` and so on."""
        return getattr(nn, ACTIVATIONS[activation])()

    def forward(self, h: Tensor, run: Run) -> Tensor:
        """Value by value."""
        return run.activation(h)

    @property
    def is_plain(self) -> bool:
        """Yes."""
        return True


@dataclass(frozen=True)
class Dropout(Layer):
    """Dropout with the model's probability (a generating factor of the zoo): `dropout`."""

    word, form, name, needs_map = "dropout", "dropout", "drop", False

    def shape(self, given: Shape) -> Shape:
        """The same."""
        return given

    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """`nn.Dropout`."""
        return nn.Dropout(dropout)

    def forward(self, h: Tensor, run: Run) -> Tensor:
        """By the masks of the pass."""
        mask = next(run.masks)
        if mask is None:
            return h
        return h * (mask if h.dim() == 3 else mask.transpose(0, 1).reshape(h.shape))

    @property
    def is_plain(self) -> bool:
        """Yes."""
        return True


@dataclass(frozen=True)
class Flatten(Layer):
    """From a feature map to a vector, channel by channel: `flatten`."""

    word, form, name = "flatten", "flatten", "flatten"

    def shape(self, given: Shape) -> Shape:
        """All values in a row."""
        return (math.prod(given),)

    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """`nn.Flatten`."""
        return nn.Flatten()

    def forward(self, h: Tensor, run: Run) -> Tensor:
        """From maps of all models to vectors of each."""
        return h.reshape(run.n, run.models, -1).transpose(0, 1)

    @property
    def is_plain(self) -> bool:
        """Yes."""
        return True


class _Cutting(Layer):
    """A layer that keeps a part of a feature map."""

    @abstractmethod
    def cut(self, x: Tensor) -> Tensor:
        """The part of the feature map [..., H, W]."""

    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """A module that calls `cut`."""
        from zoo.networks.modules import Cut

        return Cut(self.cut)

    def forward(self, h: Tensor, run: Run) -> Tensor:
        """The same of each map."""
        return self.cut(h)


@dataclass(frozen=True)
class Crop(_Cutting):
    """A feature map without its outermost `size` rows and columns: `{crop: size}`."""

    size: int

    word, form, name = "crop", "{crop: size}", "crop"

    def shape(self, given: Shape) -> Shape:
        """Smaller by twice the size."""
        return (given[0], given[1] - 2 * self.size, given[2] - 2 * self.size)

    def cut(self, x: Tensor) -> Tensor:
        """Without the border."""
        return x[..., self.size : x.shape[-2] - self.size, self.size : x.shape[-1] - self.size]


@dataclass(frozen=True)
class Subsample(_Cutting):
    """Every `step`th row and column of a feature map: `{subsample: step}`."""

    step: int

    word, form, name = "subsample", "{subsample: step}", "subsample"

    def shape(self, given: Shape) -> Shape:
        """The first row and column are kept."""
        return (given[0], -(-given[1] // self.step), -(-given[2] // self.step))

    def cut(self, x: Tensor) -> Tensor:
        """From the first row and column on."""
        return x[..., :: self.step, :: self.step]


@dataclass(frozen=True)
class Residual(Layer):
    """The sum of two branches: `{residual: [layers], shortcut: [layers]}`; an empty shortcut is the identity."""

    main: tuple[Layer, ...]
    shortcut: tuple[Layer, ...]

    word, form, name, needs_map = "residual", "{residual: [layers], shortcut: [layers]}", "block", False

    @property
    def branches(self) -> dict[str, tuple[Layer, ...]]:
        """Both."""
        return {"main": self.main, "shortcut": self.shortcut}

    def shape(self, given: Shape) -> Shape:
        """That of both branches."""
        ends = []
        for branch in self.branches.values():
            end = given
            for layer in branch:
                end = layer.shape(end)
            ends.append(end)
        if ends[0] != ends[1]:
            main, shortcut = ("×".join(map(str, end)) for end in ends)
            raise ValueError(f"adds {main} and, by its shortcut, {shortcut}")
        return ends[0]

    def module(self, given: Shape, activation: str, dropout: float, branches: Sequence[nn.Module] = ()) -> nn.Module:
        """A module that adds what both give."""
        from zoo.networks.modules import ResidualSum

        return ResidualSum(*branches)

    def forward(self, h: Tensor, run: Run) -> Tensor:
        """The main branch first: its parameters come first."""
        main = run.follow(self.main, h)
        return main + run.follow(self.shortcut, h)


# ----------------------------------------------------------------------------------------------------------- YAML

LAYERS: tuple[type[Layer], ...] = (
    Conv, Pool, Linear, Activation, Dropout, Flatten, Crop, Subsample, Residual,
)  # fmt: skip


def parse_layer(entry: Any) -> Layer:
    """One entry of `arch.layers` as a layer. Raises UserError for what is none."""
    for kind in LAYERS:
        own = fields(kind)  # type: ignore[arg-type]
        if not own and entry == kind.word:
            return kind()
        if own and isinstance(entry, dict) and kind.word in entry:
            values = {own[0].name if key == kind.word else key: value for key, value in entry.items()}
            needed = {field.name for field in own if field.default is MISSING}
            known = {field.name for field in own}
            if len(values) == len(entry) and needed <= set(values) <= known and _fit(kind, values):
                return kind(
                    **{
                        key: tuple(map(parse_layer, value)) if isinstance(value, list) else value
                        for key, value in values.items()
                    }
                )
    forms = ", ".join(kind.form for kind in LAYERS)
    raise UserError(f"arch.layers: {entry!r} is no layer; a layer is one of {forms} (sizes are whole and > 0)")


def _fit(kind: type[Layer], values: dict[str, Any]) -> bool:
    """Whether values are of the kinds of the fields of a layer: sizes above 0, other numbers, flags, lists of layers."""
    hints = get_type_hints(kind)
    return all(_fits(value, hints[name]) for name, value in values.items())


def _fits(value: Any, hint: Any) -> bool:
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if get_origin(hint) is tuple:
        return isinstance(value, list)
    return bool(value > 0) if type(value) is int and hint is not bool else type(value) is hint
