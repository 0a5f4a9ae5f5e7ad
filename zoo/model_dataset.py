"""States of a zoo with their properties, as a torch dataset."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.store import Zoo

log = logging.getLogger(__name__)


class ModelDataset(Dataset[tuple[Tensor, dict[str, Any]]]):
    """The chosen states of a zoo, each a pair (weight vector float32 [P], {property: value}).

    Samples come model by model, and within a model epoch by epoch. Numeric properties are Python numbers and
    categorical ones stay strings, so that torch's default collating gives weights [batch, P], float64 or int64 tensors
    [batch] for numbers, and lists of strings. All weights are held in memory: samples x P x 4 bytes.

    Args:
        zoo: where the states are.
        split, epochs, models, layers: which states and which part of their vectors, as in `Zoo.weights`.
        properties: names of columns of `zoo.metrics` or `zoo.models`, or "ggap" (generalisation gap: train_acc -
            test_acc at the same epoch). Matched by model and epoch, never by position.
        drop_nonfinite: leave out states with a NaN or infinite value in the chosen layers.
        weight_threshold: leave out states with a value above it in size, |w| > threshold, in the chosen layers.

    Attributes:
        weights: float32 [samples, P].
        table: one row a sample: model_id, epoch and the properties.
        dropped_nonfinite: how many states were left out for NaN or infinity.
        dropped_threshold: how many of the others were left out for the threshold.

    Raises:
        UserError: if a property or something else asked for is not stored.
    """

    def __init__(
        self,
        zoo: Zoo,
        split: str | None = None,
        epochs: Iterable[int] | None = None,
        properties: Sequence[str] = (),
        *,
        models: Iterable[int] | None = None,
        layers: Sequence[str] | None = None,
        drop_nonfinite: bool = True,
        weight_threshold: float | None = None,
    ) -> None:
        ids, chosen = zoo.choose_models(split, models), zoo.choose_epochs(epochs)
        table = _properties(zoo, ids, chosen, properties)
        weights = zoo.weights(models=ids, epochs=chosen, layers=layers)
        weights = weights.reshape(len(table), weights.shape[2])
        keep = np.ones(len(weights), bool)
        if drop_nonfinite:
            keep &= np.isfinite(weights).all(axis=1)
        self.dropped_nonfinite = int((~keep).sum())
        if weight_threshold is not None:
            keep &= ~(np.abs(weights) > weight_threshold).any(axis=1)
        self.dropped_threshold = int((~keep).sum()) - self.dropped_nonfinite
        if not keep.all():
            log.warning(
                "zoo %r: %d of %d states left out (%d not finite, %d beyond the weight threshold %s)",
                zoo.name,
                (~keep).sum(),
                len(keep),
                self.dropped_nonfinite,
                self.dropped_threshold,
                weight_threshold,
            )
            weights, table = weights[keep], table[keep]
        self.weights = torch.from_numpy(weights)
        self.table = table.reset_index(drop=True)
        self._values = {name: self.table[name].tolist() for name in properties}

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.weights)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        """Sample `index`: (weights float32 [P], {property: value})."""
        return self.weights[index], {name: values[index] for name, values in self._values.items()}


def _properties(zoo: Zoo, ids: np.ndarray, epochs: list[int], names: Sequence[str]) -> pd.DataFrame:
    """One row a state, model by model: model_id, epoch and the properties, looked up by these two."""
    states = pd.DataFrame({"model_id": np.repeat(ids, len(epochs)), "epoch": np.tile(epochs, len(ids))})
    if not len(names):
        return states
    metrics = zoo.metrics.assign(ggap=lambda rows: rows["train_acc"] - rows["test_acc"])
    # "Not diverged" is NaN among numbers: torch cannot collate pandas' NA.
    models = zoo.models.astype({"diverged_epoch": "float64"})
    known = {**dict.fromkeys(metrics.columns), **dict.fromkeys(models.columns)}
    unknown = [name for name in names if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"zoo {zoo.name!r} has no property {unknown[0]!r}: {hint}it has {', '.join(known)}")
    keys = ["model_id", "epoch"]
    of_state = [name for name in metrics.columns if name in names and name not in keys]
    of_model = [name for name in models.columns if name in names and name != "model_id"]
    table = states.merge(metrics[keys + of_state], on=keys, how="left", validate="many_to_one")
    table = table.merge(models[["model_id", *of_model]], on="model_id", how="left", validate="many_to_one")
    return table[list(dict.fromkeys([*keys, *names]))]
