"""States of a block: before training, and the metrics that are stored with each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from zoo.config.sections import Config
from zoo.engines.engine import Population, Protocol, Scores, initial_population
from zoo.networks.architecture import Architecture
from zoo.networks.pruning import schedule, zero_shares
from zoo.store.stored import CLASS_ACCURACY
from zoo.training.start import Start


def before_training(arch: Architecture, rows: pd.DataFrame, start: Start | None) -> Population:
    """The models of some rows as they are at epoch 0."""
    return initial_population(arch, rows) if start is None else start.population(rows)


def epoch_metrics(train: Scores, val: Scores, test: Scores) -> dict[str, np.ndarray]:
    """The metrics that every epoch of every zoo has: losses, accuracies, and test accuracy by class; [models] each."""
    metrics: dict[str, np.ndarray] = {}
    for split, scores in (("train", train), ("val", val), ("test", test)):
        metrics |= {f"{split}_loss": scores.loss, f"{split}_acc": scores.accuracy}
    return metrics | {f"{CLASS_ACCURACY}{c}": column for c, column in enumerate(test.class_accuracy.T)}


def sparsity(weights: np.ndarray, arch: Architecture, protocol: Protocol) -> dict[str, np.ndarray]:
    """The metrics of a zoo whose weights are dropped or pruned: their share, of all and of each layer; else none.

    NaN for a model that is not finite.
    """
    found: dict[str, np.ndarray] = {}
    if arch.variational:
        found = {name: share.numpy() for name, share in arch.sparsity(torch.tensor(weights)).items()}
    elif protocol.pruned:
        found = zero_shares(weights, arch)
    finite = np.isfinite(weights).all(axis=1)
    return {name: np.where(finite, share, np.nan) for name, share in found.items()}


def training_protocol(config: Config) -> Protocol:
    """How every model is trained."""
    zoo = config.zoo
    pruned = schedule(zoo.pruned.share, zoo.pruned.epochs) if zoo.pruned.share else ()
    return Protocol(zoo.batch_size, zoo.epochs, zoo.schedule, zoo.divergence_rate, pruned)
