"""What zoo.json and manifest.json say of a zoo: its identity, its extent, and where its blocks lie."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zoo.base.errors import UserError
from zoo.base.files import read_file, refuse_link
from zoo.base.names import SCORES, WEIGHT_MAX_ABS, is_command
from zoo.networks.architecture import Architecture
from zoo.networks.layout import Slot
from zoo.store.entries import LFS_POINTER, as_json_bytes, entry_of
from zoo.store.schema import (
    FORMAT,
    FORMAT_VERSION,
    LISTED,
    ROOT_FILES,
    check_blocks,
    check_description,
    check_manifest,
    parse_json,
)

CLASS_ACCURACY = "test_acc_class_"  # and the number of the class, from 0

MAY_CHANGE = {
    "models",
    "constants",
    "epochs",
    "versions",
    "command",
    "measured",
    "license",
    "published",
    "about",
}  # everything else in zoo.json identifies the zoo

PROVENANCE = "provenance.json"  # the one file that differs when a zoo is made again: see `zoo.training.provenance`


class DamagedManifest(UserError):
    """A zoo's manifest.json is not as it was written. What it lists has hashes of its own, so that it can be made again."""


class StoredZoo:
    """A zoo by what zoo.json says of it. `zoo.store.zoo.Zoo` reads it, `zoo.store.writer` makes it.

    Attributes: as of `zoo.store.zoo.Zoo`.
    """

    def __init__(self, path: Path, description: dict[str, Any], module: str | None = None) -> None:
        self.path = path
        self._module = module
        self.description = description
        self.name: str = description["name"]
        self.layout: list[dict[str, Any]] = description["layout"]
        self.buffer_layout: list[dict[str, Any]] = description["buffer_layout"]
        self.n_parameters = width_of(self.layout)
        self.n_buffers = width_of(self.buffer_layout)
        self.n_models: int = description["models"]
        self.epochs = list(range(description["epochs"] + 1))
        command = description.get("command")
        elsewhere = path.parent.name == "zoos" and path.parent != Path("outputs/zoos")
        where = f" paths.root={path.parent.parent}" if elsewhere else ""
        known = is_command(command)  # else it is a stranger's text: nothing to be run as it stands
        self.redo = f"run `{command}{where}` again" if known else "run the command that made it again"

    @property
    def finished(self) -> bool:
        """Whether every model has every epoch and the tables are written."""
        return (self.path / "manifest.json").exists()

    @property
    def imported(self) -> bool:
        """Whether task=import made it, out of trials of others."""
        return self.description["spec"].get("kind") == "imported"

    @cached_property
    def architecture(self) -> Architecture:
        """The network of all models.

        Raises:
            UserError: if it is a class that neither the package `zoo` has nor `Zoo.open` was given, or has other tensors than
                zoo.json says.
        """
        from zoo.networks.architecture import Architecture

        found = Architecture.from_dict(self.description["arch"], self._module)
        if (slots_as_json(found.layout), slots_as_json(found.buffer_layout)) != (self.layout, self.buffer_layout):
            raise UserError(
                f"{self.path / 'zoo.json'} is damaged (arch={found.name} has other tensors than layout says): restore it from a "
                f"copy, or move {self.path} away and train again"
            )
        return found

    def manifest(self) -> dict[str, dict[str, Any]]:
        """The files that manifest.json lists, each with its bytes and sha256; empty while the zoo is unfinished."""
        try:
            files = check_manifest(parse_json(read_file(self.path / "manifest.json")), LISTED)
            if missing := [name for name in ROOT_FILES if name not in files]:
                raise ValueError(f"it does not list {', '.join(missing)}")
            named = [name.split("/")[1] for name in files if name.startswith("weights/")]
            blocks = sorted(ends for name in named if (ends := block_range(name)))
            if [first for first, _ in blocks] + [self.n_models] != [0, *(last + 1 for _, last in blocks)]:
                raise ValueError(f"it does not list the blocks of all {self.n_models} models")
            return files
        except FileNotFoundError:
            return {}
        except ValueError as error:
            file = self.path / "manifest.json"
            raise DamagedManifest(f"{file} is damaged ({error}): {self.redo} to write it anew") from error

    def remedy(self, damage: str) -> str:
        """What to do about the damage of a file, as the rest of its sentence."""
        if LFS_POINTER in damage:
            return ""
        rest = "download it too if the zoo was downloaded, or " if self.finished and damage == "is missing" else ""
        return f": {rest}{self.redo} to restore it"

    def block_ranges(self) -> list[tuple[int, int]]:
        """The blocks that have a folder: first and last model, in order. Raises UserError if some overlap, or hold models that are
        not there."""
        found = []
        for folder in (self.path / "weights").glob("*-*"):
            refuse_link(folder)
            if folder.is_dir() and (ends := block_range(folder.name)):
                found.append(ends)
        try:
            check_blocks(found, self.n_models)
        except ValueError as error:
            raise UserError(f"{self.path / 'weights'} is damaged ({error}): restore it from a copy") from error
        return sorted(found)

    def check_identity(self, asked: dict[str, Any]) -> None:
        """Raise UserError, naming what differs, if what is asked for is another zoo than this."""
        was, now = flat(self.description), flat(asked)
        keys = [k for k in {**was, **now} if k.split(".")[0] not in MAY_CHANGE and was.get(k) != now.get(k)]
        if keys:
            shown = [f"{key}={was.get(key, 'nothing'):.100}, now {now.get(key, 'nothing'):.100}" for key in keys[:8]]
            more = f"; and {len(keys) - 8} more differences" if len(keys) > 8 else ""
            raise UserError(
                f"zoo {self.name!r} in {self.path} was made with {'; '.join(shown)}{more}: "
                "choose another zoo.name (sparsify.twin of a twin, population.name of a population) or paths.root"
            )


def read_description(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What zoo.json of the zoo in a folder holds, checked, and its entry for a manifest. Raises UserError as `Zoo.open`."""
    try:
        text = read_file(path / "zoo.json")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"there is no zoo in {path} (no zoo.json): check the path, or train it with `python run.py zoo=NAME`"
        ) from None
    refuse_links(path)
    try:
        description = parse_json(text)
        kind, version = description["format"], description["format_version"]
        if (kind, version) == (FORMAT, FORMAT_VERSION):
            check_description(description)
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{path / 'zoo.json'} is damaged ({error}): restore it from a copy, or move {path} away and train again"
        ) from error
    if (kind, version) != (FORMAT, FORMAT_VERSION):
        newer = kind == FORMAT and isinstance(version, int) and version > FORMAT_VERSION
        remedy = "install a newer hyperzoo" if newer else "install the version of hyperzoo that made it"
        raise UserError(
            f"{path} has format {kind!s:.50} {version!s:.50}, but this version of hyperzoo reads {FORMAT} "
            f"{FORMAT_VERSION}: {remedy} (made by {description.get('versions', 'a version that was not recorded')!s:.200})"
        )
    return description, entry_of(text)


def complete(description: dict[str, Any], n_models: int) -> dict[str, Any]:
    """What zoo.json holds: the description with format, extent and layouts, as plain JSON values."""
    from zoo.networks.architecture import Architecture

    architecture = Architecture(**description["arch"])
    layouts = {"layout": architecture.layout, "buffer_layout": architecture.buffer_layout}
    missing = [name for name in ["name", "arch", "epochs", "metrics"] if name not in description]
    missing += [name for name in SCORES if name not in description.get("metrics", SCORES)]
    if missing:
        raise ValueError(f"the description of a zoo needs {missing}")
    extras = [name for name in description["metrics"] if name not in SCORES]
    complete = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": description["name"],
        "models": n_models,
        "epochs": description["epochs"],
        **description,
        **{key: slots_as_json(slots) for key, slots in layouts.items()},
        "metrics": [*SCORES, *extras, WEIGHT_MAX_ABS],
    }
    plain = json.loads(as_json_bytes(complete))
    try:
        check_description(plain)
    except ValueError as error:
        raise UserError(f"zoo {description['name']!r} cannot be stored: {error}") from error
    return plain


def slots_as_json(slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """A layout as plain JSON values."""
    return [{"name": slot.name, "shape": list(slot.shape), "offset": slot.offset} for slot in slots]


def width_of(layout: list[dict[str, Any]]) -> int:
    """How many values a layout has."""
    return sum(int(np.prod(slot["shape"], dtype=np.int64)) for slot in layout)


def block_range(name: str) -> tuple[int, int] | None:
    """The first and the last model of a block, by the name of its folder; None: it is none."""
    match = re.fullmatch(r"([0-9]{5,8})-([0-9]{5,8})", name)
    return (int(match[1]), int(match[2])) if match else None


def refuse_links(path: Path) -> None:
    """What lies in a zoo's folder is its own: nothing is read, written or removed elsewhere by its names."""
    for name in [*ROOT_FILES, "manifest.json", ".lock", "card", "weights"]:
        refuse_link(path / name)


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested dicts as {"dataset.train_size": "null"}: the leaves as JSON."""
    if not isinstance(value, dict):
        return {prefix: json.dumps(value)}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }
