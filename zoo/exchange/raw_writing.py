"""The raw layout, written."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from zoo.base.names import WEIGHT_MAX_ABS, WHOLE
from zoo.engines.engine import MOMENTUM
from zoo.exchange.raw import PARAMS
from zoo.exchange.raw_states import CLASSES, MOMENTS, VALUES_AT_ONCE, published_names
from zoo.networks.architecture import Architecture
from zoo.store.tables import absent
from zoo.store.zoo import Zoo


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
