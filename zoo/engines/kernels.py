"""From a list of layers to compiled loops that train one model, all of it in a core's cache.

1. `stages` reads the layers as *stages*: a valid convolution, then optionally a 2x2 max-pool, an activation, dropout. A
   linear layer is a convolution as large as its input.
2. `plan` lays out memory. Maps are [row][column][channel], channels innermost and padded to whole vectors, so that a
   vector holds the channels of one place. The gradient goes back through a pool's winner only: a quarter of the work.
3. `source` writes the code of this architecture: convolutions unrolled into registers, sizes as constants.
4. `compiled` compiles it once and keeps it on disk, under a hash of all it depends on.

`print(source(architecture))` shows the code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import llvmlite
import numba
import numpy as np

from zoo.architecture import Activation, Architecture, Conv, Dropout, Flatten, Linear, Pool
from zoo.philox import DROPOUT

REGISTERS = 24  # vectors that a convolution may accumulate at once


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

    def __post_init__(self) -> None:
        n = self.outputs
        self.vector = 16 if _up(n, 16) <= _up(n, 8) else 8  # lanes of the forward pass: output channels
        self.lanes = _up(n, self.vector)
        self.vectors = self.lanes // self.vector
        self.map = self.size - self.kernel + 1
        self.side = self.map // 2 if self.pool else self.map  # height and width of the output
        self.places = self.side * self.side
        self.values = self.places * self.lanes
        self.row = self.kernel * self.input_lanes  # values in one row of the kernel
        self.back_vector = (
            16 if _up(self.row, 16) <= _up(self.row, 8) else 8
        )  # lanes of the backward pass: a kernel's row
        self.padded_row = _up(self.row, self.back_vector)
        self.back_vectors = self.padded_row // self.back_vector
        self.w = self.b = self.copy = self.copy_b = self.i = self.z = self.d = self.g = 0  # offsets, set by `plan`

    def tile(self, images: int) -> int:
        """Output columns computed at once, when as many images go together."""
        vectors = self.vectors if images == 1 else self.lanes // 8
        per_column = (4 if self.pool else 1) * vectors
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
    arena: int  # of activations, derivatives and gradients
    image: int  # of an input image
    classes: int


def _up(n: int, multiple: int) -> int:
    return (n + multiple - 1) // multiple * multiple


def refusal(arch: Architecture) -> str | None:
    """Why the layers of an architecture cannot be read as stages, in one sentence; None if they can."""
    if arch.is_module:
        return f"engine=fused trains architectures given as a list of layers; arch={arch.name} is a module: use engine=loop"
    if arch.image[1] != arch.image[2]:
        return f"engine=fused takes square images, not {arch.image[1]}x{arch.image[2]}: use engine=torch"
    try:
        stages(arch)
    except ValueError as error:
        return f"engine=fused cannot express arch={arch.name} ({error}): use engine=torch"
    return None


def stages(arch: Architecture) -> list[Stage]:
    """The layers as stages. Raises ValueError, with the reason, if they are none."""
    found: list[Stage] = []
    channels, lanes, size, dropouts = arch.image[0], arch.image[0], arch.image[1], 0
    order = 0  # what may still follow in the stage: 0 nothing before the first layer, 1 pool, 2 activation, 3 dropout
    for layer in arch.layers:
        if isinstance(layer, Conv | Linear):
            outputs, kernel = (layer.channels, layer.kernel) if isinstance(layer, Conv) else (layer.features, size)
            found.append(Stage(len(found), channels, lanes, size, kernel, outputs, False, False, None))
            order = 1
        elif isinstance(layer, Flatten):
            continue  # a linear layer is a convolution over the whole map: nothing to do
        elif not found:
            raise ValueError("it does not begin with a convolution or a linear layer")
        elif isinstance(layer, Pool):
            if order > 1 or layer.size != 2:
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
        found[-1].__post_init__()
        channels, lanes, size = found[-1].outputs, found[-1].lanes, found[-1].side
    if found[-1].activation or found[-1].dropout is not None or found[-1].pool:
        raise ValueError("something follows the last linear layer")
    return found


def plan(arch: Architecture) -> Plan:
    """Stages with their places in memory; everything starts at a multiple of 16 values, so of 64 bytes."""
    found = stages(arch)
    weights = copy = winners = arena = 0
    for s in found:
        s.w, s.b = weights, weights + _up(s.outputs * s.kernel * s.padded_row, 16)
        weights = s.b + _up(s.lanes, 16)
        s.copy, s.copy_b = copy, copy + s.kernel * s.row * s.lanes
        copy = _up(s.copy_b + s.lanes, 16)
        s.i, winners = winners, winners + _up(s.values, 16)
    for s in found:
        # 16 values after each block: the backward pass reads and writes whole vectors past the end of a row.
        s.z, s.d, s.g = (arena + k * (_up(s.values, 16) + 16) for k in range(3))
        arena = s.g + _up(s.values, 16) + 16
    first = found[0]
    image = first.inputs * first.size**2
    return Plan(found, _up(weights, 16), copy + 16, winners + 16, arena + 64, image, found[-1].outputs)


def positions(arch: Architecture, layout: Plan) -> np.ndarray:
    """Where each value of the weight vector lies in the padded one: int64 [parameters]."""
    where = []
    for s in layout.stages:
        output, channel, row, column = np.ix_(*(np.arange(n) for n in (s.outputs, s.inputs, s.kernel, s.kernel)))
        where.append((s.w + (output * s.kernel + row) * s.padded_row + column * s.input_lanes + channel).ravel())
        where.append(s.b + np.arange(s.outputs))
    return np.concatenate(where)


# ------------------------------------------------------------------------------------------------- the code


HEADER = '''"""Trains {name}. Written by zoo.engines.kernels."""
import numpy as np
from numba import njit

from zoo.engines.numerics import IDENTITY, ZERO, activate, adam, cross_entropy, drop, fetch, largest, philox, sgd
from zoo.engines.simd import OPERATIONS

globals().update(OPERATIONS)
whole = njit(fastmath=True, nogil=True, error_model="numpy", inline="never", cache=True)
'''


class _Writer:
    """Lines of code with indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, indent: int, text: str) -> None:
        self.lines += ["    " * indent + line for line in text.split("\n")]


def source(arch: Architecture) -> str:
    """The code of an architecture: functions `train` and `evaluate`, see `FusedEngine` for their arguments."""
    layout, w = plan(arch), _Writer()
    w(0, HEADER.format(name=arch.name))
    for s in layout.stages:
        _forward(w, s, images=1)
        _forward(w, s, images=2)
        _weight_gradient(w, s)
        if s.index:
            _input_gradient(w, s, layout.stages[s.index - 1])
    _relayout(w, layout)
    _networks(w, layout)
    _loops(w, layout)
    return "\n".join(w.lines) + "\n"


def _forward(w: _Writer, s: Stage, images: int) -> None:
    """Convolution, pool and, in training, the winners' positions; a tile of outputs at a time, in registers.

    In evaluation two images go together, value by value side by side, [row][column][channel][image]: eight channels of
    both fill a vector of 16, and `pairs` spreads two input values over it in one instruction. In training one goes
    alone, since the backward pass needs each image's own winners and whole kernel rows.
    """
    v = s.vector if images == 1 else 16
    rows, lanes, inputs, tile = 2 if s.pool else 1, images * s.lanes, images * s.input_lanes, s.tile(images)
    vectors, columns, spread = lanes // v, tile * rows, ("broadcast", "pairs")[images - 1]
    w(0, f"@whole\ndef forward{s.index}_{images}(X, x0, C, A, I):")
    w(1, f"# X at x0: [{s.size}][{s.size}][{inputs}] -> A at {images * s.z}: [{s.side}][{s.side}][{lanes}]")
    w(1, f"for py in range({s.side}):")
    w(2, f"for tile in range({s.side // tile}):")
    w(3, f"corner = x0 + (py * {rows * s.size} + tile * {columns}) * {inputs}")
    for r in range(rows):
        for c in range(columns):
            w(3, "; ".join(f"a{r}_{c}_{k} = load{v}(C, {images * s.copy_b + k * v})" for k in range(vectors)))
    w(3, f"for ky in range({s.kernel}):")
    w(4, f"xb = corner + ky * {s.size * inputs}\nwb = {images * s.copy} + ky * {s.row * lanes}")
    w(4, f"for j in range({s.row}):")
    for k in range(vectors):
        w(5, f"w{k} = load{v}(C, wb + j * {lanes} + {k * v})")
    for r in range(rows):
        for c in range(columns):
            w(5, f"x = {spread}{v}(X, xb + j * {images} + {(r * s.size + c) * inputs})")
            for k in range(vectors):
                w(5, f"a{r}_{c}_{k} = fma{v}(x, w{k}, a{r}_{c}_{k})")
    w(3, f"ob = {images * s.z} + (py * {s.side} + tile * {tile}) * {lanes}")
    winners = s.pool and images == 1
    if winners:
        w(3, f"ib = {s.i} + (py * {s.side} + tile * {tile}) * {lanes}")
        w(3, f"i0 = isplat{v}(np.int32((py * {2 * s.size} + tile * {columns}) * {s.input_lanes}))")
    for t in range(tile):
        for k in range(vectors):
            to = t * lanes + k * v
            if not s.pool:
                w(3, f"store{v}(A, ob + {to}, a0_{t}_{k})")
                continue
            w(3, f"m = a0_{2 * t}_{k}")
            if winners:
                w(3, f"q = isplat{v}(np.int32({2 * t * s.input_lanes}))")
            for r, c in ((0, 2 * t + 1), (1, 2 * t), (1, 2 * t + 1)):
                other = f"a{r}_{c}_{k}"
                if winners:
                    w(3, f"q = igreater{v}({other}, m, isplat{v}(np.int32({(r * s.size + c) * s.input_lanes})), q)")
                w(3, f"m = greater{v}({other}, m, {other}, m)")
            if winners:
                w(3, f"istore{v}(I, ib + {to}, iadd{v}(q, i0))")
            w(3, f"store{v}(A, ob + {to}, m)")


def _kernel_rows(s: Stage) -> list[list[tuple[int, int]]]:
    """The (row, vector) pairs of a kernel in groups that fit into registers."""
    at_once = max(1, min(s.kernel, (REGISTERS + 2) // s.back_vectors))
    starts = range(0, s.kernel, at_once)
    return [[(y, k) for y in range(y0, min(s.kernel, y0 + at_once)) for k in range(s.back_vectors)] for y0 in starts]


def _weight_gradient(w: _Writer, s: Stage) -> None:
    """Gradients of weights and biases, added to G: for each output channel, over the places it was taken from."""
    v, b = s.vector, s.back_vector
    w(0, f"@whole\ndef weight_gradient{s.index}(X, x0, A, I, G):")
    for k in range(s.vectors):
        w(1, f"b{k} = load{v}(G, {s.b + k * v})")
    w(1, f"for p in range({s.places}):")
    for k in range(s.vectors):
        w(2, f"b{k} = add{v}(b{k}, load{v}(A, {s.g + k * v} + p * {s.lanes}))")
    for k in range(s.vectors):
        w(1, f"store{v}(G, {s.b + k * v}, b{k})")
    for group in _kernel_rows(s):
        two = len(group) <= 6 and s.places % 2 == 0  # two sums side by side, where registers are left
        w(1, f"for o in range({s.outputs}):\n    wb = {s.w} + o * {s.kernel * s.padded_row}")
        for y, k in group:
            w(2, f"c{y}_{k}_0 = load{b}(G, wb + {y * s.padded_row + k * b})")
            if two:
                w(2, f"c{y}_{k}_1 = zero{b}()")
        w(2, f"for p in range({s.places // 2 if two else s.places}):")
        for u in range(2 if two else 1):
            step = (2 if two else 1) * s.lanes
            w(3, f"g = broadcast{b}(A, {s.g + u * s.lanes} + p * {step} + o)")
            w(3, f"q = x0 + np.intp(scalar(I, {s.i + u * s.lanes} + p * {step} + o))")
            for y, k in group:
                source_vector = f"load{b}(X, q + {y * s.size * s.input_lanes + k * b})"
                w(3, f"c{y}_{k}_{u} = fma{b}(g, {source_vector}, c{y}_{k}_{u})")
        for y, k in group:
            total = f"add{b}(c{y}_{k}_0, c{y}_{k}_1)" if two else f"c{y}_{k}_0"
            w(2, f"store{b}(G, wb + {y * s.padded_row + k * b}, {total})")


def _input_gradient(w: _Writer, s: Stage, before: Stage) -> None:
    """Gradients of the stage before: each output's gradient, times the kernel, added where the output was taken from."""
    b = s.back_vector
    w(0, f"@whole\ndef input_gradient{s.index}(P, A, I):")
    w(1, f"for i in range({before.values}):\n    A[{before.g} + i] = ZERO")
    for group in _kernel_rows(s):
        w(1, f"for o in range({s.outputs}):\n    wb = {s.w} + o * {s.kernel * s.padded_row}")
        for y, k in group:
            w(2, f"w{y}_{k} = load{b}(P, wb + {y * s.padded_row + k * b})")
        w(2, f"for p in range({s.places}):")
        w(3, f"g = broadcast{b}(A, {s.g} + p * {s.lanes} + o)")
        w(3, f"q = {before.g} + np.intp(scalar(I, {s.i} + p * {s.lanes} + o))")
        for y, k in group:
            at = f"q + {y * s.size * s.input_lanes + k * b}"
            w(3, f"store{b}(A, {at}, fma{b}(g, w{y}_{k}, load{b}(A, {at})))")
    w(1, f"for i in range({before.values}):\n    A[{before.g} + i] *= A[{before.d} + i]")


def _relayout(w: _Writer, layout: Plan) -> None:
    """Weights as the forward pass reads them, [kernel row][input value][output][image]; places of stages without pool."""
    w(0, "@whole\ndef relayout(P, C, images):")
    for s in layout.stages:
        w(1, f"for o in range({s.outputs}):\n    for ky in range({s.kernel}):\n        for j in range({s.row}):")
        w(4, "for i in range(images):")
        place = f"{s.copy} + (ky * {s.row} + j) * {s.lanes} + o"
        w(5, f"C[({place}) * images + i] = P[{s.w} + (o * {s.kernel} + ky) * {s.padded_row} + j]")
        w(1, f"for o in range({s.lanes}):\n    for i in range(images):")
        w(3, f"C[({s.copy_b} + o) * images + i] = P[{s.b} + o]")
    w(0, "@whole\ndef set_places(I):")
    for s in layout.stages:
        if not s.pool:
            w(1, f"for y in range({s.side}):\n    for x in range({s.side}):\n        for o in range({s.lanes}):")
            w(4, f"I[{s.i} + (y * {s.side} + x) * {s.lanes} + o] = (y * {s.size} + x) * {s.input_lanes}")
    w(1, "return 0")


def _networks(w: _Writer, layout: Plan) -> None:
    """One image forward and back; two images forward."""
    inputs = ["X, 0"] + [f"A, {s.z}" for s in layout.stages]
    for images in (1, 2):
        w(0, f"@whole\ndef forward_{images}(X, C, A, I, activation, WORDS, image, threshold, scale):")
        for s in layout.stages:
            before = "X, 0" if s.index == 0 else f"A, {images * layout.stages[s.index - 1].z}"
            w(1, f"forward{s.index}_{images}({before}, C, A, I)")
            if s.index < len(layout.stages) - 1:
                code = "activation" if s.activation else "IDENTITY"
                w(1, f"activate(A, {images * s.z}, {images * s.d}, {images * s.values}, {code})")
            if s.dropout is not None and images == 1:
                place = f"WORDS[{s.dropout}], image * {s.outputs * s.places}"
                w(1, "if threshold > 0:")
                w(2, f"drop(A, {s.z}, {s.d}, {s.places}, {s.outputs}, {s.lanes}, {place}, threshold, scale)")
    w(0, "@whole\ndef backward(X, P, A, I, G):")
    for s in reversed(layout.stages):
        w(1, f"weight_gradient{s.index}({inputs[s.index]}, A, I, G)")
        if s.index:
            w(1, f"input_gradient{s.index}(P, A, I)")


def _loops(w: _Writer, layout: Plan) -> None:
    """The loops over steps and over images."""
    last = layout.stages[-1]
    logits, classes = last.z, layout.classes
    drawn = [
        f"            philox(WORDS[{s.dropout}], n * {s.outputs * s.places}, seed, {DROPOUT + s.dropout}, epoch, step)"
        for s in layout.stages
        if s.dropout is not None
    ]
    draw = "\n".join(["        if threshold > 0:", *drawn]) if drawn else "        pass"
    w(
        0,
        f"""
@whole
def train(pixels, labels, mean, std, order, first, last, batch, P, M, V, REAL, G, C, A, I, X, WORDS, activation, is_adam,
          lr, decay, threshold, scale, seed, epoch, taken, factors, momenta, loss, correct):
    set_places(I)
    for step in range(first, last):
        n = min(batch, order.shape[0] - step * batch)
{draw}
        relayout(P, C, 1)
        share = np.float32(1.0 / n)
        for image in range(n):
            chosen = order[step * batch + image]
            fetch(pixels, chosen, mean, std, X, 1, 0)
            forward_1(X, C, A, I, activation, WORDS, image, threshold, scale)
            label = labels[chosen]
            loss[0] += cross_entropy(A, {logits}, {last.g}, {classes}, label, share)
            correct[label] += largest(A, {logits}, {classes}) == label
            backward(X, P, A, I, G)
        at = taken if factors.shape[0] > 1 else 0
        taken += 1
        if is_adam:
            adam(P, M, V, G, REAL, lr * factors[at], decay, taken)
        else:
            sgd(P, M, G, REAL, np.float32(lr * factors[at]), decay, np.float32(momenta[at]))


@whole
def evaluate(pixels, labels, mean, std, P, C, A, I, X, WORDS, activation, loss, correct):
    relayout(P, C, 2)
    LOGITS = np.empty(2 * {classes}, np.float32)
    n = pixels.shape[0]
    for image in range(0, n, 2):
        for half in range(2):  # an odd number ends with its last image twice, of which one counts
            fetch(pixels, min(image + half, n - 1), mean, std, X, 2, half)
        forward_2(X, C, A, I, activation, WORDS, 0, np.uint64(0), np.float32(1))
        for half in range(min(2, n - image)):
            label = labels[image + half]
            for i in range({classes}):
                LOGITS[i] = A[{2 * logits} + 2 * i + half]
            correct[label] += largest(LOGITS, 0, {classes}) == label
            loss[0] += cross_entropy(LOGITS, 0, {classes}, {classes}, label, np.float32(1))
""",
    )


# ------------------------------------------------------------------------------------------------- compilation


def cache_folder() -> Path:
    """Where compiled kernels are kept: hyperzoo/kernels in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperzoo" / "kernels"


@cache
def _module(code: str) -> ModuleType:
    """The code as a module: written to a file whose name is a hash, next to which numba keeps what it compiled."""
    here = Path(__file__).parent
    used = [
        code,
        *((here / name).read_text() for name in ("simd.py", "numerics.py")),
        numba.__version__,
        llvmlite.__version__,
    ]
    name = f"kernel_{hashlib.sha256(chr(0).join(used).encode()).hexdigest()[:16]}"
    file = cache_folder() / f"{name}.py"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_suffix(f".{os.getpid()}.tmp")
        written.write_text(code)
        os.replace(written, file)  # another process may do the same; the bytes are the same
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


def compiled(arch: Architecture) -> tuple[Callable[..., None], Callable[..., None]]:
    """The functions `train` and `evaluate` of an architecture; compiled when first called, or taken from the disk."""
    module = _module(source(arch))
    return module.train, module.evaluate
