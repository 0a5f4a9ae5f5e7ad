"""Whether models have the accuracy that is on record for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from zoo.base.names import WEIGHT_MAX_ABS
from zoo.config.sections import Config
from zoo.engines.evaluation import predictions
from zoo.images.data import ImageData
from zoo.store.zoo import Zoo

CHECKED = 10  # models whose accuracy is measured again
MOST_APART = 0.005  # in accuracy: rounding may turn a few images


def accuracies_apart(config: Config, zoo: Zoo, data: ImageData) -> np.ndarray:
    """How far the test accuracies on record of some models after their last epoch, `CHECKED` at most, are from those measured
    again: [n] fractions; none where none is on record."""
    models, metrics = zoo.models, zoo.metrics
    rows = metrics[metrics["epoch"] == zoo.epochs[-1]].set_index("model_id")
    last = rows["test_acc"]
    runs = zoo.architecture.runs(models["activation"])
    there = np.isfinite(rows[["test_acc", WEIGHT_MAX_ABS]].to_numpy()).all(axis=1)
    known = models["status"].isin(["ok", "partial"]) & runs & there
    fine = models.loc[known, "model_id"].tolist()
    chosen = [fine[i] for i in np.unique(np.linspace(0, len(fine) - 1, CHECKED).round().astype(int))] if fine else []
    if not chosen:
        return np.zeros(0)
    return np.abs(measured_accuracy(config, zoo, chosen, data) - last[chosen].to_numpy())


def measured_accuracy(config: Config, zoo: Zoo, models: Sequence[int], data: ImageData) -> np.ndarray:
    """Test accuracy of some models of a zoo after their last epoch: [n] fractions."""
    arch = zoo.architecture
    weights = zoo.weights(models=models, epochs=[zoo.epochs[-1]])[:, 0]
    if arch.variational:
        weights = arch.masked(torch.tensor(weights)).numpy()
    buffers = zoo.buffers(models=models, epochs=[zoo.epochs[-1]])[:, 0] if arch.n_buffers else None
    rows = zoo.models.set_index("model_id", drop=False).loc[list(models)]
    classes = predictions(arch.plain(), weights, rows, data.test, data, config.engine, config.trainer.device, buffers)
    return (classes == data.test.labels.cpu().numpy()).mean(axis=1)
