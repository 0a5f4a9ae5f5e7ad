"""What of a zoo is asked for: layers, epochs and models, by names and numbers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from zoo.base.errors import UserError
from zoo.store.stored import width_of


def columns_of(layout: list[dict[str, Any]], layers: Sequence[str] | None) -> list[tuple[int, int]]:
    """The ranges of a vector that hold the layers, in the order asked. Raises UserError for an unknown name."""
    if layers is None:
        return [(0, width_of(layout))]
    if isinstance(layers, str):
        raise UserError(f"layers is the string {layers!r}: give a list, layers=[{layers!r}]")
    ranges = {slot["name"]: (slot["offset"], slot["offset"] + width_of([slot])) for slot in layout}
    columns = []
    for layer in layers:
        found = [r for name, r in ranges.items() if name == layer or name.startswith(f"{layer}.")]
        if not found:
            parents = {name.rpartition(".")[0]: None for name in ranges if "." in name}
            near = difflib.get_close_matches(layer, [*parents, *ranges], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"there is no layer {layer!r}: {hint}layers are {', '.join(parents)}")
        columns += found
    return columns


def known_numbers(asked: Iterable[int] | int, stored: Sequence[int], word: str, name: str) -> np.ndarray:
    """`asked` as int64 [n]. Raises UserError for what is no id or epoch of the zoo (a mask of booleans, for one)."""
    numbers = np.array([asked] if isinstance(asked, int | np.integer) else list(asked))
    if not numbers.size:
        return numbers.astype(np.int64)
    if numbers.dtype.kind not in "iu":
        raise UserError(f"{word}s must be whole numbers such as {stored[-1]}, not {numbers[0]!r}")
    unknown = numbers[(numbers < 0) | (numbers > stored[-1])]
    if unknown.size:
        raise UserError(f"{word} {unknown[0]} is not stored in zoo {name!r}: it has {word}s 0 to {stored[-1]}")
    return numbers.astype(np.int64)
