"""A zoo is begun, extended and finished, and its card written: whatever changes more than one block."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.base.errors import UserError
from zoo.base.files import locked, remove_leftovers
from zoo.base.names import FACTORS, SPLITS
from zoo.store.card import card
from zoo.store.entries import as_json_bytes, as_parquet, entry_of, remove_file, write_entry
from zoo.store.schema import check_models
from zoo.store.stored import DamagedManifest, complete, refuse_links
from zoo.store.tables import collect_metrics, with_status
from zoo.store.zoo import Zoo

log = logging.getLogger(__name__)


def create_zoo(path: str | Path, description: dict[str, Any], models: pd.DataFrame) -> Zoo:
    """Begin a zoo in the folder `path`, or go on with the one there; more models and more epochs may be asked of it.

    Args:
        path: the zoo's folder; made if needed.
        description: everything of zoo.json but the format fields, models and layouts: `name`, `arch` (see
            `Architecture.to_dict`), `epochs` (int, the last epoch), `metrics` (names of the metric columns, the six
            losses and accuracies of train, val and test among them), `versions`, `command` and whatever else
            identifies the zoo (spec, protocol, dataset, engine). JSON-able; `models`, `epochs`, `versions` and
            `command` may change when a zoo is extended, the rest may not.
        models: one row a model, columns model_id (0 .. n - 1 in order), seed, init, activation, optimizer, lr,
            weight_decay, dropout, split ("train", "val" or "test") and any further ones.

    Raises:
        UserError: if the zoo there is another one, fewer models, or fewer epochs than some have, are asked of an unfinished
            one, or a name, a text or a size is one that `zoo.store.schema` refuses.
    """
    path = Path(path)
    module = description["arch"].get("module")  # whoever calls this names it
    _check_rows(models)
    description = complete(description, len(models))
    refuse_links(path)
    if (path / "manifest.json").exists() and not os.access(path, os.W_OK):
        zoo = Zoo.open(path, module)
        if _promises(zoo, description, models) == (True, True):
            return zoo  # nothing is to be written, and nothing can be
    (path / "weights").mkdir(parents=True, exist_ok=True)
    with locked(path / ".lock"):
        remove_leftovers(path, r"[a-z]+\.json|[a-z]+\.parquet|README\.md")  # of killed processes
        if not (path / "zoo.json").exists():
            _write_zoo(path, description, models)
        else:
            zoo = Zoo.open(path, module)
            as_asked, intact = _promises(zoo, description, models)
            if not (as_asked and intact):
                remove_file(path / "manifest.json")  # from here on the zoo is unfinished
                _write_zoo(path, zoo.description if as_asked else description, models)
        zoo = Zoo.open(path, module)
        for block in zoo.stored_blocks():
            block.remove_if_empty()
    return zoo


def drop_damaged_manifest(path: str | Path) -> None:
    """Remove manifest.json of the zoo in a folder if it is damaged, and say so: the zoo counts as unfinished, and whoever
    goes on with it finalises it again."""
    path = Path(path)
    if not (path / "zoo.json").exists():
        return
    try:
        Zoo.open(path)
    except DamagedManifest as error:
        log.warning("%s", error)
        with locked(path / ".lock"):
            remove_file(path / "manifest.json")


def finalise(zoo: Zoo) -> None:
    """Write models.parquet, metrics.parquet, README.md and, last, manifest.json. Nothing to do if all are intact.

    Raises:
        UserError: if some models still lack epochs.
    """
    path = zoo.path
    if Zoo.open(path).is_whole():  # which is no reason to write where one may not
        return
    with locked(path / ".lock"):
        zoo = Zoo.open(path)  # another process may have extended it since
        if zoo.is_whole():
            return
        if zoo.pending:
            raise UserError(
                f"zoo {zoo.name!r} is not finished: {zoo.pending} of {zoo.n_models} models lack epochs; {zoo.redo}"
            )
        blocks = zoo.stored_blocks()
        remove_file(path / "manifest.json")
        metrics = collect_metrics(blocks, zoo.description["metrics"])
        models = with_status(zoo.read_models(), metrics, zoo.epochs[-1])
        listed = {
            "zoo.json": entry_of((path / "zoo.json").read_bytes()),
            "models.parquet": write_entry(path / "models.parquet", as_parquet(models)),
            "metrics.parquet": write_entry(path / "metrics.parquet", as_parquet(metrics)),
            "README.md": write_entry(path / "README.md", card(zoo.description, models, metrics).encode()),
        }
        _remove_figures(zoo, set())  # of an earlier card
        for block in blocks:
            manifest = block.path / "manifest.json"
            listed[manifest.relative_to(path).as_posix()] = entry_of(manifest.read_bytes())
        write_entry(path / "manifest.json", as_json_bytes({"files": listed}))


def write_card(zoo: Zoo, measured: str, figures: dict[str, bytes]) -> None:
    """Put what has been measured on the card of a finished zoo, until the zoo grows.

    Killed on the way, the zoo has a card that `verify` calls damaged; writing it again mends that.

    Args:
        measured: Markdown; figures are shown as `![…](card/NAME.svg)`.
        figures: SVG files by name.

    Raises:
        UserError: if the zoo is not finished.
    """
    with locked(zoo.path / ".lock"):
        zoo = Zoo.open(zoo.path)
        if not zoo.finished:
            raise UserError(f"zoo {zoo.name!r} is not finished: {zoo.redo}")
        (zoo.path / "card").mkdir(exist_ok=True)
        remove_leftovers(zoo.path / "card", r".+\.svg")
        listed = {name: entry for name, entry in zoo.manifest().items() if not name.startswith("card/")}
        for name, data in figures.items():
            listed[f"card/{name}.svg"] = write_entry(zoo.path / "card" / f"{name}.svg", data)
        text = card(zoo.description, zoo.models, zoo.metrics, measured)
        listed["README.md"] = write_entry(zoo.path / "README.md", text.encode())
        write_entry(zoo.path / "manifest.json", as_json_bytes({"files": listed}))
        _remove_figures(zoo, set(figures))


def _promises(zoo: Zoo, asked: dict[str, Any], models: pd.DataFrame) -> tuple[bool, bool]:
    """Whether the zoo promises what is asked, and whether its table of models is readable and whole.

    Raises:
        UserError: if the zoo is another one, or less is asked than `_must_change` allows.
    """
    zoo.check_identity(asked)
    return not _must_change(zoo, asked), _has_rows(zoo, models)


def _must_change(zoo: Zoo, asked: dict[str, Any]) -> bool:
    """Whether the zoo promises something else than is asked: more, or fewer epochs of an unfinished one. Less of a finished
    zoo is nothing to do.

    Raises:
        UserError: if less than what is stored, or fewer models, are asked of an unfinished zoo.
    """
    was = (zoo.n_models, zoo.epochs[-1])
    now = (asked["models"], asked["epochs"])
    less, more = any(n < w for n, w in zip(now, was)), any(n > w for n, w in zip(now, was))
    if not less or (zoo.finished and not more):
        return more
    there = (
        f"zoo {zoo.name!r} in {zoo.path} was begun with {was[0]} models and {was[1]} epochs, now {now[0]} models and "
        f"{now[1]} epochs are asked"
    )
    stored = max((block.epochs[-1] for block in zoo.stored_blocks() if block.epochs), default=0)
    least = zoo.epochs[-1] if zoo.finished else stored
    if now[0] < was[0] or now[1] < least:
        raise UserError(
            f"{there}: ask at least {was[0]} models and the {least} epochs that some have, or choose another zoo.name or "
            "paths.root"
        )
    if owners := zoo.at_work():
        raise UserError(f"{there}, while {owners[0]} is training it: stop that first")
    return True


def _has_rows(zoo: Zoo, asked: pd.DataFrame) -> bool:
    """Whether models.parquet is readable and has all rows promised. Raises UserError if they are other models."""
    try:
        there = zoo.read_models()
    except UserError as error:
        if len(asked) < zoo.n_models:
            raise  # too few rows were given to write it again
        log.warning("%s", error)
        return False
    both = min(len(there), len(asked))
    for column in [name for name in asked.columns if name != "model_id"]:
        if column not in there:
            raise UserError(
                f"zoo {zoo.name!r} in {zoo.path} has no column {column!r} in its models: choose another name"
            )
        was, now = there[column].iloc[:both].astype(object), asked[column].iloc[:both].astype(object)
        differs = ~((was.to_numpy() == now.to_numpy()) | (was.isna().to_numpy() & now.isna().to_numpy()))
        if differs.any():
            i = int(np.flatnonzero(differs)[0])
            raise UserError(
                f"zoo {zoo.name!r} in {zoo.path} was made with {column}={was.iloc[i]} for model {i}, now "
                f"{now.iloc[i]}: choose another zoo.name or paths.root"
            )
    return len(there) == zoo.n_models


def _remove_figures(zoo: Zoo, kept: set[str]) -> None:
    """Remove figures that are on the card no more, and their folder with the last of them."""
    for figure in sorted((zoo.path / "card").glob("*.svg")):
        if figure.stem not in kept:
            remove_file(figure)
    if (zoo.path / "card").is_dir() and not any((zoo.path / "card").iterdir()):
        (zoo.path / "card").rmdir()


def _check_rows(models: pd.DataFrame) -> None:
    missing = [name for name in ["model_id", "seed", *FACTORS, "split"] if name not in models]
    if missing or {"status", "diverged_epoch"} & set(models.columns):
        raise ValueError(f"models must have the columns {missing} and must not have status, diverged_epoch")
    if not len(models) or models["model_id"].tolist() != list(range(len(models))):
        raise ValueError("model_id must be 0, 1, 2, ... in order")
    if not models["split"].isin(SPLITS).all():
        raise ValueError(f"split must be one of {SPLITS}")
    try:
        check_models(models)
    except ValueError as error:
        raise UserError(f"the table of models cannot be stored: {error}") from error


def _write_zoo(path: Path, description: dict[str, Any], models: pd.DataFrame) -> None:
    """Write the promise: the rows first, then zoo.json, with which they count."""
    pending = models.assign(status="pending", diverged_epoch=pd.array([pd.NA] * len(models), dtype="Int64"))
    write_entry(path / "models.parquet", as_parquet(pending))
    write_entry(path / "zoo.json", as_json_bytes(description))
