"""From plain values to dataclasses: kinds, limits, and the nearest name for one that is not known."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from typing import Any

MOST_NAMES = 15  # that an error lists


def typed(value: Any, kind: Any, limits: typing.Mapping[str, Any], key: str, problems: list[str]) -> Any:
    """`value` as an object of type `kind`; what is wrong with it is appended to `problems`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):  # only ever X | None
        return None if value is None else typed(value, arguments[0], limits, key, problems)
    if dataclasses.is_dataclass(kind):
        return _typed_fields(value, kind, key, problems)
    if origin is dict and isinstance(value, dict):
        return {name: typed(entry, arguments[1], limits, f"{key}.{name}", problems) for name, entry in value.items()}
    if origin is list and isinstance(value, list):
        return [typed(entry, arguments[0], limits, key, problems) for entry in value]
    if kind is float and type(value) is int:
        value = float(value)
    name = {
        int: "a whole number",
        float: "a number",
        str: "a word",
        bool: "true or false",
        list: "a list",
        dict: "keys",
    }
    if origin in (list, dict) or type(value) is not kind:
        remedy = f"; write [{value}]" if origin is list and isinstance(value, bool | int | float | str) else ""
        problems.append(f"{key}: got {value!r}, which is not {name[origin or kind]}{remedy}")
        return value
    _check_limits(value, limits, key, problems)
    return value


def _typed_fields(value: Any, kind: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{key}: got {value!r}, but it has keys: {', '.join(f.name for f in dataclasses.fields(kind))}")
        return value
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{key}." if key else ""
    problems += [
        f"{prefix}{name}: unknown key{did_you_mean(str(name), fields)}" for name in value if name not in fields
    ]
    members = {}
    for name, field in fields.items():
        if name in value:
            members[name] = typed(value[name], hints[name], field.metadata, f"{prefix}{name}", problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{prefix}{name}: is missing")
    return kind(**members) if len(problems) == 0 else members


def _check_limits(value: Any, limits: typing.Mapping[str, Any], key: str, problems: list[str]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{key}: got {value}, but it must be finite")
        return
    if "choices" in limits and value not in limits["choices"]:
        problems.append(f"{key}: got {value!r}{did_you_mean(str(value), limits['choices'])}")
    tests = {
        "min": (lambda v, limit: v >= limit, "at least"),
        "max": (lambda v, limit: v <= limit, "at most"),
        "above": (lambda v, limit: v > limit, "above"),
        "below": (lambda v, limit: v < limit, "below"),
    }
    for name, (test, _) in tests.items():
        if name in limits and not test(value, limits[name]):
            bounds = [f"{tests[n][1]} {limits[n]}" for n in tests if n in limits]
            problems.append(f"{key}: got {value!r}, but it must be {' and '.join(bounds)}")
            return


def did_you_mean(got: str, allowed: typing.Iterable[str]) -> str:
    """What is allowed, and the nearest valid name for a typo, as the end of a sentence."""
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(got, names, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    if len(names) > MOST_NAMES:
        return meant or f"; {len(names)} names are allowed, and none is near it (python run.py --help, --cfg job)"
    return f"{meant} Allowed: {', '.join(names)}" if meant else f"; allowed: {', '.join(names)}"
