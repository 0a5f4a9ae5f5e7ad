"""States of the raw layout: PyTorch's files, read without running anything of theirs."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.base.errors import UserError
from zoo.networks.architecture import Architecture
from zoo.networks.layout import Slot

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
