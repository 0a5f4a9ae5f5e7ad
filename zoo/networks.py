"""A matrix of weights as networks: what they do on images, by the same engines that train zoos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoo import engines
from zoo.architecture import Architecture
from zoo.console import Progress
from zoo.engines import EngineConfig, Protocol, Scores
from zoo.errors import UserError
from zoo.images import ImageData, Images
from zoo.schema import WEIGHT_MAX_ABS
from zoo.store import Zoo

AT_ONCE = 200  # networks whose outputs are in memory at once
CHECKED = 10  # models whose accuracy is measured again
MOST_APART = 0.005  # in accuracy: rounding may turn a few images


class Networks:
    """Networks given by their weights, ready to be evaluated; use as a context manager.

    Args:
        arch: their architecture.
        weights: float32 [n, P].
        rows: one row a network; its activation counts.
        data: whose normalisation the images get.
        config: which engine.
        device: where.
        buffers: float32 [n, B], of an architecture that has buffers.

    Raises:
        UserError: if the activation of one of them, imported as it was, is none that there is here, or the architecture has
            buffers and none are given.
    """

    def __init__(
        self,
        arch: Architecture,
        weights: Tensor | np.ndarray,
        rows: pd.DataFrame,
        data: ImageData,
        config: EngineConfig,
        device: torch.device | str = "cpu",
        buffers: np.ndarray | None = None,
    ) -> None:
        if not (known := arch.runs(rows["activation"])).all():
            raise UserError(
                f"{(~known).sum()} of {len(rows)} networks have an activation that is not known here "
                f"({', '.join(map(str, rows['activation'][~known].unique()))}): leave them out"
            )
        if arch.n_buffers and buffers is None:
            raise UserError(
                f"arch={arch.name}: its networks cannot be run by their weights alone, which are all that is there: they have "
                f"{arch.n_buffers} running statistics of batch norm, too"
            )
        values = np.ascontiguousarray(torch.as_tensor(weights).detach().cpu().numpy(), np.float32)
        alike = {"optimizer": "sgd", "lr": 0.0, "weight_decay": 0.0, "dropout": 0.0, "seed": 0}  # nothing is trained
        models = pd.DataFrame({"activation": rows["activation"].to_numpy(), **alike})
        self.engine = engines.make(config, arch, models, data, Protocol(10, 1, "constant"), device)
        self.engine.load(engines.untrained(values, buffers))

    def __enter__(self) -> Networks:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def scores(self, images: Images) -> Scores:
        """Loss and accuracy of each."""
        return self.engine.evaluate(images)

    def outputs(self, images: Images) -> Tensor:
        """Logits: float32 [n, images, classes]."""
        return self.engine.outputs(images.to(self.engine.device))


def outputs_by_part(
    arch: Architecture,
    weights: Tensor | np.ndarray,
    rows: pd.DataFrame,
    images: Images,
    data: ImageData,
    config: EngineConfig,
    device: torch.device | str = "cpu",
    buffers: np.ndarray | None = None,
) -> Iterator[Tensor]:
    """Logits of many networks, `AT_ONCE` at a time: float32 [part of n, images, classes]. Arguments as of `Networks`."""
    with Progress(f"running networks on {len(images)} images", len(weights), "networks") as progress:
        for first in range(0, len(weights), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            some = None if buffers is None else buffers[part]
            with Networks(arch, weights[part], rows.iloc[part], data, config, device, some) as networks:
                yield networks.outputs(images)
            progress.advance(len(weights[part]))


def predictions(
    arch: Architecture,
    weights: Tensor | np.ndarray,
    rows: pd.DataFrame,
    images: Images,
    data: ImageData,
    config: EngineConfig,
    device: torch.device | str = "cpu",
    buffers: np.ndarray | None = None,
) -> np.ndarray:
    """Predicted classes of many networks, some at a time: int16 [n, images]. Arguments as of `Networks`."""
    parts = outputs_by_part(arch, weights, rows, images, data, config, device, buffers)
    return np.concatenate([logits.argmax(2).to(torch.int16).cpu().numpy() for logits in parts])


def accuracies_apart(config: Any, zoo: Zoo, data: ImageData) -> np.ndarray:
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


def measured_accuracy(config: Any, zoo: Zoo, models: Sequence[int], data: ImageData) -> np.ndarray:
    """Test accuracy of some models of a zoo after their last epoch: [n] fractions."""
    arch = zoo.architecture
    weights = zoo.weights(models=models, epochs=[zoo.epochs[-1]])[:, 0]
    if arch.variational:
        weights = arch.masked(torch.tensor(weights)).numpy()
    buffers = zoo.buffers(models=models, epochs=[zoo.epochs[-1]])[:, 0] if arch.n_buffers else None
    rows = zoo.models.set_index("model_id", drop=False).loc[list(models)]
    classes = predictions(arch.plain(), weights, rows, data.test, data, config.engine, config.trainer.device, buffers)
    return (classes == data.test.labels.cpu().numpy()).mean(axis=1)
