"""Compiled loops that train one variational model (see `zoo.networks.variational`), from the parts of `zoo.engines.kernels`.

Weights and their log-variances are padded alike, the second behind the first. Before each step, `effective` makes of them
what the forward pass reads: means and variances. Every stage then runs twice, on its inputs with the means and on their
squares with the variances, over whole maps; noise is drawn on the maps, and pooled. Backward, each of both ways has the
gradient of its outputs and follows the same winners. Evaluation is that of the plain kernel with the weights that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zoo.engines import kernels, stages
from zoo.engines.kernels import FLOATS, Writer
from zoo.engines.philox import NOISE
from zoo.engines.stages import Plan, Stage, up
from zoo.networks.architecture import Architecture
from zoo.networks.layers import Conv, Linear
from zoo.networks.variational import CONV_LIMITS, LINEAR_LIMITS

HEADER = '''"""Trains one architecture with variances. Written by zoo.engines.variational_kernels."""
import numpy as np
from numba import njit

from zoo.engines.noise import chain, effective, join, keep, masked, normals, pool, sample, square, times
from zoo.engines.numerics import IDENTITY, ZERO, activate, adam, cross_entropy, drop, fetch, largest, philox, sgd
from zoo.engines.numerics import side_by_side
from zoo.engines.simd import OPERATIONS

globals().update(OPERATIONS)
whole = njit(nogil=True, error_model="numpy", inline="never")
'''


@dataclass
class Noisy:
    """A stage that is noisy: itself, and how its two ways see it. Offsets count values of the arena."""

    stage: Stage
    mean: Stage  # forward without pool, of the weights
    spread: Stage  # forward without pool, of the variances on squares
    back: Stage  # backward of the variances
    squares: int = 0  # of its input
    by_spread: int = 0  # derivatives of its outputs by their variances
    by_square: int = 0  # gradients of its outputs by way of the next stage's variances

    @property
    def inputs(self) -> int:
        """Values of its input."""
        return self.stage.size**2 * self.stage.input_lanes


@dataclass(frozen=True)
class VariationalPlan(Plan):
    """As `Plan`; `weights` counts weights and log-variances, `half` one of both."""

    half: int
    noisy: list[Noisy]
    map_noise: int  # where noise lies in the order of a map
    noise_values: list[int]  # random numbers an image needs at each stage


def plan(arch: Architecture) -> VariationalPlan:
    """The plan of the plain architecture, and behind it what variances need."""
    plain = stages.plan(arch)
    half, copy, arena = plain.weights, plain.copy, plain.arena
    largest = max(s.map * s.map * s.lanes for s in plain.stages) + 16
    mean_map, spread_map, map_noise = (up(arena, 16) + k * up(largest, 16) for k in range(3))
    arena, noisy = map_noise + up(largest, 16), []
    for s in plain.stages:
        mean = replace(s, index=200 + s.index, pool=False)
        spread, back = replace(s, index=100 + s.index, pool=False), replace(s, index=100 + s.index)
        mean.copy, mean.copy_b, mean.z = s.copy, s.copy_b, mean_map
        spread.w, spread.b, spread.z = half + s.w, half + s.b, spread_map
        spread.copy, spread.copy_b = copy, copy + s.kernel * s.row * s.lanes * s.together
        copy = up(spread.copy_b + s.lanes * s.together, 16)
        back.w, back.b, back.i = half + s.w, half + s.b, s.i
        found = Noisy(s, mean, spread, back)
        found.squares, arena = arena, arena + up(found.inputs, 16) + 16
        back.g, found.by_spread, found.by_square = (arena + k * (up(s.values, 16) + 16) for k in range(3))
        arena = found.by_square + up(s.values, 16) + 16
        noisy.append(found)
    numbers = [s.outputs * s.map * s.map for s in plain.stages]
    return VariationalPlan(
        plain.stages, 2 * half, copy + 16, plain.winners, arena + 64, plain.image, plain.pairs, plain.classes,
        half, noisy, map_noise, numbers,
    )  # fmt: skip


def positions(arch: Architecture, layout: VariationalPlan) -> np.ndarray:
    """Where each value of the weight vector lies in the padded one: int64 [parameters]."""
    of_plain, where, first = stages.positions(arch, layout), [], 0
    for layer, s in zip(_weighted(arch), layout.stages, strict=True):
        n = s.outputs * s.inputs * s.kernel**2
        weights, biases = of_plain[first : first + n], of_plain[first + n : first + n + s.outputs * s.bias]
        first += n + len(biases)
        where += [weights, biases, layout.half + weights]
        where += [layout.half + biases] if isinstance(layer, Conv) else []
    return np.concatenate(where)


def limits(arch: Architecture, layout: VariationalPlan) -> np.ndarray:
    """What log α is clamped to, at each place of the padded weights: float32 [half]; 0 where there is no variance."""
    found, of_plain, first = np.zeros(layout.half, np.float32), stages.positions(arch, layout), 0
    for layer, s in zip(_weighted(arch), layout.stages, strict=True):
        n = s.outputs * s.inputs * s.kernel**2
        noisy = n + (s.outputs * s.bias if isinstance(layer, Conv) else 0)
        found[of_plain[first : first + noisy]] = (CONV_LIMITS if isinstance(layer, Conv) else LINEAR_LIMITS)[1]
        first += n + s.outputs * s.bias
    return found


def _weighted(arch: Architecture) -> list[Conv | Linear]:
    return [layer for layer in arch.layers if isinstance(layer, Conv | Linear)]


def source(arch: Architecture) -> str:
    """The code of an architecture: functions `train` and `evaluate`, see `FusedEngine` for their arguments."""
    layout, w = plan(arch), Writer()
    w(0, HEADER)
    for noisy in layout.noisy:
        s = noisy.stage
        for stage in (s, noisy.mean, noisy.spread):
            kernels.forward_code(w, stage, winners=False)
        kernels.weight_gradient_code(w, s)
        kernels.weight_gradient_code(w, noisy.back)
        if s.index:
            before = layout.noisy[s.index - 1]
            w(0, f"@whole\ndef input_gradient{s.index}(E, A, I):\n    P = E")
            kernels.back_code(w, s, before.stage)
            w(0, f"@whole\ndef input_gradient{noisy.back.index}(E, A, I):\n    P = E")
            way = replace(before.stage)
            way.g = before.by_square
            kernels.back_code(w, noisy.back, way)
    every = [stage for noisy in layout.noisy for stage in (noisy.stage, noisy.spread)]
    kernels.relayout_code(w, every)
    kernels.places_code(w, layout.stages)
    _evaluated(w, layout)
    _trained(w, layout)
    kernels.loops_code(w, layout, _loops(layout))
    return "\n".join(w.lines) + "\n"


def _inputs(layout: VariationalPlan) -> list[str]:
    return ["X, 0"] + [f"A, {s.z}" for s in layout.stages]


def _evaluated(w: Writer, layout: VariationalPlan) -> None:
    """Two images through the weights that are kept."""
    w(0, "@whole\ndef forward_evaluate(X, A, I, X1, A1, I1, Y, C, activation):")
    for s, source in zip(layout.stages, _inputs(layout), strict=False):
        kernels.two_images_code(w, s, f"forward{s.index}", source)
        if s is not layout.stages[-1]:
            for which in ("", "1"):
                w(1, f"activate(A{which}, {s.z}, {s.d}, {s.values}, {'activation' if s.activation else 'IDENTITY'})")


def _trained(w: Writer, layout: VariationalPlan) -> None:
    """Two images forward with noise; one image back."""
    inputs = _inputs(layout)
    w(
        0,
        "@whole\ndef forward_train(X, A, I, X1, A1, I1, Y, C, NUMBERS, activation, WORDS, image, image1, threshold, scale):",
    )
    for noisy in layout.noisy:
        s, mean = noisy.stage, noisy.mean
        kernels.two_images_code(w, mean, f"forward{mean.index}", inputs[s.index])
        for which in ("", "1"):
            array, _, at = inputs[s.index].partition(", ")
            w(1, f"square(A{which}, {at}, {noisy.squares}, {array}{which}, {noisy.inputs})")
        kernels.two_images_code(w, noisy.spread, f"forward{noisy.spread.index}", f"A, {noisy.squares}")
        for which in ("", "1"):
            maps = f"A{which}, {mean.z}, {noisy.spread.z}"
            first = f"image{which} * {layout.noise_values[s.index]}"
            w(1, f"sample({maps}, {layout.map_noise}, {s.map}, {s.lanes}, {s.outputs}, NUMBERS[{s.index}], {first})")
            if s.pool:
                taken = f"I{which}, {s.i}, {s.size}, {s.input_lanes}"
                w(1, f"pool({maps}, {s.map}, {s.lanes}, {s.z}, {noisy.by_spread}, {taken})")
            else:
                w(1, f"keep({maps}, {s.values}, {s.z}, {noisy.by_spread})")
        if s is layout.stages[-1]:
            break
        for which in ("", "1"):
            w(1, f"activate(A{which}, {s.z}, {s.d}, {s.values}, {'activation' if s.activation else 'IDENTITY'})")
        if s.dropout is not None:
            w(1, "if threshold > 0:")
            for which in ("", "1"):
                place = f"WORDS[{s.dropout}], image{which} * {s.outputs * s.places}"
                at = f"{s.z}, {s.d}, {s.places}, {s.outputs}, {s.lanes}"
                w(2, f"drop(A{which}, {at}, {place}, threshold, scale)")
    w(0, "@whole\ndef backward(X, E, A, I, G):")
    for noisy in reversed(layout.noisy):
        s, back = noisy.stage, noisy.back
        w(1, f"times(A, {s.g}, {noisy.by_spread}, {back.g}, {s.values})")
        w(1, f"weight_gradient{s.index}({inputs[s.index]}, A, I, G)")
        w(1, f"weight_gradient{back.index}(A, {noisy.squares}, A, I, G)")
        if s.index:
            before = layout.noisy[s.index - 1]
            b = before.stage
            w(1, f"input_gradient{s.index}(E, A, I)\ninput_gradient{back.index}(E, A, I)")
            w(1, f"join(A, {b.g}, {before.by_square}, {b.z}, {b.d}, {b.values})")


def _loops(layout: VariationalPlan) -> kernels.Loops:
    """In what the loops over steps and over images differ from those of plain models."""
    drawn = kernels.dropout_code(layout.stages)
    weights, limits = ("E", FLOATS), ("LIMITS", FLOATS)
    for i, n in enumerate(layout.noise_values):
        drawn.append(f"        values = (n * {n} + 1) // 2 * 2")
        drawn.append(f"        philox(WORDS[-1], values, seed, {NOISE + i}, epoch, step)")
        drawn.append(f"        normals(WORDS[-1], values, NUMBERS[{i}])")
    return kernels.Loops(
        drawn,
        1 + len(kernels.with_dropout(layout.stages)),
        weights="E",
        forward="",
        numbers="NUMBERS, ",
        prepared=f"        effective(P, E, LIMITS, {layout.half})\n",
        evaluated=f"    masked(P, E, LIMITS, {layout.half})\n",
        finished=f"        chain(P, E, G, LIMITS, {layout.half}, divergence)\n",
        train_more=(
            weights,
            ("NUMBERS", f"UniTuple({FLOATS}, {len(layout.noise_values)})"),
            limits,
            ("divergence", "float32"),
        ),
        evaluate_more=(weights, limits),
    )
