"""The raw layout of the published zoos: a folder a model, as Ray Tune 1.8 left it (Model Zoos, Schürholt et al., 2022).

Later zoos of the same authors differ a little, and are read as well: lines have `epoch`, accuracies are in percent, factors
have plainer names, and only some epochs have a checkpoint.

    <experiment>/
        config.json, readme.md, …                 of the whole experiment
        NN_tune_trainable_da045_00000_0_seed=1_…/ a trial, that is a model
            params.json                           its generating factors and seed, a flat dictionary
            result.json                           a line an epoch: scores, training_iteration
            progress.csv                          the same once more, as a table
            checkpoint_000000/checkpoints         a state dict, saved by torch; older zoos: checkpoint_0
            checkpoint_000000/optimizer           the optimiser's, in some zoos; of ours beside the last state

Read and written here. Names of tensors are `module_list.<index>.weight`, where the index depends on the architecture and on
whether there are layers of dropout; so tensors are found by their order and shape, never by a list of indices.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zoo.base.errors import UserError
from zoo.base.names import is_name
from zoo.base.text import is_control
from zoo.exchange.raw_states import NESTED
from zoo.store.schema import MOST_EPOCHS

PARAMS = {  # a factor, the seed or else: its names in params.json, ours of raw export first
    "seed": ("seed",),
    "init": ("model::init_type", "init_type"),
    "activation": ("model::nlin", "nlin"),
    "optimizer": ("optim::optimizer", "optimizer"),
    "lr": ("optim::lr", "optim::LR", "lr", "learning_rate"),
    "weight_decay": ("optim::wd", "optim::weight_decay", "wd", "weight_decay"),
    "dropout": ("model::dropout", "dropout"),
    "batch_size": ("training::batchsize", "training::batch_size", "batchsize", "batch_size"),
    "split": ("hyperzoo::split",),  # written by nobody else
}
RANGES = {  # of those that are numbers: from, to, both included; the others are words
    "seed": (0, 2**63 - 1),
    "lr": (0, 1e9),
    "weight_decay": (0, 1e9),
    "dropout": (0, 0.9999),
    "batch_size": (1, 2**31),
}
COUNTS = ("seed", "batch_size")  # whole numbers
EPOCH = ("training_iteration", "epoch")  # names of a line's epoch
SCORE = r"(train|val|test|sparsity)(_\w+)?"  # what is kept of a line of result.json
ACCURACY = r"(train|val|test)_(\w+_)?acc(_\w+)?"
ROUNDING = 1e-6  # by which a share may be beyond 1
LARGEST_TEXT = 2**24  # bytes of a JSON file
MOST_SHOWN = 20  # epochs in one sentence
OF_THE_EXPERIMENT = (  # files and folders beside the trials that are known not to be models
    r"config\.json|readme\.md|README\.md|dataset.*\.pt|index_dict.*\.json|experiment_state.*|searcher-state.*|"
    r"search_gen_state.*|basic-variant-state.*|\..*|__MACOSX"
)


@dataclass
class Trial:
    """The folder of one model.

    Attributes:
        path: the folder.
        problems: what of its files cannot be read, a sentence each.
        config: what the first line of result.json says of the generating factors, once this has been read.
    """

    path: Path
    problems: list[str] = field(default_factory=list)
    config: Any = None

    @cached_property
    def states(self) -> dict[int, Path]:
        """The files of its states, by epoch."""
        found: dict[int, Path] = {}
        for folder in sorted(self.path.glob("checkpoint_*")):  # checkpoint_1 after checkpoint_000001
            if re.fullmatch(r"checkpoint_\d{1,9}", folder.name) and (folder / "checkpoints").is_file():
                epoch = int(folder.name.partition("_")[2])
                if epoch in found:
                    self.problems.append(
                        f"epoch {epoch} is there twice: taken from {folder.name}, as the published loader does"
                    )
                found[epoch] = folder / "checkpoints"
        return found

    @property
    def name(self) -> str:
        """The folder's name, with U+FFFD for what cannot be printed."""
        text = os.fsencode(self.path.name).decode(errors="replace")
        return "".join("\ufffd" if is_control(character) else character for character in text)

    @cached_property
    def results(self) -> dict[int, dict[str, float]]:
        """The scores of result.json by epoch: a line that comes twice counts as it came last."""
        rows = {}
        for where, row in self._lines():
            name = next((name for name in EPOCH if isinstance(row, dict) and name in row), None)
            if name is None:
                what = f"has no {' or '.join(EPOCH)}" if isinstance(row, dict) else f"is {row!s:.50}, not an object"
                self.problems.append(f"result.json: {where} {what}")
                continue
            self.config = row.get("config") if self.config is None else self.config
            epoch = number(row[name])
            if not (epoch.is_integer() and 0 <= epoch <= MOST_EPOCHS):
                self.problems.append(f"result.json: {where}: {name} is {row[name]!s:.50}, not 0 to {MOST_EPOCHS}")
                continue
            rows[int(epoch)] = {key: number(value) for key, value in row.items() if re.fullmatch(SCORE, key)}
        return rows

    def _lines(self) -> Iterator[tuple[str, Any]]:
        """What result.json holds: a value a line, or all of them as one list; each with where it is, in words."""
        text = self._text("result.json")
        with suppress(ValueError, RecursionError):
            whole = _json(text)
            for i, row in enumerate(whole if isinstance(whole, list) else [whole]):
                yield (f"entry {i + 1}" if isinstance(whole, list) else "line 1"), row
            return
        for i, line in enumerate(text.splitlines()):
            try:
                row = _json(line)
            except (ValueError, RecursionError):
                self.problems.append(f"result.json: line {i + 1} cannot be read")
                continue
            yield f"line {i + 1}", row

    @cached_property
    def params(self) -> dict[str, Any]:
        """The generating factors and the seed under our names; `batch_size` and `split` where they are told.

        None for what is told, but cannot be.
        """
        try:
            read = _json(self._text("params.json") or "{}")
        except (ValueError, RecursionError):
            self.problems.append("params.json cannot be read")
            read = {}
        if not isinstance(read, dict):
            self.problems.append(f"params.json is {read!s:.50}, not an object")
            read = {}
        if not read and self.results and isinstance(self.config, dict):
            read = self.config
        found: dict[str, Any] = {}
        for ours, names in PARAMS.items():
            theirs = next((name for name in names if read.get(name) is not None), None)
            if theirs is None:
                continue
            value = read[theirs]
            found[ours] = value if _fits(ours, value) else None
            if found[ours] is None:
                low, high = RANGES.get(ours, (0, 0))
                allowed = (
                    f", but must be a number from {low} to {high:.10g}" if ours in RANGES else ", which is no name"
                )
                self.problems.append(f"params.json: {theirs} is {value!s:.50}{allowed}")
        return found

    def _text(self, name: str) -> str:
        file = self.path / name
        try:
            if not file.is_file():
                problem = f"{name} is missing"
            elif file.stat().st_size > LARGEST_TEXT:
                problem = f"{name} has {file.stat().st_size:,} bytes, but at most {LARGEST_TEXT:,} are read"
            else:
                return file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            problem = f"{name} cannot be read ({error.strerror})"
        self.problems.append(problem)
        return ""


def _json(text: str) -> Any:
    """JSON, with NaN as Python writes it; whole numbers of more digits than anything has are infinite."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 30 else float(digits))


def number(value: Any) -> float:
    """A number of a JSON file; NaN for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _fits(factor: str, value: Any) -> bool:
    if factor not in RANGES:
        return is_name(value)
    low, high = RANGES[factor]
    return low <= number(value) <= high and (factor not in COUNTS or number(value).is_integer())


def take_accuracies(trials: list[Trial]) -> bool:
    """Make shares of the accuracies, if they are in percent, and NaN of those that are none; each of these is a problem.

    They are in percent if most of all trials together are more than 1: a network that has learnt nothing of a thousand
    classes gets a tenth of a percent, but not all are like it.

    Returns:
        Whether they were in percent.
    """
    rows = [(trial, epoch, row) for trial in trials for epoch, row in trial.results.items()]
    found = np.array([v for _, _, row in rows for name, v in row.items() if re.fullmatch(ACCURACY, name)])
    known = found[np.isfinite(found)]
    percent = bool(len(known)) and bool((known > 1 + ROUNDING).mean() > 0.5)
    outside: dict[int, dict[str, list[int]]] = {}
    for trial, epoch, row in rows:
        for name in row:
            if re.fullmatch(ACCURACY, name) and not math.isnan(row[name]):
                share = row[name] / 100 if percent else row[name]
                row[name] = min(share, 1.0) if 0 <= share <= 1 + ROUNDING else math.nan
                if math.isnan(row[name]):
                    outside.setdefault(id(trial), {}).setdefault(name, []).append(epoch)
    allowed = "0 to 100 %" if percent else "0 to 1"
    for trial in trials:
        for name, epochs in outside.get(id(trial), {}).items():
            trial.problems.append(f"result.json: {name} of {epochs_in_words(epochs)} is not {allowed}")
    return percent


def epochs_in_words(epochs: list[int]) -> str:
    """ "epochs 3 to 5" or "epoch 3, 7"; not more of them than one reads."""
    if len(epochs) > 2 and epochs == list(range(epochs[0], epochs[-1] + 1)):
        return f"epochs {epochs[0]} to {epochs[-1]}"
    more = f" and {len(epochs) - MOST_SHOWN} more" if len(epochs) > MOST_SHOWN else ""
    return f"epoch {', '.join(map(str, epochs[:MOST_SHOWN]))}{more}"


def find_trials(source: Path, further: int = NESTED) -> tuple[list[Trial], list[str]]:
    """The trials in a folder, by number, and the names of what is no part of the layout.

    Trials are numbered by Ray, so that their order is the same on every machine; that of a folder's entries is not.

    Args:
        source: of the experiment; or a folder that holds this one and nothing else, as archives do.
        further: how many such folders may be within each other.

    Raises:
        UserError: if there are none.
    """
    if not source.is_dir():
        raise UserError(f"source: {source} is not a folder: unpack the archive first, and give the experiment's folder")
    if _is_trial(source):
        raise UserError(
            f"source: {source} is one trial, that is one model: give the folder above, which holds them all"
        )
    trials, others = [], []
    try:
        inside_it = sorted(source.iterdir())
    except OSError as error:
        raise UserError(f"source: {source} cannot be read ({error.strerror})") from error
    for path in inside_it:
        if _is_trial(path):
            trials.append(Trial(path))
        elif not re.fullmatch(OF_THE_EXPERIMENT, path.name):
            others.append(Trial(path).name)
    if trials:
        return sorted(trials, key=lambda trial: (_number(trial.path.name), trial.path.name)), others
    if (source / "zoo.json").is_file():
        raise UserError(
            f"source: {source} is a zoo of hyperzoo already; open it with zoo.Zoo.open, or put the folder under its name into "
            "<paths.root>/zoos/ and use it by zoo=NAME"
        )
    inside = [path for path in inside_it if path.is_dir() and not re.fullmatch(OF_THE_EXPERIMENT, path.name)]
    if len(inside) == 1 and further:
        return find_trials(inside[0], further - 1)
    if pickles := sorted(path.name for path in source.glob("*.pt")):
        raise UserError(
            f"source: {source} holds {pickles[0]}, a preprocessed data set: a pickle of Python objects, which could run any "
            "code and is never read here; download the raw zoo (a zip of folders, one a model) and give that folder"
        )
    raise UserError(
        f"source: {source} holds no trials (folders with params.json and checkpoint_000000/checkpoints); "
        + (f"is it one of {', '.join(path.name for path in inside[:5])}?" if inside else "there are no folders in it")
    )


def _is_trial(path: Path) -> bool:
    files = any((path / name).is_file() for name in ("params.json", "result.json"))
    return path.is_dir() and (files or any(path.glob("checkpoint_*")))


def _number(name: str) -> int:
    """The number of a trial in the name of its folder: "NN_tune_trainable_da045_00012_12_seed=13_…" is 12. Later zoos have
    only the seed there: "NN_tune_trainable_seed=13" is 13."""
    found = re.search(r"_(\d{5,})_", name) or re.search(r"seed=(\d+)", name)
    return int(found[1]) if found else 0
