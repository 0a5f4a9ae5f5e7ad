"""From a list of layers to compiled loops that train one model, all of it in a core's cache.

1. `stages` reads the layers as *stages*: a valid convolution, then optionally a 2x2 max-pool, an activation, dropout. A
   linear layer is a convolution as large as its input. The last stage of a residual block also has its *shortcut*.
2. `plan` lays out memory. Maps are [row][column][channel], channels innermost and padded to whole vectors, so that a
   vector holds the channels of one place. The gradient goes back through a pool's winner only: a quarter of the work.
3. `source` writes the code of this architecture: convolutions unrolled into registers, sizes as constants.
4. `compiled` compiles it once and keeps it on the disk, under a hash of all that it depends on.

`print(source(architecture))` shows the code.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoo.engines.philox import DROPOUT
from zoo.engines.stages import REGISTERS, Plan, Shortcut, Stage, plan
from zoo.networks.architecture import Architecture

HEADER = '''"""Trains one architecture. Written by zoo.engines.kernels."""
import numpy as np
from numba import njit

from zoo.engines.numerics import IDENTITY, ZERO, activate, adam, add, cross_entropy, drop, fetch, largest, mix, mix_back
from zoo.engines.numerics import philox, put_back, sgd, side_by_side, take
from zoo.engines.simd import OPERATIONS

globals().update(OPERATIONS)
whole = njit(nogil=True, error_model="numpy", inline="never")  # strict, see zoo.engines.numerics
'''


class Writer:
    """Lines of code with indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, indent: int, text: str) -> None:
        """Add lines of text."""
        self.lines += ["    " * indent + line for line in text.split("\n")]


def source(arch: Architecture) -> str:
    """The code of an architecture: functions `train` and `evaluate`, see `FusedEngine` for their arguments."""
    layout, w = plan(arch), Writer()
    w(0, HEADER)
    for s in layout.stages:
        forward_code(w, s, winners=True)
        forward_code(w, s, winners=False)
        weight_gradient_code(w, s)
        if s.index:
            input_gradient_code(w, s, layout.stages)
    relayout_code(w, layout.stages)
    places_code(w, layout.stages)
    networks_code(w, layout)
    words = max(1, len(with_dropout(layout.stages)))
    loops_code(w, layout, Loops(dropout_code(layout.stages) or ["        pass"], words))
    return "\n".join(w.lines) + "\n"


def forward_code(w: Writer, s: Stage, winners: bool) -> None:
    """Convolution, pool and (for training) the winners' positions; a tile of outputs at a time, in registers.

    A stage with few channels takes two images at once, whose inputs lie side by side, [row][column][channel][image]:
    eight channels of both fill a vector of 16, and `pairs` spreads two input values over it in one instruction. `halves`
    then parts the results, since the backward pass follows each image's own winners.
    """
    images, rows = s.together, 2 if s.pool else 1
    lanes, inputs, spread = images * s.lanes, images * s.input_lanes, ("broadcast", "pairs")[images - 1]
    columns, winners = s.tile * rows, winners and s.pool
    name = f"forward{s.index}" + ("_winners" if winners else "")
    arguments = "X, x0, C, A, I" if images == 1 else "Y, C, A, I, A1, I1"
    w(0, f"@whole\ndef {name}({arguments}):")
    source, corner = ("X", "x0 + ") if images == 1 else ("Y", "")
    shape = f"[{s.size}][{s.size}][{s.input_lanes}]" + ("[2]" if images == 2 else "")
    w(1, f"# {source}: {shape} -> A{' and A1' if images == 2 else ''} at {s.z}: [{s.side}][{s.side}][{s.lanes}]")
    w(1, f"for py in range({s.side}):")
    w(2, f"for tile in range({s.side // s.tile}):")
    w(3, f"corner = {corner}(py * {rows * s.size} + tile * {columns}) * {inputs}")
    for r in range(rows):
        for c in range(columns):
            w(3, "; ".join(f"a{r}_{c}_{k} = load16(C, {s.copy_b + k * 16})" for k in range(s.vectors)))
    w(3, f"for ky in range({s.kernel}):\n    for channel in range({s.inputs}):")
    w(5, f"xb = corner + ky * {s.size * inputs} + channel * {images}")
    w(5, f"wb = {s.copy} + ky * {s.row * lanes} + channel * {lanes}")
    for kx in range(s.kernel):
        for k in range(s.vectors):
            w(5, f"w{kx}_{k} = load16(C, wb + {kx * s.input_lanes * lanes + k * 16})")
    for r in range(rows):
        for column in range(columns + s.kernel - 1):  # each input is loaded once, for all kernel columns that meet it
            w(5, f"x = {spread}16({source}, xb + {(r * s.size + column) * inputs})")
            for kx in range(max(0, column - columns + 1), min(s.kernel, column + 1)):
                for k in range(s.vectors):
                    w(5, f"a{r}_{column - kx}_{k} = fma16(x, w{kx}_{k}, a{r}_{column - kx}_{k})")
    w(3, f"ob = {s.z} + (py * {s.side} + tile * {s.tile}) * {s.lanes}")
    if winners:
        w(3, f"ib = {s.i} + (py * {s.side} + tile * {s.tile}) * {s.lanes}")
        w(3, f"i0 = isplat16(np.int32((py * {2 * s.size} + tile * {columns}) * {s.input_lanes}))")
    for t in range(s.tile):
        for k in range(s.vectors):
            w(3, f"m = a0_{rows * t}_{k}")
            if winners:
                w(3, f"q = isplat16(np.int32({2 * t * s.input_lanes}))")
            for r, c in ((0, 2 * t + 1), (1, 2 * t), (1, 2 * t + 1)) if s.pool else ():
                other = f"a{r}_{c}_{k}"
                if winners:
                    w(3, f"q = igreater16({other}, m, isplat16(np.int32({(r * s.size + c) * s.input_lanes})), q)")
                w(3, f"m = greater16({other}, m, {other}, m)")
            to = t * s.lanes + k * s.vector
            stores = [("store", "A", "ob", "m")] + ([("istore", "I", "ib", "iadd16(q, i0)")] if winners else [])
            for store, array, base, value in stores:
                if images == 1:
                    w(3, f"{store}16({array}, {base} + {to}, {value})")
                    continue
                half = "halves" if store == "store" else "ihalves"
                w(3, f"v = {value}")
                w(3, f"{store}8({array}, {base} + {to}, {half}0(v))\n{store}8({array}1, {base} + {to}, {half}1(v))")


def _kernel_rows(s: Stage) -> list[list[tuple[int, int]]]:
    """The (row, vector) pairs of a kernel in groups that fit into registers."""
    at_once = max(1, min(s.kernel, (REGISTERS + 2) // s.back_vectors))
    starts = range(0, s.kernel, at_once)
    return [[(y, k) for y in range(y0, min(s.kernel, y0 + at_once)) for k in range(s.back_vectors)] for y0 in starts]


def weight_gradient_code(w: Writer, s: Stage) -> None:
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


def input_gradient_code(w: Writer, s: Stage, stages: list[Stage]) -> None:
    """Gradients of the stage before: each output's gradient, times the kernel, added where the output was taken from.

    Then what comes back through shortcuts that begin there; what goes back through a shortcut that ends there is kept.
    """
    before = stages[s.index - 1]
    w(0, f"@whole\ndef input_gradient{s.index}(P, A, I, G):")
    back_code(w, s, before)
    for end in stages:
        if (cut := end.shortcut) and cut.source == before.index:
            w(1, f"put_back(A, {cut.g if cut.conv else cut.g_sum}, {end.places * cut.lanes}, {before.g}, I, {cut.i})")
    if cut := before.shortcut:
        w(1, f"for i in range({before.values}):\n    A[{cut.g_sum} + i] = A[{before.g} + i]")
        if cut.conv:
            w(1, f"mix_back(P, {cut.w}, {cut.b}, A, {cut.taken}, {cut.g}, {_mixed(before, cut)}, {cut.g_sum}, G)")
    w(1, f"for i in range({before.values}):\n    A[{before.g} + i] *= A[{before.d} + i]")


def _mixed(s: Stage, cut: Shortcut) -> str:
    """Sizes of a shortcut's convolution: places, channels in, those padded, channels out, those padded."""
    return f"{s.places}, {cut.channels}, {cut.lanes}, {s.outputs}, {s.lanes}"


def back_code(w: Writer, s: Stage, before: Stage) -> None:
    """The body of a function: from the gradients of a stage those of its input, A[before.g:], whatever was there."""
    b = s.back_vector
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


def relayout_code(w: Writer, stages: list[Stage]) -> None:
    """Weights as the forward pass reads them, [kernel row][input value][output][image]."""
    w(0, "@whole\ndef relayout(P, C):")
    for s in stages:
        w(1, f"for o in range({s.outputs}):\n    for ky in range({s.kernel}):\n        for j in range({s.row}):")
        for i in range(s.together):
            place = f"{s.copy + i} + ((ky * {s.row} + j) * {s.lanes} + o) * {s.together}"
            w(4, f"C[{place}] = P[{s.w} + (o * {s.kernel} + ky) * {s.padded_row} + j]")
        w(1, f"for o in range({s.lanes}):")
        for i in range(s.together):
            w(2, f"C[{s.copy_b + i} + o * {s.together}] = P[{s.b} + o]")


def places_code(w: Writer, stages: list[Stage]) -> None:
    """Where outputs of stages without pool are taken from."""
    w(0, "@whole\ndef set_places(I):")
    for s in stages:
        if not s.pool:
            w(1, f"for y in range({s.side}):\n    for x in range({s.side}):\n        for o in range({s.lanes}):")
            w(4, f"I[{s.i} + (y * {s.side} + x) * {s.lanes} + o] = (y * {s.size} + x) * {s.input_lanes}")
    w(1, "return 0")


def shortcut_code(w: Writer, s: Stage, cut: Shortcut, source: str) -> None:
    """A shortcut of two images, added to the outputs of its stage."""
    for which in ("", "1"):
        array = source.replace("X", f"X{which}").replace("A", f"A{which}")
        window = f"{s.side}, {cut.window}, {cut.step}, {cut.start}"
        w(1, f"take({array}, {cut.size}, {cut.lanes}, {window}, A{which}, {cut.taken}, I{which}, {cut.i})")
        if cut.conv:
            w(1, f"mix(P, {cut.w}, {cut.b}, A{which}, {cut.taken}, {_mixed(s, cut)}, {s.z})")
        else:
            w(1, f"add(A{which}, {s.z}, {cut.taken}, {s.values})")


def two_images_code(w: Writer, s: Stage, name: str, source: str) -> None:
    """A call of a function that `forward_code` wrote, for two images; `source`: where the input of the first lies."""
    other = source.replace("X", "X1").replace("A", "A1")
    if s.together == 1:
        w(1, f"{name}({source}, C, A, I)\n{name}({other}, C, A1, I1)")
    else:
        w(1, f"side_by_side({source}, {other}, Y, {s.size**2 * s.input_lanes})\n{name}(Y, C, A, I, A1, I1)")


def networks_code(w: Writer, layout: Plan) -> None:
    """Two images forward, for training and for evaluation; one image back."""
    inputs = ["X, 0"] + [f"A, {s.z}" for s in layout.stages]
    for purpose in ("train", "evaluate"):
        random = ", WORDS, image, image1, threshold, scale" if purpose == "train" else ""
        w(0, f"@whole\ndef forward_{purpose}(P, X, A, I, X1, A1, I1, Y, C, activation{random}):")
        for s in layout.stages:
            name = f"forward{s.index}" + ("_winners" if s.pool and purpose == "train" else "")
            two_images_code(w, s, name, inputs[s.index])
            if s.index == len(layout.stages) - 1:
                break
            code = "activation" if s.activation else "IDENTITY"
            for which in ("", "1"):
                w(1, f"activate(A{which}, {s.z}, {s.d}, {s.values}, {code})")
            if s.dropout is not None and purpose == "train":
                w(1, "if threshold > 0:")
                for which in ("", "1"):
                    place = f"WORDS[{s.dropout}], image{which} * {s.outputs * s.places}"
                    at = f"{s.z}, {s.d}, {s.places}, {s.outputs}, {s.lanes}"
                    w(2, f"drop(A{which}, {at}, {place}, threshold, scale)")
            if cut := s.shortcut:
                shortcut_code(w, s, cut, inputs[cut.source + 1])
    w(0, "@whole\ndef backward(X, P, A, I, G):")
    for s in reversed(layout.stages):
        w(1, f"weight_gradient{s.index}({inputs[s.index]}, A, I, G)")
        if s.index:
            w(1, f"input_gradient{s.index}(P, A, I, G)")


def with_dropout(stages: list[Stage]) -> list[Stage]:
    """Those that end with dropout, in the order of their numbers; each has an array of random words of its own."""
    return [s for s in stages if s.dropout is not None]


def dropout_code(stages: list[Stage]) -> list[str]:
    """Lines that draw the words of dropout for a step; none without dropout."""
    drawn = [
        f"            philox(WORDS[{i}], n * {s.outputs * s.places}, seed, {DROPOUT + i}, epoch, step)"
        for i, s in enumerate(with_dropout(stages))
    ]
    return ["        if threshold > 0:", *drawn] if drawn else []


Arguments = tuple[tuple[str, str], ...]  # names and numba's types
FLOATS, INTS = "float32[::1]", "int32[::1]"
IMAGES: Arguments = (("pixels", "uint8[:, ::1]"), ("labels", "int64[::1]"), ("levels", "float32[:, ::1]"))
MEMORY: Arguments = (
    ("X", FLOATS), ("A", FLOATS), ("I", INTS), ("X1", FLOATS), ("A1", FLOATS), ("I1", INTS), ("Y", FLOATS), ("C", FLOATS),
)  # fmt: skip
SCORES: Arguments = (("loss", "float64[::1]"), ("correct", "int64[::1]"))


@dataclass(frozen=True)
class Loops:
    """In what the loops of one kind of kernel differ from those of another: lines of code, and names."""

    drawn: list[str]  # what draws a step's random numbers
    words: int  # arrays of random words
    weights: str = "P"  # what the networks read
    forward: str = "P, "  # first argument of the forward functions
    numbers: str = ""  # further argument of the forward function in training
    prepared: str = ""  # before a step, what makes of P what the networks read
    evaluated: str = ""  # the same before an evaluation
    finished: str = ""  # after the gradients of a step
    train_more: Arguments = ()
    evaluate_more: Arguments = ()

    @property
    def train_arguments(self) -> Arguments:
        """Of `train`, in order."""
        return (
            *IMAGES, ("order", "int64[::1]"), ("first", "int64"), ("last", "int64"), ("batch", "int64"), ("P", FLOATS),
            ("M", FLOATS), ("V", FLOATS), ("MOVED", FLOATS), ("G", FLOATS), *MEMORY,
            ("WORDS", f"UniTuple(uint32[::1], {self.words})"), ("activation", "int64"), ("is_adam", "boolean"),
            ("lr", "float64"), ("decay", "float32"), ("threshold", "uint64"), ("scale", "float32"), ("seed", "int64"),
            ("epoch", "int64"), ("taken", "int64"), ("factors", "float64[::1]"), ("momenta", "float64[::1]"), *SCORES,
            *self.train_more,
        )  # fmt: skip

    @property
    def evaluate_arguments(self) -> Arguments:
        """Of `evaluate`, in order."""
        return (
            *IMAGES, ("P", FLOATS), *MEMORY, ("activation", "int64"), *SCORES, ("outputs", "float32[:, ::1]"),
            *self.evaluate_more,
        )  # fmt: skip


def loops_code(w: Writer, layout: Plan, of: Loops) -> None:
    """The loops over steps and over images, compiled when the module is imported, and kept on the disk."""
    last = layout.stages[-1]
    logits, classes = last.z, layout.classes
    draw = "\n".join(of.drawn)
    heads = []
    for name, arguments in (("train", of.train_arguments), ("evaluate", of.evaluate_arguments)):
        types = ", ".join(kind for _, kind in arguments)
        heads.append(
            f'@njit("void({types})", nogil=True, error_model="numpy", cache=True)\n'
            f"def {name}({', '.join(argument for argument, _ in arguments)}):"
        )
    w(
        0,
        f"""
@whole
def score(A, label, share, loss, correct):
    loss[0] += cross_entropy(A, {logits}, {last.g}, {classes}, label, share)
    correct[label] += largest(A, {logits}, {classes}) == label


{heads[0]}
    set_places(I)
    set_places(I1)
    for step in range(first, last):
        n = min(batch, order.shape[0] - step * batch)
{draw}
{of.prepared}        relayout({of.weights}, C)
        share = np.float32(1.0 / n)
        for image in range(0, n, 2):
            image1 = min(image + 1, n - 1)  # an odd number ends with its last image twice, of which one counts
            chosen, chosen1 = order[step * batch + image], order[step * batch + image1]
            fetch(pixels, chosen, levels, X)
            fetch(pixels, chosen1, levels, X1)
            forward_train({of.forward}X, A, I, X1, A1, I1, Y, C, {of.numbers}activation, WORDS, image, image1, threshold, scale)
            score(A, labels[chosen], share, loss, correct)
            backward(X, {of.weights}, A, I, G)
            if image1 > image:
                score(A1, labels[chosen1], share, loss, correct)
                backward(X1, {of.weights}, A1, I1, G)
{of.finished}        at = taken if factors.shape[0] > 1 else 0
        taken += 1
        if is_adam:
            adam(P, M, V, G, MOVED, lr * factors[at], decay, taken)
        else:
            sgd(P, M, G, MOVED, np.float32(lr * factors[at]), decay, np.float32(momenta[at]))


{heads[1]}
{of.evaluated}    relayout({of.weights}, C)
    n = pixels.shape[0]
    for image in range(0, n, 2):
        image1 = min(image + 1, n - 1)
        fetch(pixels, image, levels, X)
        fetch(pixels, image1, levels, X1)
        forward_evaluate({of.forward}X, A, I, X1, A1, I1, Y, C, activation)
        if outputs.shape[0] > 0:
            for i in range({classes}):
                outputs[image, i] = A[{logits} + i]
                outputs[image1, i] = A1[{logits} + i]
        score(A, labels[image], np.float32(1), loss, correct)
        if image1 > image:
            score(A1, labels[image1], np.float32(1), loss, correct)
""",
    )
