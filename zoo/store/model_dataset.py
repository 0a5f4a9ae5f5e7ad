"""States of a zoo with their properties, as a torch dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


class ModelDataset(Dataset[tuple[Tensor, dict[str, Any]]]):
    """States of a zoo, each a pair (weight vector float32 [P], {property: value}).

    Samples come model by model, and within a model epoch by epoch. Numeric properties are Python numbers and
    categorical ones stay strings, so that torch's default collating gives weights [batch, P], float64 or int64 tensors
    [batch] for numbers, and lists of strings. All weights are held in memory: samples x P x 4 bytes.

    Args:
        weights: float32 [samples, P].
        table: one row a sample.
        properties: the columns of it that are given with each sample.
        drop_nonfinite: leave out states with a NaN or infinite value in the chosen layers.
        weight_threshold: leave out states with a value above it in size, |w| > threshold, in the chosen layers.
        name: of where they are from, for the log.

    Attributes:
        weights: float32 [samples, P].
        table: one row a sample: model_id, epoch and the properties.
        dropped_nonfinite: how many states were left out for NaN or infinity.
        dropped_threshold: how many of the others were left out for the threshold.
    """

    def __init__(
        self,
        weights: np.ndarray,
        table: pd.DataFrame,
        properties: Sequence[str] = (),
        *,
        drop_nonfinite: bool = True,
        weight_threshold: float | None = None,
        name: str = "a table",
    ) -> None:
        keep = np.ones(len(weights), bool)
        if drop_nonfinite:
            keep &= np.isfinite(weights).all(axis=1)
        self.dropped_nonfinite = int((~keep).sum())
        if weight_threshold is not None:
            keep &= ~(np.abs(weights) > weight_threshold).any(axis=1)
        self.dropped_threshold = int((~keep).sum()) - self.dropped_nonfinite
        if not keep.all():
            log.warning(
                "%s: %d of %d states left out (%d not finite, %d beyond the weight threshold %s)",
                name,
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
