"""An architecture as a description: a short list of layers, from which everything else follows.

From the description alone follow the flat layout of the weight vector, the ordinary `nn.Module` with its state dict,
and the forward pass of many models at once. Nothing else in the code knows the index of a layer. What a list of layers
cannot express (a ResNet) is a plain `nn.Module` class, named by its dotted path.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.base.errors import UserError, naming
from zoo.base.lazy import nn, np, torch
from zoo.base.plugins import find
from zoo.networks.layers import ACTIVATIONS, Layer, Run, parse_layer
from zoo.networks.layout import Named, Slot, Walk, slots
from zoo.networks.variational import CONV_LIMITS, DROPPED, LINEAR_LIMITS, START, divergence, kept, log_alpha

if TYPE_CHECKING:
    from torch import Tensor

MOST_VALUES = 2**22  # of what a layer of a stored network gives for one image


@dataclass
class ArchConfig:
    """`arch=`: the network that every model of a zoo has. A list of layers, or the class of an `nn.Module`."""

    name: str
    image_size: int | None  # height and width of the images it takes; null: as the dataset distributes them
    protocol: str  # which protocol of the dataset it trains under (splits, transforms): plain or augmented
    classes: int | None  # size of the head; null: as many as the dataset has classes
    layers: list[Any] | None = None  # e.g. [{conv: 8, kernel: 5}, {pool: 2}, activation, flatten, {linear: 10}]
    module: str | None = (
        None  # dotted path of an nn.Module class, called with image=(C, H, W), classes=K, **module_args
    )
    module_args: dict[str, Any] = field(default_factory=dict)
    variational: bool = False  # with a learnt variance for each weight, see zoo.networks.variational


class Architecture:
    """A network as data.

    Args:
        name: how it is called, e.g. "cnn_s".
        image: (channels, height, width) of the images it takes.
        classes: number of outputs.
        layers: entries as in `ArchConfig.layers`; or None where `module` is given.
        module: dotted path of an `nn.Module` class.
        module_args: further keyword arguments of that class.
        variational: whether convolutions and linear layers learn a variance for each weight (see `zoo.networks.variational`).

    Attributes:
        layout: the slots of the weight vector: layers in order, weight then bias, as PyTorch flattens them.
        buffer_layout: the slots of the buffer vector (BatchNorm's running statistics); empty for a list of layers.

    Raises:
        UserError: if the layers do not fit each other, the image or the classes; or the class cannot be had.
    """

    def __init__(
        self,
        name: str,
        image: Sequence[int],
        classes: int,
        layers: Sequence[Any] | None = None,
        module: str | None = None,
        module_args: dict[str, Any] | None = None,
        variational: bool = False,
    ) -> None:
        if (layers is None) == (module is None):
            raise UserError(
                f"arch={name}: give either arch.layers (a list of layers) or arch.module (a class), not both"
            )
        self.name, self.classes = name, int(classes)
        self.image = (int(image[0]), int(image[1]), int(image[2]))
        self.module_path, self.module_args, self.variational = module, dict(module_args or {}), variational
        self.entries = None if layers is None else list(layers)
        self.layers: list[Layer] = [] if layers is None else [parse_layer(entry) for entry in layers]
        if module is None:
            walk = Walk(self.name, self.image, variational)
            self._named = self._walked(walk)
            self.dropout_shapes, self.noise_shapes = walk.dropout_shapes, walk.noise_shapes
            self.layout, self.buffer_layout = slots(walk.tensors), []
        else:
            self._class = _module_class(module)
            self.noise_shapes = []
            with torch.random.fork_rng(devices=[]):  # looking at a network must not move anybody's random numbers
                example = self._example()
            self.layout = slots([(n, tuple(p.shape)) for n, p in example.named_parameters()])
            self.buffer_layout = slots([(n, tuple(b.shape)) for n, b in example.named_buffers()])
            self._buffer_dtypes = {n: b.dtype for n, b in example.named_buffers()}
        self.n_parameters = sum(slot.size for slot in self.layout)
        self.n_buffers = sum(slot.size for slot in self.buffer_layout)

    @classmethod
    def from_config(cls, config: ArchConfig, image: Sequence[int], dataset_classes: int) -> Architecture:
        """The architecture of a config for images of shape `image` = (C, H, W) with `dataset_classes` classes."""
        classes = config.classes if config.classes is not None else dataset_classes
        return cls(config.name, image, classes, config.layers, config.module, config.module_args, config.variational)

    @classmethod
    def from_dict(cls, description: dict[str, Any], module: str | None = None) -> Architecture:
        """The inverse of `to_dict`, for a description that was stored.

        Args:
            description: checked as `zoo.store.schema` says.
            module: the class that may be imported though it is none of the package `zoo`: whoever calls this named it.

        Raises:
            UserError: if the description names another class, or is of a network too large to be run.
        """
        path = description.get("module")
        if path is not None and path != module and not _is_ours(path):
            raise UserError(
                f"arch={description['name']} is the class {path}, which is none of hyperzoo's, and a stored zoo does not choose "
                f"what code is run: if you know it, name it yourself, with the arch= of yours that has it (arch.module={path}) or, "
                f"in Python, Zoo.open(path, module={path!r})"
            )
        found = cls(**description)
        if (most := max(map(math.prod, found.noise_shapes), default=0)) > MOST_VALUES:
            raise UserError(f"arch={found.name} has a layer of {most:,} values, but at most {MOST_VALUES:,} are run")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values from which `from_dict` makes an equal architecture."""
        base: dict[str, Any] = {"name": self.name, "image": list(self.image), "classes": self.classes}
        base |= {"variational": True} if self.variational else {}
        if self.module_path is None:
            return base | {"layers": self.entries}
        return base | {"module": self.module_path, "module_args": self.module_args}

    @property
    def is_module(self) -> bool:
        """Whether it is a plain `nn.Module` class rather than a list of layers."""
        return self.module_path is not None

    @property
    def takes_activation(self) -> bool:
        """Whether the activation of a model can be chosen."""
        return not self.is_module or "activation" in inspect.signature(self._class).parameters

    def runs(self, activations: Iterable[Any]) -> np.ndarray:
        """Whether networks of these activations can be run: bool [n]. Imported ones may have others, or not tell theirs."""
        any_will_do = not self.takes_activation
        return np.array([any_will_do or name in ACTIVATIONS for name in activations], bool)

    @property
    def takes_dropout(self) -> bool:
        """Whether a dropout probability has any effect."""
        if self.is_module:
            return "dropout" in inspect.signature(self._class).parameters
        return bool(self.dropout_shapes)

    @property
    def is_chain(self) -> bool:
        """Whether it is plain layers one after another, each weight with its bias: what tokens and symmetries need."""
        return not (self.is_module or self.variational) and all(layer.is_plain for layer in self.layers)

    def plain(self) -> Architecture:
        """The same without variances."""
        return Architecture(**{**self.to_dict(), "variational": False})

    @property
    def flat_layers(self) -> list[Layer]:
        """The layers in the order in which `forward` shows them: those of residual blocks before their block."""

        def flat(layer: Layer) -> list[Layer]:
            inner = [one for branch in layer.branches.values() for within in branch for one in flat(within)]
            return [*inner, layer]

        return [one for layer in self.layers for one in flat(layer)]

    def _walked(self, walk: Walk) -> list[Named]:
        """The layers with their names, when an image has gone through them."""
        named, shape = walk.follow(self.layers, self.image, entries=self.entries or [])
        if shape != (self.classes,):
            raise UserError(
                f"arch={self.name}: the last layer gives {'x'.join(map(str, shape))} outputs, but {self.classes} classes "
                f"are wanted; end arch.layers with {{linear: {self.classes}}}"
            )
        return named

    def _example(self) -> nn.Module:
        """A module of the class, after checks of what the rest of the code relies on.

        Raises:
            UserError: if it cannot be called as described, its state is more than parameters and buffers, or it draws
                random numbers of its own: a model would then depend on what was trained before it.
        """
        what = f"arch.module={self.module_path}"
        try:
            example = self._build_plain("relu", 0.0)  # variances draw random numbers, but those are the zoo's own
            deterministic = [layer.eval() for layer in example.modules() if type(layer) is nn.Dropout]
            before = torch.get_rng_state()
            shape = tuple(example(torch.zeros(2, *self.image)).shape)
        except Exception as error:
            call = f"image={self.image}, classes={self.classes}, {self.module_args}"
            raise UserError(
                f"{what}: does not work when called with {call} ({type(error).__name__}: {error})"
            ) from error
        if shape != (2, self.classes):
            raise UserError(f"{what}: gives outputs of shape {shape} for 2 images, but (2, {self.classes}) is wanted")
        if not torch.equal(before, torch.get_rng_state()):
            raise UserError(
                f"{what}: draws random numbers in training; the only such layer that a zoo can repeat is nn.Dropout"
            )
        for layer in deterministic:
            layer.train()
        names = [name for name, _ in [*example.named_parameters(), *example.named_buffers()]]
        if sorted(names) != sorted(example.state_dict()):
            raise UserError(
                f"{what}: shares weights between layers or has buffers that are not saved; a zoo can hold neither"
            )
        return self._build("relu", 0.0)  # the forward pass has moved the buffers of the first one

    # ------------------------------------------------------------------------------------- one model

    def _build(self, activation: str, dropout: float) -> nn.Module:
        module = self._build_plain(activation, dropout)
        if not self.variational:
            return module
        from zoo.networks.modules import make_variational

        return make_variational(module)

    def _build_plain(self, activation: str, dropout: float) -> nn.Module:
        if self.is_module:
            factors: dict[str, Any] = {"activation": activation} if self.takes_activation else {}
            factors |= {"dropout": dropout} if self.takes_dropout else {}
            return self._class(image=self.image, classes=self.classes, **factors, **self.module_args)
        return self._sequence(self._named, activation, dropout)

    def _sequence(self, named: Sequence[Named], activation: str, dropout: float) -> nn.Sequential:
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for entry in named:
            branches = [self._sequence(branch, activation, dropout) for branch in entry.branches.values()]
            modules[entry.name] = entry.layer.module(entry.given, activation, dropout, branches)
        return nn.Sequential(modules)

    def module(self, activation: str = "relu", dropout: float = 0.0) -> nn.Module:
        """An ordinary module in training mode, its layers built in order (so it draws PyTorch's own initialisation)."""
        return self._build(activation, dropout)

    def weights(self, module: nn.Module) -> Tensor:
        """The weight vector of a module: [parameters], a copy."""
        return torch.cat([p.detach().reshape(-1) for p in module.parameters()])

    def buffers(self, module: nn.Module) -> Tensor:
        """The buffer vector of a module: float32 [buffers], a copy (counters are exact below 2^24)."""
        values = [b.detach().reshape(-1).to(torch.float32) for b in module.buffers()]
        return torch.cat(values) if values else torch.zeros(0)

    def state_dict(self, weights: Tensor, buffers: Tensor | None = None) -> dict[str, Tensor]:
        """A state dict for `module()` from a weight vector [parameters] and a buffer vector [buffers]; copies."""
        state = {s.name: weights[s.offset : s.offset + s.size].reshape(s.shape).clone() for s in self.layout}
        if self.buffer_layout:
            if buffers is None:
                raise ValueError(f"{self.name} has buffers ({self.n_buffers} values): they are needed for a state dict")
            for s in self.buffer_layout:
                values = buffers[s.offset : s.offset + s.size].reshape(s.shape)
                state[s.name] = values.to(self._buffer_dtypes[s.name], copy=True)
        return state

    # ------------------------------------------------------------------------------------- variances

    def variational_slots(self) -> list[tuple[Slot, Slot, tuple[float, float]]]:
        """Each tensor that is noisy, with its log-variances and the limits of its log α; empty without variances."""
        slots = {slot.name: slot for slot in self.layout}
        found = []
        for name, slot in slots.items():
            owner, _, what = name.rpartition(".")
            spread = slots.get(f"{owner}.log_sigma2{'_bias' if what == 'bias' else ''}")
            if what in ("weight", "bias") and spread is not None and spread.shape == slot.shape:
                conv = len(slots[f"{owner}.weight"].shape) == 4
                found.append((slot, spread, CONV_LIMITS if conv else LINEAR_LIMITS))
        return found

    def divergence(self, weights: Tensor) -> Tensor:
        """The Kullback-Leibler divergence of many models [models, parameters], summed over what is noisy: [models]."""
        total = weights.new_zeros(len(weights))
        for slot, spread, limits in self.variational_slots():
            total = total + divergence(_of(weights, slot), _of(weights, spread), limits).sum(1)
        return total

    def sparsity(self, weights: Tensor) -> dict[str, Tensor]:
        """The share of weights that are dropped (biases do not count), of all and of each layer: [models] each.

        Keys: "sparsity", then "sparsity_<layer>", e.g. "sparsity_conv1".
        """
        shares, dropped_of_all, size_of_all = {}, torch.zeros(len(weights)), 0
        for slot, spread, limits in self.variational_slots():
            owner, _, what = slot.name.rpartition(".")
            if what == "weight":
                dropped = (log_alpha(_of(weights, slot), _of(weights, spread), limits) >= DROPPED).sum(1)
                shares[f"sparsity_{owner}"] = dropped / slot.size
                dropped_of_all, size_of_all = dropped_of_all + dropped, size_of_all + slot.size
        return {"sparsity": dropped_of_all / size_of_all, **shares}

    def masked(self, weights: Tensor) -> Tensor:
        """Many models of `plain()`: [models, its parameters], dropped weights 0."""
        known = {slot.name: _of(weights, slot) for slot in self.layout}
        for slot, spread, limits in self.variational_slots():
            known[slot.name] = kept(_of(weights, slot), _of(weights, spread), limits)
        return torch.cat([known[slot.name] for slot in self.plain().layout], dim=1)

    def with_variances(self, weights: Tensor) -> Tensor:
        """The inverse of dropping nothing: models [models, parameters of `plain()`] with all variances at their start."""
        known = {slot.name: _of(weights, slot) for slot in self.plain().layout}
        start = [known.get(slot.name, weights.new_full((len(weights), slot.size), START)) for slot in self.layout]
        return torch.cat(start, dim=1)

    # ------------------------------------------------------------------------------------- many models at once

    def split(self, weights: Tensor) -> list[Tensor]:
        """A population's weights [models, parameters] as one view a slot: [models, *shape], in layout order."""
        parts = weights.split([slot.size for slot in self.layout], dim=1)
        return [part.reshape(-1, *slot.shape) for part, slot in zip(parts, self.layout)]

    def forward(
        self,
        weights: Tensor,
        images: Tensor,
        activation: str,
        masks: Sequence[Tensor] | None = None,
        seen: Callable[[Layer, Tensor], None] | None = None,
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The outputs of many models at once, each on its own images.

        Models are the groups of grouped convolutions and the batch of batched matrix products, so that no model's
        arithmetic touches another's. Only for a list of layers.

        Args:
            weights: [models, parameters].
            images: [models, n, channels, height, width], normalised.
            activation: one of ACTIVATIONS, the same for all models.
            masks: one tensor [models, n, *shape of the layer] a dropout layer, holding 0 or 1 / (1 - p);
                None switches dropout off (evaluation).
            seen: called with each layer and what it gives, [models, n, channels, height, width] or [models, n, features];
                layers of a residual block before the block.
            noise: for a variational architecture, standard normal numbers [models, n, *shape] for what each layer with
                weights gives; None is evaluation: without noise, dropped weights 0.

        Returns:
            Logits [models, n, classes].
        """
        models, n = images.shape[:2]
        random = iter(noise if noise is not None else [None] * len(self.noise_shapes)) if self.variational else None
        run = Run(
            models,
            n,
            iter(self.split(weights)),
            activation,
            iter(masks if masks is not None else [None] * len(self.dropout_shapes)),
            random,
            seen,
        )
        # Feature maps are [n, models * channels, height, width]; after flatten, vectors are [models, n, features].
        h = images.transpose(0, 1).reshape(n, models * self.image[0], *self.image[1:])
        return run.follow(self.layers, h)


def _of(weights: Tensor, slot: Slot) -> Tensor:
    """A tensor of many models, flat: [models, values]."""
    return weights[:, slot.offset : slot.offset + slot.size]


def _is_ours(path: str) -> bool:
    """Whether a dotted path names a network of the package `zoo`; nothing else is imported to find out."""
    return path.startswith("zoo.") and _module_class(path).__module__.startswith("zoo.")


def _module_class(path: str) -> type[nn.Module]:
    """The `nn.Module` class at a dotted path; anything else is refused before it is called."""
    with naming("arch.module"):
        found = find(path)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"arch.module: {path} is no torch.nn.Module class; give the dotted path of one")
    return found
