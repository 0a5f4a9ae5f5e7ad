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
import multiprocessing
import os
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoo.architecture import Architecture, Slot
from zoo.errors import UserError
from zoo.schema import WEIGHT_MAX_ABS, is_name
from zoo.store import Zoo

PARAMS = {  # keys of params.json: a factor, or the seed
    "seed": "seed",
    "model::init_type": "init",
    "model::nlin": "activation",
    "optim::optimizer": "optimizer",
    "optim::lr": "lr",
    "optim::wd": "weight_decay",
    "model::dropout": "dropout",
}
NAMES = ("init", "activation", "optimizer", "split")  # words; the other values of params.json are numbers
WHOLE = ("seed", "batch_size")  # numbers
SCORE = r"(train|val|test|sparsity)(_\w+)?"  # what is kept of a line of result.json
CLASSES = {"cnn_s": "CNN", "cnn_m": "CNN3", "resnet18": "ResNet18"}  # as the published code calls architectures
BATCH_SIZE = "training::batchsize"
SPLIT = "hyperzoo::split"  # in params.json of what we write
VALUES_AT_ONCE = 10**8  # of one model's states in memory
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

    @cached_property
    def results(self) -> dict[int, dict[str, float]]:
        """The scores of result.json by `training_iteration`: a line that comes twice counts as it came last."""
        rows = {}
        for i, line in enumerate(self._text("result.json").splitlines()):
            try:
                row = json.loads(line)
                self.config = row.get("config") if self.config is None else self.config
                rows[int(row["training_iteration"])] = {
                    name: number(value) for name, value in row.items() if re.fullmatch(SCORE, name)
                }
            except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
                self.problems.append(f"result.json: line {i + 1} cannot be read")
        return rows

    @cached_property
    def params(self) -> dict[str, Any]:
        """The generating factors and the seed under our names; `batch_size` and `split` where they are told."""
        try:
            read = json.loads(self._text("params.json") or "{}")
        except (ValueError, RecursionError):
            self.problems.append("params.json cannot be read")
            read = {}
        if not read and self.results:
            read = self.config
        found = {}
        for theirs, ours in (PARAMS | {BATCH_SIZE: "batch_size", SPLIT: "split"}).items():
            value = read.get(theirs) if isinstance(read, dict) else None
            if value is None:
                continue
            if is_name(value) if ours in NAMES else _fits(number(value), ours in WHOLE):
                found[ours] = value
            else:
                self.problems.append(f"params.json: {theirs} is {value!s:.50}")
        return found

    def _text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(errors="replace")
        except OSError:
            self.problems.append(f"{name} is missing")
            return ""


def number(value: Any) -> float:
    """A number of a JSON file; NaN for anything else."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _fits(value: float, whole: bool) -> bool:
    return math.isfinite(value) and (not whole or (value.is_integer() and abs(value) < 2**63))


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
    if _is_trial(source):
        raise UserError(
            f"source: {source} is one trial, that is one model: give the folder above, which holds them all"
        )
    trials, others = [], []
    for path in sorted(source.iterdir()):
        if _is_trial(path):
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
    inside = [path for path in map(source.joinpath, others) if path.is_dir()]
    if len(inside) == 1:
        return find_trials(inside[0])
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
    except Exception as error:  # a damaged file can make torch stumble over anything
        raise UserError(f"{name} is damaged") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        keys = f", but has {', '.join(map(str, list(state)[:3]))}" if isinstance(state, Mapping) else ""
        raise UserError(f"{name} is no state dict{keys}")
    if not all(isinstance(key, str) and _is_plain(value) for key, value in state.items()):
        raise UserError(f"{name} holds other tensors than plain ones with a name")
    return {key.removeprefix("module."): value for key, value in state.items()}  # which DataParallel puts there


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an ordinary one of real numbers, with its values."""
    of_reals = not tensor.is_quantized and not tensor.is_complex()
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and of_reals


def begin_reading() -> None:
    """In a process that only reads: one thread, and the end when whoever started it has ended, however that came."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end() -> None:
            wait([parent.sentinel])
            os._exit(1)

        Thread(target=end, daemon=True).start()


def read_states(files: Sequence[Path | None], described: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The weights and buffers of some states of a described architecture: float32 [states, values] each.

    NaN for a state that is not there (None) or cannot be read.
    """
    arch = Architecture(**described)
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
    known = {theirs: _plain(row[ours]) for theirs, ours in PARAMS.items()}
    params = {name: value for name, value in known.items() if value == value and (name, value) != ("seed", -1)}  # told
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
        scores = {str(key): _plain(value) for key, value in line.items() if key != WEIGHT_MAX_ABS}
        epoch = scores.pop("epoch")
        lines.append({**scores, "training_iteration": epoch, "trial_id": f"hyperzoo_{model:05d}", "config": params})
    (trial / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pd.json_normalize(lines, sep="/").to_csv(trial / "progress.csv", index=False)
    names = published_names(arch, float(np.nan_to_num(row["dropout"])))
    some = max(1, VALUES_AT_ONCE // arch.n_parameters)
    for first in range(0, len(zoo.epochs), some):
        _write_states(trial, zoo, arch, model, zoo.epochs[first : first + some], names)


def _write_states(
    trial: Path, zoo: Zoo, arch: Architecture, model: int, epochs: list[int], names: Mapping[str, str]
) -> None:
    weights = torch.from_numpy(zoo.weights(models=[model], epochs=epochs)[0])
    buffers: list[Tensor | None] = [None] * len(epochs)
    if arch.n_buffers:
        buffers = list(torch.from_numpy(zoo.buffers(models=[model], epochs=epochs)[0]))
    for epoch, values, others in zip(epochs, weights, buffers):
        state = {names[name]: tensor.clone() for name, tensor in arch.state_dict(values, others).items()}
        if arch.variational:  # the published linear layers, too, have variances of biases, which nobody reads
            biases = [(f"{name[:-5]}.log_sigma2_bias", state[name]) for name in state if name.endswith(".bias")]
            state = {name: torch.zeros_like(bias) for name, bias in biases} | state
        checkpoint = trial / f"checkpoint_{epoch:06d}"
        checkpoint.mkdir()
        torch.save(state, checkpoint / "checkpoints")


def _plain(value: Any) -> Any:
    """A value of a table as JSON knows it."""
    return value.item() if isinstance(value, np.generic) else value
