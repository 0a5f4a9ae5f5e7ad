"""An architecture as stages, and where their values lie in memory: what the fused engine needs to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zoo.base.lazy import np
from zoo.networks.architecture import Architecture
from zoo.networks.layers import Activation, Conv, Crop, Dropout, Flatten, Layer, Linear, Pool, Residual, Subsample

REGISTERS = 24  # vectors that a convolution may accumulate at once


@dataclass
class Shortcut:
    """The second way of a residual block: the largest value of a window, then perhaps a 1x1 convolution.

    The window of the place (y, x) begins at (start + step y, start + step x) of the source; a window of 1 is the identity,
    cropped and subsampled. Offsets count float32 values (`i`: int32 values).
    """

    source: int  # the stage whose output it takes; -1: the image
    channels: int  # of the source
    lanes: int  # of the source: channels, padded
    size: int  # height and width of the source
    window: int = 1
    step: int = 1
    start: int = 0
    conv: Conv | None = None
    # Offsets, set by `plan`: weights and bias; values taken and where from; gradients of the sum and of what was taken.
    w = b = taken = i = g_sum = g = 0


@dataclass
class Stage:
    """One convolution with what follows it. Offsets count float32 values (`i_offset`: int32 values)."""

    index: int
    inputs: int  # channels in
    input_lanes: int  # channels in, padded
    size: int  # height and width of the input
    kernel: int
    outputs: int
    pool: bool
    activation: bool
    dropout: int | None  # number of the dropout layer
    bias: bool = True
    shortcut: Shortcut | None = None  # added to the output, after all else

    def __post_init__(self) -> None:
        n = self.outputs
        self.vector = 16 if up(n, 16) <= up(n, 8) else 8  # lanes of the forward pass: output channels
        self.lanes = up(n, self.vector)
        self.vectors = self.lanes // self.vector
        self.together = 2 if self.vector == 8 else 1  # images that go forward at once, so that vectors of 16 are full
        self.map = self.size - self.kernel + 1
        self.side = self.map // 2 if self.pool else self.map  # height and width of the output
        self.places = self.side * self.side
        self.values = self.places * self.lanes
        self.row = self.kernel * self.input_lanes  # values in one row of the kernel
        self.back_vector = (
            16 if up(self.row, 16) <= up(self.row, 8) else 8
        )  # lanes of the backward pass: a kernel's row
        self.padded_row = up(self.row, self.back_vector)
        self.back_vectors = self.padded_row // self.back_vector
        self.w = self.b = self.copy = self.copy_b = self.i = self.z = self.d = self.g = 0  # offsets, set by `plan`

    @property
    def tile(self) -> int:
        """Output columns that the forward pass computes at once."""
        per_column = (4 if self.pool else 1) * self.vectors
        return max(
            (t for t in range(1, self.side + 1) if self.side % t == 0 and t * per_column <= REGISTERS), default=1
        )


@dataclass(frozen=True)
class Plan:
    """The stages of an architecture and how much memory a model and a thread need."""

    stages: list[Stage]
    weights: int  # length of the padded weight vector P
    copy: int  # of the weights as the forward pass reads them
    winners: int  # of the positions of max-pool winners
    arena: int  # of activations, derivatives and gradients of one image
    image: int  # of an input image
    pairs: int  # of the input of a stage for two images side by side
    classes: int


def up(n: int, multiple: int) -> int:
    """n, rounded up to a multiple."""
    return (n + multiple - 1) // multiple * multiple


def stages(arch: Architecture) -> list[Stage]:
    """The layers as stages. Raises ValueError, with the reason, if they are none."""
    found: list[Stage] = []
    channels, lanes, size, dropouts = arch.image[0], arch.image[0], arch.image[1], 0
    order = 0  # what may still follow in the stage: 0 nothing before the first layer, 1 pool, 2 activation, 3 dropout
    for layer, begins, ends in _unfolded(arch.layers):
        if isinstance(layer, Conv | Linear):
            if begins:
                shortcut = _shortcut(begins, Shortcut(len(found) - 1, channels, lanes, size))
            outputs, kernel = (layer.channels, layer.kernel) if isinstance(layer, Conv) else (layer.features, size)
            bias = layer.bias if isinstance(layer, Conv) else True
            found.append(Stage(len(found), channels, lanes, size, kernel, outputs, False, False, None, bias))
            order = 1
        elif isinstance(layer, Flatten):
            continue  # a linear layer is a convolution over the whole map: nothing to do
        elif not found and isinstance(layer, Pool | Activation | Dropout | Crop | Subsample):
            raise ValueError("it does not begin with a convolution or a linear layer")
        elif isinstance(layer, Pool):
            if order > 1 or (layer.size, layer.stride or 2) != (2, 2):
                raise ValueError("a pool must be 2x2 and follow its convolution at once")
            found[-1].pool, order = True, 2
        elif isinstance(layer, Activation):
            if order > 2:
                raise ValueError("an activation must come once, after the convolution or its pool")
            found[-1].activation, order = True, 3
        elif isinstance(layer, Dropout):
            if order > 3:
                raise ValueError("there are two dropout layers in a row")
            found[-1].dropout, order = dropouts, 4
            dropouts += 1
        elif isinstance(layer, Crop | Subsample | Residual):
            raise ValueError("feature maps are cut outside a shortcut, or there is a block in a block")
        else:
            raise ValueError(f"it has {layer.form}, which it does not know")
        if ends:
            if shortcut.conv is None and shortcut.lanes != found[-1].lanes:
                raise ValueError("a shortcut from the image must end with a convolution")  # its channels are not padded
            found[-1].shortcut, order = shortcut, 5  # nothing may follow in the stage
        found[-1].__post_init__()
        channels, lanes, size = found[-1].outputs, found[-1].lanes, found[-1].side
    if not found:
        raise ValueError("it has no layer with weights")
    last = found[-1]
    if last.activation or last.dropout is not None or last.pool or last.shortcut:
        raise ValueError("something follows the last linear layer")
    return found


def _unfolded(layers: Sequence[Layer]) -> Iterator[tuple[Layer, Residual | None, bool]]:
    """The layers one after another; with each, the residual block that begins with it, and whether one ends with it."""
    for layer in layers:
        if not isinstance(layer, Residual):
            yield layer, None, False
            continue
        if not layer.main or not isinstance(layer.main[0], Conv):
            raise ValueError("a block must begin with a convolution")
        for i, inner in enumerate(layer.main):
            yield inner, layer if i == 0 else None, i == len(layer.main) - 1


def _shortcut(block: Residual, found: Shortcut) -> Shortcut:
    """The shortcut of a block, given where it begins."""
    for layer in block.shortcut:
        if isinstance(layer, Crop) and found.conv is None:
            found.start += layer.size * found.step
        elif isinstance(layer, Subsample) and found.conv is None:
            found.step *= layer.step
        elif isinstance(layer, Pool) and found.conv is None and found.window == found.step == 1:
            found.window, found.step = layer.size, layer.stride or layer.size
        elif isinstance(layer, Conv) and found.conv is None and layer.kernel == 1:
            found.conv = layer
        else:
            raise ValueError("a shortcut may crop, pool once, subsample, and end with a 1x1 convolution")
    return found


def plan(arch: Architecture) -> Plan:
    """Stages with their places in memory; everything starts at a multiple of 16 values, so of 64 bytes."""
    found = stages(arch)
    weights = copy = winners = arena = 0
    for s in found:
        s.w, s.b = weights, weights + up(s.outputs * s.kernel * s.padded_row, 16)
        weights = s.b + up(s.lanes, 16)
        s.copy, s.copy_b = copy, copy + s.kernel * s.row * s.lanes * s.together
        copy = up(s.copy_b + s.lanes * s.together, 16)
        s.i, winners = winners, winners + up(s.values, 16)
        if cut := s.shortcut:
            taken = up(s.places * cut.lanes, 16)
            cut.i, winners = winners, winners + taken
            cut.taken, cut.g, cut.g_sum = arena, arena + taken, arena + 2 * taken
            arena = cut.g_sum + up(s.values, 16)
            if cut.conv:
                cut.w, cut.b = weights, weights + up(s.outputs * cut.channels, 16)
                weights = cut.b + up(s.outputs, 16)
    for s in found:
        # 16 values after each block: the backward pass reads and writes whole vectors past the end of a row.
        s.z, s.d, s.g = (arena + k * (up(s.values, 16) + 16) for k in range(3))
        arena = s.g + up(s.values, 16) + 16
    first = found[0]
    image = first.inputs * first.size**2
    pairs = max(2 * s.input_lanes * s.size**2 for s in found)
    return Plan(found, up(weights, 16), copy + 16, winners + 16, arena + 64, image, pairs, found[-1].outputs)


def positions(arch: Architecture, layout: Plan) -> np.ndarray:
    """Where each value of the weight vector lies in the padded one: int64 [parameters]."""
    where = []
    for s in layout.stages:
        output, channel, row, column = np.ix_(*(np.arange(n) for n in (s.outputs, s.inputs, s.kernel, s.kernel)))
        where.append((s.w + (output * s.kernel + row) * s.padded_row + column * s.input_lanes + channel).ravel())
        where += [s.b + np.arange(s.outputs)] if s.bias else []
        if s.shortcut and (conv := s.shortcut.conv):
            where.append(s.shortcut.w + np.arange(s.outputs * s.shortcut.channels))
            where += [s.shortcut.b + np.arange(s.outputs)] if conv.bias else []
    return np.concatenate(where)
