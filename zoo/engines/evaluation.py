"""A matrix of weights as networks: what they do on images, by the same engines that train zoos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoo.base.console import Progress
from zoo.base.errors import UserError
from zoo.engines.choice import EngineConfig
from zoo.engines.engine import Protocol, Scores, untrained
from zoo.engines.make import make_engine
from zoo.images.data import ImageData, Images
from zoo.networks.architecture import Architecture

AT_ONCE = 200  # networks whose outputs are in memory at once


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
        self.engine = make_engine(config, arch, models, data, Protocol(10, 1, "constant"), device)
        self.engine.load(untrained(values, buffers))

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
