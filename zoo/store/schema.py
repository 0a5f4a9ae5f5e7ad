"""What the files of a store may hold. Whoever opens a folder checks them here before anything else sees them.

A store may come from a stranger. So each value has a kind and a range, names are plain enough for a path, a table or a page,
texts are printable, and sizes are bounded. docs/FORMAT.md says the same in words.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as arrow
from pyarrow import types
from pyarrow.parquet import ParquetFile

from zoo.base.names import (
    FACTORS,
    LONGEST_NAME,
    LONGEST_TEXT,
    NAMED_FACTORS,
    SCHEDULES,
    SCORES,
    SPLITS,
    STATUSES,
    WEIGHT_MAX_ABS,
    is_name,
    is_text,
)

FORMAT, FORMAT_VERSION = "hyperzoo", 1
ROOT_FILES = ("zoo.json", "models.parquet", "metrics.parquet", "README.md")
MOST_MODELS, MOST_EPOCHS = 10**7, 10**5
MOST_CLASSES = 10**5
MOST_PIXELS = 2**20  # values of an image: three channels of 590 × 590
MOST_PARAMETERS = 2**40
MOST_LAYERS = 1000  # those in residual blocks among them
MOST_COLUMNS = 10**5  # metrics, slots of a layout
DEEPEST = 20  # lists and dictionaries within each other
LARGEST_JSON, LARGEST_TABLE = 2**26, 2**32  # bytes of a file, unpacked
NAME_IN_WORDS = "a name: letters, digits, '.', '_' and '-', a letter or digit first"
Kind = Callable[[Any, str], None]  # raises ValueError unless the value, at this key, is of the kind


def _refuse(key: str, value: Any, allowed: str) -> None:
    raise ValueError(f"{key} is {value!r:.100}, but it must be {allowed}")


def _check(test: Callable[[Any], bool], allowed: str) -> Kind:
    def kind(value: Any, key: str) -> None:
        if not test(value):
            _refuse(key, value, allowed)

    return kind


def _whole(low: int, high: int) -> Kind:
    return _check(lambda v: type(v) is int and low <= v <= high, f"a whole number from {low} to {high}")


def _number(low: float, high: float) -> Kind:
    return _check(lambda v: type(v) in (int, float) and low <= v <= high, f"a number from {low:g} to {high:g}")


def _one_of(values: Collection[Any]) -> Kind:
    return _check(lambda v: isinstance(v, str) and v in values, f"one of {', '.join(values)}")


def _or_null(kind: Kind) -> Kind:
    return lambda value, key: None if value is None else kind(value, key)


def _list(kind: Kind, most: int, least: int = 0) -> Kind:
    def check(value: Any, key: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            _refuse(key, value, f"a list of {least} to {most} entries")
        for i, entry in enumerate(value):
            kind(entry, f"{key}[{i}]")

    return check


def _keys(needed: dict[str, Kind], also: dict[str, Kind] | None = None, closed: bool = False) -> Kind:
    """A dictionary with keys that must be there and keys that may be; any further ones hold plain values, unless `closed`."""
    known = {**needed, **(also or {})}

    def check(value: Any, key: str) -> None:
        if not isinstance(value, dict):
            _refuse(key or "it", value, f"a dictionary with {', '.join(needed)}")
        for name in needed:
            if name not in value:
                raise ValueError(f"{key}{'.' * bool(key)}{name} is missing")
        for name, entry in value.items():
            if name in known:
                known[name](entry, f"{key}.{name}" if key else name)
            elif closed:
                _refuse(key, name, f"without other keys than {', '.join(known)}")

    return check


NAME = _check(is_name, NAME_IN_WORDS)
TEXT = _check(is_text, f"one line of at most {LONGEST_TEXT:,} printable characters")
FLAG = _check(lambda v: type(v) is bool, "true or false")
HASH = _check(lambda v: isinstance(v, str) and bool(re.fullmatch(r"[0-9a-f]{64}", v)), "a sha256, 64 digits")
PATH_OF_CLASS = _check(
    lambda v: isinstance(v, str) and len(v) <= LONGEST_NAME and bool(re.fullmatch(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)+", v)),
    "the dotted path of a class",
)  # fmt: skip
SEED = _whole(-1, 2**63 - 1)  # -1: not known


def plain(value: Any, key: str = "", depth: int = 0) -> None:
    """Raise ValueError unless a JSON value is finite numbers, printable texts, and not nested deeper than `DEEPEST`."""
    if depth > DEEPEST:
        raise ValueError(f"{key.partition('.')[0]:.100} is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        for name, entry in value.items():
            TEXT(name, "a key")
            plain(entry, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            plain(entry, key, depth + 1)
    elif isinstance(value, str):
        TEXT(value, key)
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        _refuse(key, value, "a number of 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        _refuse(key, value, "finite")


SIZE, NUMBER = _whole(1, 2**31), _number(-1e9, 1e9)


def _layer(value: Any, key: str) -> None:
    """An entry of arch.layers. What is a layer, `zoo.networks.layers.parse_layer` says; here it is kinds and sizes."""
    if isinstance(value, dict):
        for name, entry in value.items():
            if isinstance(entry, list):
                _list(_layer, MOST_LAYERS)(entry, f"{key}.{name}")
            else:
                kind = FLAG if type(entry) is bool else NUMBER if type(entry) is float else SIZE
                kind(entry, f"{key}.{name}")
    else:
        NAME(value, key)


def _layers(value: Any, key: str) -> None:
    _list(_layer, MOST_LAYERS, 1)(value, key)
    if (n := _count(value)) > MOST_LAYERS:
        raise ValueError(f"{key} has {n} layers, but at most {MOST_LAYERS} are read")


def _count(layers: list[Any]) -> int:
    ways = [way for layer in layers if isinstance(layer, dict) for way in layer.values() if isinstance(way, list)]
    return len(layers) + sum(map(_count, ways))


def _arch(value: Any, key: str) -> None:
    _keys(
        {"name": NAME, "image": _list(_whole(1, MOST_PIXELS), 3, 3), "classes": _whole(1, MOST_CLASSES)},
        {"layers": _layers, "module": PATH_OF_CLASS, "module_args": _keys({}), "variational": FLAG},
        closed=True,
    )(value, key)
    if math.prod(value["image"]) > MOST_PIXELS:
        _refuse(f"{key}.image", value["image"], f"of at most {MOST_PIXELS:,} values")
    if ("layers" in value) == ("module" in value):
        raise ValueError(f"{key} must have either layers or module")


def _layout(value: Any, key: str) -> None:
    """Slots one after another, without gaps."""
    name = _check(lambda v: isinstance(v, str) and bool(re.fullmatch(r"\w+(\.\w+)*", v, re.ASCII)), "a tensor's name")
    slot = _keys({"name": name, "shape": _list(_whole(0, 2**31), 8), "offset": _whole(0, MOST_PARAMETERS)}, closed=True)
    _list(slot, MOST_COLUMNS)(value, key)
    end = 0
    for i, entry in enumerate(value):
        if entry["offset"] != end:
            raise ValueError(f"{key}[{i}].offset is {entry['offset']}, but the slots before it end at {end}")
        end += math.prod(entry["shape"])
    if end > MOST_PARAMETERS:
        raise ValueError(f"{key} has {end:,} values, but at most {MOST_PARAMETERS:,} are read")
    if len({entry["name"] for entry in value}) < len(value):
        raise ValueError(f"{key} has a name twice")


def _metrics(value: Any, key: str) -> None:
    _list(NAME, MOST_COLUMNS)(value, key)
    missing = [name for name in (*SCORES, WEIGHT_MAX_ABS) if name not in value]
    if missing or len(set(value)) < len(value) or {"model_id", "epoch"} & set(value):
        _refuse(key, value, f"names, none twice, with {', '.join(missing or SCORES)} and without model_id and epoch")


LABEL = _check(
    lambda v: is_text(v) and len(v) <= LONGEST_NAME and "$" not in v, "a line of at most 200 characters without $"
)  # that figures may show, where $ begins a formula
START = _keys(
    {"zoo": NAME},
    {"epoch": _whole(0, MOST_EPOCHS), "split": _or_null(_one_of(SPLITS)), "seed": _or_null(SEED), "dataset": NAME,
     "first_model": HASH},
)  # fmt: skip
POPULATION = _keys({"name": NAME, "identity": HASH})


def _source(value: Any, key: str) -> None:
    """spec.zoo: the name of a twin, or a population's source with its identity."""
    (NAME if isinstance(value, str) else POPULATION)(value, key)


MODEL_LISTS = ("copies_by_weights", "reconstructions")  # of a population: the numbers of some of its networks
DESCRIPTION = _keys(
    {
        "format": _one_of([FORMAT]),
        "format_version": _whole(FORMAT_VERSION, FORMAT_VERSION),
        "name": NAME,
        "models": _whole(1, MOST_MODELS),
        "epochs": _whole(0, MOST_EPOCHS),
        "arch": _arch,
        "layout": _layout,
        "buffer_layout": _layout,
        "metrics": _metrics,
        "spec": _keys(
            {},
            {"kind": NAME, "start": START, "zoo": _source, "population": POPULATION, "draws": NAME,
             "states": _list(_whole(0, MOST_EPOCHS), MOST_EPOCHS, 1),
             "sampler": _keys({"best_of": _whole(1, 10**9), "variety": _number(0, math.inf)})},
        ),
        "protocol": _keys(
            {"batch_size": _whole(1, 2**31)},
            {"schedule": _one_of(SCHEDULES), "loss": NAME, "epochs": _whole(0, MOST_EPOCHS), "divergence_rate": _number(0, 1e9),
             "pruned": _keys({"share": _number(0, 1), "epochs": _whole(1, MOST_EPOCHS)})},
        ),
        "dataset": _keys(
            {"name": NAME, "fingerprint": _or_null(NAME)},
            {"title": TEXT, "protocol": NAME, "train_size": _or_null(_whole(1, 2**31)), "split_seed": _or_null(SEED),
             "sizes": _keys(dict.fromkeys(SPLITS, _whole(0, 2**31)))},
        ),
        "engine": _keys({}, {"name": NAME, "device": NAME, "lanes": _or_null(_whole(1, 10**6))}),
    },
    {
        "published": _or_null(TEXT),
        "license": _or_null(TEXT),
        "about": TEXT,
        "command": TEXT,
        "versions": _keys({}),
        "measured": _keys(
            {}, {name: _or_null(_number(-math.inf, math.inf)) for name in
                 ("centroid_accuracy", "anchor_distance", "reconstruction_distance")} |
            dict.fromkeys(MODEL_LISTS, _or_null(_list(_whole(0, MOST_MODELS), MOST_MODELS))),
        ),
    },
)  # fmt: skip


def check_description(value: Any) -> None:
    """What zoo.json holds. Raises ValueError with the first thing that is wrong."""
    plain(value)
    DESCRIPTION(value, "")
    for name in MODEL_LISTS:
        for model in value.get("measured", {}).get(name) or []:
            _whole(0, value["models"] - 1)(model, f"measured.{name}")
    if value["spec"].get("kind") == "fine_tuned":
        _keys({"start": _keys({"epoch": _whole(0, MOST_EPOCHS)})})(value["spec"], "spec")


def check_hyperrep(value: Any) -> None:
    """What hyperrep.json holds, of an autoencoder. Raises ValueError; that its settings are those of a configuration, whoever
    opens it checks."""
    plain(value)
    _keys({"autoencoder": _keys({"optimizer": _keys({"epochs": _whole(0, 10**9)})}), "arch": _arch})(value, "")


def check_progress(value: Any) -> None:
    """What a checkpoint of an autoencoder says of its training. Raises ValueError."""
    number = _check(
        lambda v: type(v) in (int, float) and not math.isnan(v), "a number"
    )  # infinite before the first loss
    plateau = _keys({"factor": number, "lowest": number, "bad": _whole(0, 10**9)}, closed=True)
    _keys({"done": _whole(0, 10**9), "best": number, "plateau": plateau})(value, "progress")


def check_about(value: Any) -> None:
    """What lies beside results and analyses: of which zoos they are, and the command that made them. Raises ValueError."""
    plain(value)
    _keys({"command": TEXT}, {"zoo": NAME, "reported": _list(_whole(0, MOST_EPOCHS), 1000), "made_from": _keys({})})(
        value, ""
    )


def parse_json(data: bytes) -> Any:
    """JSON by the letter of its standard: no NaN, no key twice. Raises ValueError."""
    if len(data) > LARGEST_JSON:
        raise ValueError(f"it has {len(data):,} bytes, but at most {LARGEST_JSON:,} are read")
    try:
        return json.loads(data, parse_constant=_no_number, object_pairs_hook=_no_key_twice)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a key twice")
    return found


ENTRY = _keys({"bytes": _whole(0, 2**60), "sha256": HASH})
LISTED = (
    r"zoo\.json|models\.parquet|metrics\.parquet|README\.md|croissant\.json|card/[A-Za-z0-9_-]{1,100}\.svg|"
    r"weights/[0-9]{5,8}-[0-9]{5,8}/manifest\.json"
)
STATES = r"(epoch|optimizer)-[0-9]{4,6}\.safetensors"


def check_manifest(value: Any, names: str) -> dict[str, dict[str, Any]]:
    """The files that a manifest lists, each with its bytes and sha256. Raises ValueError unless their names match `names`."""
    _keys({"files": _keys({})})(value, "")
    for name, entry in value["files"].items():
        if not re.fullmatch(names, name):
            raise ValueError(f"it lists {name!r:.100}, which is no file of a store")
        ENTRY(entry, f"files.{name}")
    return {name: {"bytes": entry["bytes"], "sha256": entry["sha256"]} for name, entry in value["files"].items()}


def check_hashes(value: Any) -> dict[str, list[str]]:
    """What the manifest of a folder that is no zoo lists: for each file its hashes. Raises ValueError."""
    plain(value)
    _keys({"files": _keys({})})(value, "")
    for name, hashes in value["files"].items():
        _list(HASH, 1000)(hashes, f"files.{name:.100}")
    return value["files"]


def check_blocks(ranges: Collection[tuple[int, int]], models: int) -> None:
    """Raise ValueError unless blocks, (first, last), are apart and hold only models that there are."""
    end = 0
    for first, last in sorted(ranges):
        if not end <= first <= last < models:
            raise ValueError(f"the block of models {first}-{last} overlaps another, or goes beyond the {models} models")
        end = last + 1


def read_table(data: bytes, least: int, most: int) -> pd.DataFrame:
    """A Parquet file of `least` to `most` rows: columns of numbers, of true and false, and of texts.

    Sizes are looked at first, for a file of a few bytes may unpack to gigabytes.

    Raises:
        ValueError: if it is none. (pyarrow's errors are ValueErrors.)
    """
    with ParquetFile(io.BytesIO(data)) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        rows = max(file.metadata.num_rows, sum(group.num_rows for group in groups))
        size = sum(group.total_byte_size for group in groups)
        if not least <= rows <= most or file.metadata.num_columns > MOST_COLUMNS or size > LARGEST_TABLE:
            raise ValueError(
                f"it has {rows} rows and {file.metadata.num_columns} columns of {size:,} bytes, but {least} to {most} rows are "
                "wanted"
            )
        texts = []
        for column in file.schema_arrow:
            if types.is_string(column.type) or types.is_large_string(column.type):
                texts.append(column.name)
            elif not (types.is_primitive(column.type) or types.is_null(column.type)):
                raise ValueError(f"its column {column.name!r:.100} is of type {column.type!s:.100}")
    if texts:
        with ParquetFile(io.BytesIO(data), read_dictionary=texts) as file:  # each text once, however many rows have it
            for name, column in zip(texts, file.read(columns=texts).columns):
                lengths = [arrow.max(arrow.utf8_length(chunk.dictionary)).as_py() or 0 for chunk in column.chunks]
                if max(lengths, default=0) > LONGEST_TEXT:
                    raise ValueError(f"its column {name!r:.100} has a text of {max(lengths):,} characters")
    return pd.read_parquet(io.BytesIO(data))


def check_models(table: pd.DataFrame, epochs: int | None = None) -> None:
    """Raise ValueError unless a table has one row a model; with `status` and `diverged_epoch` if the last of `epochs` is given."""
    needed = ["model_id", "seed", *FACTORS, "split", *([] if epochs is None else ["status", "diverged_epoch"])]
    missing = [name for name in needed if name not in table]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    for name in table.columns:
        NAME(name, "a column")
        values = table[name]
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            if name in (*NAMED_FACTORS, "split", "status") and values.notna().any():
                raise ValueError(f"{name} holds numbers, not names")
            continue
        if name in ("model_id", "seed", *FACTORS[3:], "diverged_epoch") and values.notna().any():
            raise ValueError(f"{name} is of type {values.dtype}, but holds numbers")
        kind = NAME if name in NAMED_FACTORS else TEXT
        for value in pd.unique(values.dropna()):
            kind(value, name)
    if not (_whole_numbers(table["model_id"]) and np.array_equal(table["model_id"], np.arange(len(table)))):
        raise ValueError("model_id is not 0, 1, 2, ... in order")
    if not _whole_numbers(table["seed"]):
        raise ValueError(f"seed is of type {table['seed'].dtype}, but holds whole numbers")
    for name, allowed in (("split", SPLITS), ("status", STATUSES)):
        if name in table and not table[name].isin(allowed).all():
            raise ValueError(f"{name} has other values than {', '.join(allowed)}")
    if epochs is not None:
        known = table["diverged_epoch"].dropna().astype("float64")
        if not known.isin(range(epochs + 1)).all():
            raise ValueError(f"diverged_epoch has other values than 0 to {epochs}")


def check_metrics(table: pd.DataFrame, models: int, epochs: int, names: list[str]) -> None:
    """Raise ValueError unless a table has one row a model and epoch, in this order, and the columns `names`."""
    if list(table.columns) != ["model_id", "epoch", *names]:
        raise ValueError("it has other columns than zoo.json names")
    ids, at = np.repeat(np.arange(models), epochs + 1), np.tile(np.arange(epochs + 1), models)
    if not (np.array_equal(table["model_id"], ids) and np.array_equal(table["epoch"], at)):
        raise ValueError("it has not one row for each model and epoch, in order")
    if wrong := [name for name in names if not pd.api.types.is_float_dtype(table[name])]:
        raise ValueError(f"{wrong[0]} is of type {table[wrong[0]].dtype}, but holds numbers")


def check_columns(table: pd.DataFrame, numbers: Collection[str], labels: Collection[str]) -> None:
    """Raise ValueError unless a table has these columns of numbers and of labels, and nothing unprintable in any."""
    if missing := [name for name in (*labels, *numbers) if name not in table]:
        raise ValueError(f"it has no column {', '.join(missing)}")
    for name in table.columns:
        LABEL(name, "a column")
        values = table[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            continue
        if name in numbers and values.notna().any():
            raise ValueError(f"{name} is of type {values.dtype}, but holds numbers")
        for value in pd.unique(values.dropna()):
            (LABEL if name in labels else TEXT)(value, name)


def _whole_numbers(values: pd.Series) -> bool:
    return values.dtype.kind in "iu" and not values.isna().any()
