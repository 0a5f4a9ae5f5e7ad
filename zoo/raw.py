"""The raw layout of the published zoos: a folder a model, as Ray Tune 1.8 left it (Model Zoos, Schürholt et al., 2022).

    <experiment>/
        config.json, readme.md, …                 of the whole experiment
        NN_tune_trainable_da045_00000_0_seed=1_…/ a trial, that is a model
            params.json                           its generating factors and seed, a flat dictionary
            result.json                           a line an epoch: scores, training_iteration
            progress.csv                          the same once more, as a table
            checkpoint_000000/checkpoints         a state dict, saved by torch; older zoos: checkpoint_0
            checkpoint_000000/optimizer           the optimiser's, in some zoos

Read and written here. Names of tensors are `module_list.<index>.weight`, where the index depends on the architecture and on
whether there are layers of dropout; so tensors are found by their order and shape, never by a list of indices.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoo.architecture import Architecture, Slot
from zoo.errors import UserError
from zoo.store import WEIGHT_MAX_ABS, Zoo

PARAMS = {  # keys of params.json: a factor, or the seed
    "seed": "seed",
    "model::init_type": "init",
    "model::nlin": "activation",
    "optim::optimizer": "optimizer",
    "optim::lr": "lr",
    "optim::wd": "weight_decay",
    "model::dropout": "dropout",
}
CLASSES = {"cnn_s": "CNN", "cnn_m": "CNN3", "resnet18": "ResNet18"}  # as the published code calls architectures
BATCH_SIZE = "training::batchsize"
SPLIT = "hyperzoo::split"  # in params.json of what we write
OF_THE_EXPERIMENT = (  # files and folders beside the trials that are known not to be models
    r"config\.json|readme\.md|README\.md|dataset.*\.pt|index_dict.*\.json|experiment_state.*|searcher-state.*|"
    r"search_gen_state.*|basic-variant-state.*|\..*|__MACOSX"
)


# ------------------------------------------------------------------------------------------------ finding


@dataclass
class Trial:
    """The folder of one model.

    Attributes:
        path: the folder.
        problems: what of its files cannot be read, a sentence each.
    """

    path: Path
    problems: list[str] = field(default_factory=list)

    @cached_property
    def states(self) -> dict[int, Path]:
        """The files of its states, by epoch."""
        found = {}
        for folder in self.path.glob("checkpoint_*"):
            if re.fullmatch(r"checkpoint_\d+", folder.name) and (folder / "checkpoints").is_file():
                found[int(folder.name.partition("_")[2])] = folder / "checkpoints"
        return found

    @cached_property
    def results(self) -> dict[int, dict[str, Any]]:
        """The lines of result.json by `training_iteration`: a line that comes twice counts as it came last."""
        rows = {}
        for i, line in enumerate(self._text("result.json").splitlines()):
            try:
                row = json.loads(line)
                rows[int(row["training_iteration"])] = row
            except (ValueError, LookupError, TypeError):
                self.problems.append(f"result.json: line {i + 1} cannot be read")
        return rows

    @cached_property
    def params(self) -> dict[str, Any]:
        """The generating factors and the seed under our names; `batch_size` and `split` where they are told."""
        try:
            read = json.loads(self._text("params.json") or "{}")
        except ValueError:
            self.problems.append("params.json cannot be read")
            read = {}
        if not read and self.results:
            read = next(iter(self.results.values())).get("config", {})
        known = PARAMS | {BATCH_SIZE: "batch_size", SPLIT: "split"}
        return {ours: read[theirs] for theirs, ours in known.items() if read.get(theirs) is not None}

    def _text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(errors="replace")
        except OSError:
            self.problems.append(f"{name} is missing")
            return ""


def find_trials(source: Path) -> tuple[list[Trial], list[str]]:
    """The trials in a folder, by number, and the names of what is no part of the layout.

    Trials are numbered by Ray, so that their order is the same on every machine; that of a folder's entries is not.

    Args:
        source: of the experiment; or a folder that holds this one and nothing else, as archives do.

    Raises:
        UserError: if there are none.
    """
    if not source.is_dir():
        raise UserError(f"source: {source} is not a folder: unpack the archive first, and give the experiment's folder")
    trials, others = [], []
    for path in sorted(source.iterdir()):
        if path.is_dir() and ((path / "params.json").exists() or any(path.glob("checkpoint_*"))):
            trials.append(Trial(path))
        elif not re.fullmatch(OF_THE_EXPERIMENT, path.name):
            others.append(path.name)
    if trials:
        return sorted(trials, key=lambda trial: (_number(trial.path.name), trial.path.name)), others
    if (source / "zoo.json").is_file():
        raise UserError(
            f"source: {source} is a zoo of hyperzoo already; open it with zoo.Zoo.open, or put the folder under its name into "
            "<paths.root>/zoos/ and use it by zoo=NAME"
        )
    inside = [path for path in sorted(source.iterdir()) if path.is_dir()]
    if len(inside) == 1:
        return find_trials(inside[0])
    if pickles := sorted(path.name for path in source.glob("*.pt")):
        raise UserError(
            f"source: {source} holds {pickles[0]}, a preprocessed data set: a pickle of Python objects, which could run any "
            "code and is never read here; download the raw zoo (a zip of folders, one a model) and give that folder"
        )
    raise UserError(
        f"source: {source} holds no trials (folders with params.json and checkpoint_000000/checkpoints); "
        + (f"is it one of {', '.join(path.name for path in inside[:5])}?" if inside else "it is empty")
    )


def _number(name: str) -> int:
    """The number of a trial in the name of its folder: "NN_tune_trainable_da045_00012_12_seed=13_…" is 12."""
    found = re.search(r"_(\d{5,})_", name)
    return int(found[1]) if found else 0


# ------------------------------------------------------------------------------------------------ states


def read_state(file: Path) -> dict[str, Tensor]:
    """A state dict from a file of torch's; only tensors are read, and no code is run.

    Raises:
        UserError: if the file holds anything else, or is damaged.
    """
    name = f"{file.parent.name}/{file.name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other protocols of pickle: such a file is refused below
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise UserError(f"{name} holds more than tensors, and is not read: it could run any code") from error
        raise UserError(f"{name} is damaged") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{name} is damaged") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{name} is no state dict")
    return dict(state)


def read_states(files: Sequence[Path | None], described: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The weights and buffers of some states of a described architecture: float32 [states, values] each.

    NaN for a state that is not there (None) or cannot be read.
    """
    arch = Architecture.from_dict(dict(described))
    weights = np.full((len(files), arch.n_parameters), np.nan, np.float32)
    buffers = np.full((len(files), arch.n_buffers), np.nan, np.float32)
    for i, file in enumerate(files):
        if file is not None:
            with suppress(UserError):  # task=import tells these in the end
                weights[i], buffers[i] = vectors(read_state(file), arch)
    return weights, buffers


def is_variational(state: Mapping[str, Tensor]) -> bool:
    """Whether a state has variances beside its weights (a sparsified twin)."""
    return any(key.endswith("log_sigma2") for key in state)


def vectors(state: Mapping[str, Tensor], arch: Architecture) -> tuple[np.ndarray, np.ndarray]:
    """A published state dict as a weight vector and a buffer vector of an architecture; float32.

    Of a list of layers (`module_list.<index>.<what>`), the layers are matched by their order; a `log_sigma2_bias` that the
    architecture does not know is left out, because the published linear layers save one that they never use. Of a module,
    tensors are matched by name.

    Raises:
        UserError: if tensors are missing or of another shape, or if a list of layers is longer or shorter.
    """
    named = dict(state) if arch.is_module else _by_order(state, arch)
    return _vector(named, arch.layout, arch.name), _vector(named, arch.buffer_layout, arch.name)


def _by_order(state: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    indices = sorted({int(found[1]) for key in state if (found := re.fullmatch(r"module_list\.(\d+)\.\w+", key))})
    owners = _layers(arch)
    if len(indices) != len(owners):
        raise UserError(f"it has {len(indices)} layers, but arch={arch.name} has {len(owners)}")
    return {
        f"{owner}.{key.rpartition('.')[2]}": value
        for index, owner in zip(indices, owners)
        for key, value in state.items()
        if key.startswith(f"module_list.{index}.")
    }


def _layers(arch: Architecture) -> list[str]:
    """The names of the layers that have weights, in order."""
    return list(dict.fromkeys(slot.name.rpartition(".")[0] for slot in arch.layout))


def _vector(named: Mapping[str, Tensor], layout: list[Slot], arch: str) -> np.ndarray:
    parts = []
    for slot in layout:
        if slot.name not in named:
            raise UserError(f"it has no {slot.name}, which arch={arch} has")
        if tuple(named[slot.name].shape) != tuple(slot.shape):
            raise UserError(f"its {slot.name} is {tuple(named[slot.name].shape)}, but arch={arch} has {slot.shape}")
        parts.append(named[slot.name].detach().to(torch.float32).reshape(-1).numpy())
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def published_names(arch: Architecture, dropout: float) -> dict[str, str]:
    """Our names of tensors and those of the published state dicts: {"conv1.weight": "module_list.0.weight"}.

    Layers of dropout are counted where there is dropout; in the published CNN-m always.
    """
    if arch.is_module:
        return {slot.name: slot.name for slot in [*arch.layout, *arch.buffer_layout]}
    owners = _layers(arch)
    indices, index = [], 0
    for entry in arch.entries or []:
        if entry == "dropout" and not dropout and arch.name != "cnn_m":
            continue
        if isinstance(entry, Mapping) and {"conv", "linear"} & set(entry):
            indices.append(index)
        index += 1
    if len(indices) != len(owners):
        raise UserError(f"arch={arch.name}: its layers have no place in the published layout, which is a plain chain")
    names = dict(zip(owners, indices))
    return {
        slot.name: f"module_list.{names[slot.name.rpartition('.')[0]]}.{slot.name.rpartition('.')[2]}"
        for slot in arch.layout
    }


# ------------------------------------------------------------------------------------------------ scores


def scores(row: Mapping[str, Any] | None, names: list[str]) -> dict[str, float]:
    """Losses and accuracies (fractions) of a line of result.json; NaN for what it lacks."""

    def number(value: Any) -> float:
        return float(value) if isinstance(value, int | float) else math.nan

    return {name: number((row or {}).get(name)) for name in names}


# ------------------------------------------------------------------------------------------------ writing


def write_trial(folder: Path, zoo: Zoo, arch: Architecture, row: pd.Series, metrics: pd.DataFrame) -> None:
    """One model as the folder of a trial, all its states. The optimiser's are left out.

    Args:
        folder: of the experiment.
        zoo: finished.
        arch: its architecture.
        row: the model's, of the zoo's table of models.
        metrics: the zoo's table, indexed by model_id, sorted by epoch.
    """
    model = int(row["model_id"])
    params = {theirs: _plain(row[ours]) for theirs, ours in PARAMS.items()}
    params |= {
        "model::type": CLASSES.get(arch.name, arch.name),
        "model::channels_in": arch.image[0],
        BATCH_SIZE: zoo.description["protocol"]["batch_size"],
        "training::epochs_train": zoo.epochs[-1],
        SPLIT: row["split"],
    }
    trial = folder / f"NN_tune_trainable_hyperzoo_{model:05d}_{model}_seed={row['seed']}"
    trial.mkdir()
    (trial / "params.json").write_text(json.dumps(params))
    lines = []
    for line in metrics.loc[[model]].to_dict("records"):
        known = {str(key): _plain(value) for key, value in line.items() if key != WEIGHT_MAX_ABS}
        lines.append(
            {**known, "training_iteration": known.pop("epoch"), "trial_id": f"hyperzoo_{model:05d}", "config": params}
        )
    (trial / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pd.json_normalize(lines, sep="/").to_csv(trial / "progress.csv", index=False)
    names = published_names(arch, float(row["dropout"] or 0))
    weights = torch.tensor(zoo.weights(models=[model])[0])
    buffers = torch.tensor(zoo.buffers(models=[model])[0]) if arch.n_buffers else [None] * len(weights)
    for epoch, (values, others) in enumerate(zip(weights, buffers)):
        state = {names[name]: tensor.clone() for name, tensor in arch.state_dict(values, others).items()}
        checkpoint = trial / f"checkpoint_{epoch:06d}"
        checkpoint.mkdir()
        torch.save(state, checkpoint / "checkpoints")


def _plain(value: Any) -> Any:
    """A value of a table as JSON knows it."""
    return value.item() if isinstance(value, np.generic) else value
