"""The tables of a zoo as its states tell them: metrics, and which models have diverged or are on record in part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from zoo.base.names import WEIGHT_MAX_ABS, WHOLE
from zoo.store.block import Block, epoch_file
from zoo.store.entries import open_tensors


def with_status(models: pd.DataFrame, metrics: pd.DataFrame, last_epoch: int) -> pd.DataFrame:
    """The models with status and diverged_epoch as the metrics tell them. What could not be read has not diverged."""
    finite = np.isfinite(metrics[["train_loss", "test_loss", WEIGHT_MAX_ABS]].to_numpy()).all(axis=1)
    whole = metrics[WHOLE].ne(0).to_numpy() if WHOLE in metrics else np.ones(len(metrics), bool)
    diverged = metrics[whole & ~finite].groupby("model_id")["epoch"].min().reindex(models["model_id"]).astype("Int64")
    complete = models["model_id"].isin(metrics.loc[metrics["epoch"] == last_epoch, "model_id"]).to_numpy()
    partial = models["model_id"].isin(metrics.loc[~whole, "model_id"]).to_numpy()
    status = np.select([~complete, diverged.notna(), partial], ["pending", "diverged", "partial"], "ok")
    return models.assign(status=status.tolist(), diverged_epoch=diverged.array)


def absent(metrics: pd.DataFrame) -> np.ndarray:
    """Which rows of a table of metrics are of states that an imported zoo does not have: bool [rows]."""
    if WHOLE not in metrics:
        return np.zeros(len(metrics), bool)
    return (metrics[WHOLE].eq(0) & metrics[WEIGHT_MAX_ABS].isna()).to_numpy()


def collect_metrics(blocks: Iterable[Block], names: Sequence[str]) -> pd.DataFrame:
    """The metrics of all committed states, from the state files; sorted by model, then epoch."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ["model_id", "epoch", *names]}
    for block in blocks:
        files = block.listed_files(map(epoch_file, block.epochs))
        shape = (len(block.models), len(files))
        columns["model_id"].append(np.broadcast_to(np.array(block.models)[:, None], shape))
        columns["epoch"].append(np.broadcast_to(np.arange(len(files)), shape))
        values = np.empty((len(names), *shape))
        for i, file in enumerate(files):
            with open_tensors(file) as tensors:
                for j, name in enumerate(names):
                    values[j, :, i] = tensors.slice(f"metrics.{name}", "F64", shape[:1])[:]
        for name, column in zip(names, values):
            columns[name].append(column)
    empty = np.empty(0)
    table = pd.DataFrame({name: np.concatenate([empty, *(p.ravel() for p in ps)]) for name, ps in columns.items()})
    return table.astype({"model_id": "int64", "epoch": "int64"})
