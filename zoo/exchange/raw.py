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

import errno
import json
import math
import multiprocessing
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
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
from torch import Tensor, nn

from zoo.base.errors import UserError
from zoo.base.names import WEIGHT_MAX_ABS, WHOLE, is_name
from zoo.base.text import is_control
from zoo.engines.engine import MOMENTUM
from zoo.networks.architecture import Architecture
from zoo.networks.layout import Slot
from zoo.store.schema import MOST_EPOCHS
from zoo.store.tables import absent
from zoo.store.zoo import Zoo

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
NESTED = 5  # folders that hold nothing but the next
CLASSES = {"cnn_s": "CNN", "cnn_m": "CNN3", "resnet18": "ResNet18"}  # as the published code calls architectures
MOMENTS = {  # an optimiser's state: our names of its arrays, and torch's
    "adam": {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"},
    "sgd": {"first_moment": "momentum_buffer"},
}
VALUES_AT_ONCE = 10**8  # of one model's states in memory
BYTES_A_VALUE = 64  # of a file: in double precision, with variances, and names
NUMBERS = {  # types of tensors that can be made float32
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
}  # fmt: skip
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


# ------------------------------------------------------------------------------------------------ states


def read_state(file: Path, arch: Architecture | None = None) -> dict[str, Tensor]:
    """A state dict from a file of torch's; only tensors are read, and no code is run.

    Args:
        file: where.
        arch: what the state should be of: files that are far larger are not read.

    Raises:
        UserError: if the file holds anything else, or is damaged.
    """
    state = read_saved(file, arch)
    name = f"{file.parent.name}/{file.name}"
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        named = [key for key in list(state)[:3] if isinstance(key, str)] if isinstance(state, Mapping) else []
        keys = f", but has {', '.join(f'{key:.50}' for key in named)}" if named else ""
        raise UserError(f"{name} is no state dict{keys}")
    if not all(isinstance(key, str) and _is_plain(value) for key, value in state.items()):
        raise UserError(f"{name} holds other tensors than plain ones with a name")
    return {key.removeprefix("module."): value for key, value in state.items()}  # which DataParallel puts there


def read_saved(file: Path, arch: Architecture | None = None) -> Any:
    """What torch saved in a file: tensors and plain values. Arguments and errors as of `read_state`."""
    name = f"{file.parent.name}/{file.name}"
    try:
        _check_size(file, name, arch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other protocols of pickle: such a file is refused below
            return torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise UserError(f"{name} holds more than tensors, and is not read: it could run any code") from error
        raise UserError(f"{name} is damaged") from error
    except Exception as error:  # a damaged file can make torch stumble over anything
        raise UserError(f"{name} is damaged") from error


def _check_size(file: Path, name: str, arch: Architecture | None) -> None:
    """Refuse what would take far more memory than a state does. torch packs nothing, so that a zip is as large as it says."""
    size = file.stat().st_size
    if arch is not None and size > (most := 2**20 + BYTES_A_VALUE * (arch.n_parameters + arch.n_buffers)):
        raise UserError(f"{name} has {size:,} bytes, but a state of arch={arch.name} has at most {most:,}")
    with open(file, "rb") as start:
        if start.read(2) != b"PK":
            return  # not a zip: torch before 1.6
    with zipfile.ZipFile(file) as packed:
        entries = packed.infolist()
    if not entries:
        raise UserError(f"{name} is an empty zip")
    if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > size:
        raise UserError(
            f"{name} is a packed zip, which torch does not write: it is not read, as it could unpack to any size"
        )


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an ordinary one of real numbers, with its values."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_nested
        and tensor.dtype in NUMBERS
    )


def read_optimizer(file: Path, arch: Architecture) -> dict[str, np.ndarray]:
    """The optimiser's state as `Zoo.optimizer` gives it, from what task=export wrote: Adam's, or SGD's with its steps.

    Raises:
        UserError: if the file holds anything else, or is damaged.
    """
    saved = read_saved(file, arch)
    try:
        parts = [saved["state"][i] for i in range(len(arch.layout))]
        steps = {int(part["step"]) for part in parts}
        names = MOMENTS["adam" if "exp_avg_sq" in parts[0] else "sgd"]
        found = {}
        for ours, theirs in names.items():
            tensors = [part[theirs] for part in parts]
            if [tuple(tensor.shape) for tensor in tensors] != [slot.shape for slot in arch.layout]:
                raise ValueError
            if not all(_is_plain(tensor) and tensor.dtype == torch.float32 for tensor in tensors):
                raise ValueError
            found[ours] = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()
        (step,) = steps
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{file.parent.name}/{file.name} is no optimiser state of arch={arch.name}: left out"
        ) from error
    return found | {"step": np.array(step, np.int64)}


def begin_reading() -> None:
    """In a process that only reads: one thread, and the end when whoever started it has ended, however that came."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end() -> None:
            wait([parent.sentinel])
            os._exit(1)

        Thread(target=end, daemon=True).start()


def read_states(
    files: Sequence[Path | None], described: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights and buffers of some states of a described architecture, float32 [states, values] each; and which of the
    states are there and can be read, bool [states]. The others are NaN.
    """
    arch = Architecture(**described)
    weights = np.full((len(files), arch.n_parameters), np.nan, np.float32)
    buffers = np.full((len(files), arch.n_buffers), np.nan, np.float32)
    there = np.zeros(len(files), bool)
    for i, file in enumerate(files):
        if file is not None:
            with suppress(UserError):  # task=import tells these in the end
                weights[i], buffers[i] = vectors(read_state(file, arch), arch)
                there[i] = True
    return weights, buffers, there


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
    found = {match[1] for key in state if (match := re.fullmatch(r"module_list\.([0-9]+)\.\w+", key))}
    indices = sorted(found, key=lambda digits: (len(digits), digits))  # as numbers, of however many digits
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
        parts.append(named[slot.name].detach().resolve_neg().to(torch.float32).reshape(-1).numpy())
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
    """One model as the folder of a trial, all the states that it has, and the optimiser's of the last.

    Args:
        folder: of the experiment.
        zoo: finished.
        arch: its architecture.
        row: the model's, of the zoo's table of models.
        metrics: the zoo's table, indexed by model_id, sorted by epoch.
    """
    model = int(row["model_id"])
    known = {names[0]: _plain(row[ours]) for ours, names in PARAMS.items() if ours in row}
    params = {name: value for name, value in known.items() if value == value and (name, value) != ("seed", -1)}  # told
    params |= {
        "model::type": CLASSES.get(arch.name, arch.name),
        "model::channels_in": arch.image[0],
        PARAMS["batch_size"][0]: zoo.description["protocol"]["batch_size"],
        "training::epochs_train": zoo.epochs[-1],
    }
    trial = folder / f"NN_tune_trainable_hyperzoo_{model:05d}_{model}_seed={row['seed']}"
    trial.mkdir()
    (trial / "params.json").write_text(json.dumps(params), encoding="utf-8")
    lines = []
    rows = metrics.loc[[model]]
    there = ~absent(rows)
    for line in rows.to_dict("records"):
        scores = {str(key): _plain(value) for key, value in line.items() if key not in (WEIGHT_MAX_ABS, WHOLE)}
        epoch = scores.pop("epoch")
        if WHOLE in line and not line[WHOLE] and all(value != value for value in scores.values()):
            continue  # it was not in the result.json that was imported
        lines.append({**scores, "training_iteration": epoch, "trial_id": f"hyperzoo_{model:05d}", "config": params})
    (trial / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    pd.json_normalize(lines, sep="/").to_csv(trial / "progress.csv", index=False)
    names = published_names(arch, float(np.nan_to_num(row["dropout"])))
    some = max(1, VALUES_AT_ONCE // arch.n_parameters)
    epochs = [epoch for epoch in zoo.epochs if there[epoch]]
    for first in range(0, len(epochs), some):
        _write_states(trial, zoo, arch, model, epochs[first : first + some], names)
    if there[-1] and row["optimizer"] in MOMENTS:
        _write_optimizer(trial / f"checkpoint_{zoo.epochs[-1]:06d}" / "optimizer", zoo.optimizer(model), arch, row)


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
        try:
            torch.save(state, checkpoint / "checkpoints")
        except RuntimeError as error:  # torch's word for what the machine refuses
            reason = "cannot be written to its end, as on a full disk"
            raise OSError(errno.ENOSPC, reason, str(checkpoint / "checkpoints")) from error


def _write_optimizer(file: Path, state: Mapping[str, np.ndarray], arch: Architecture, row: pd.Series) -> None:
    """The optimiser of a model as the state dict of PyTorch's, its parameters in the order of the architecture's layout; nothing
    where the zoo keeps no moments (imported and masked ones)."""
    names = MOMENTS[row["optimizer"]]
    if not set(names) <= set(state):
        return
    parameters = [nn.Parameter(torch.empty(slot.shape)) for slot in arch.layout]
    lr, decay = (float(np.nan_to_num(row[name])) for name in ("lr", "weight_decay"))  # NaN: not known
    optimizer: torch.optim.Optimizer = torch.optim.SGD(parameters, lr, MOMENTUM, weight_decay=decay)
    if row["optimizer"] == "adam":
        optimizer = torch.optim.Adam(parameters, lr, weight_decay=decay)
    for parameter, slot in zip(parameters, arch.layout):
        optimizer.state[parameter] = {"step": torch.tensor(float(state["step"]))}
        for ours, theirs in names.items():
            values = torch.tensor(state[ours][slot.offset : slot.offset + slot.size])
            optimizer.state[parameter][theirs] = values.reshape(slot.shape)
    torch.save(optimizer.state_dict(), file)


def _plain(value: Any) -> Any:
    """A value of a table as JSON knows it."""
    return value.item() if isinstance(value, np.generic) else value
