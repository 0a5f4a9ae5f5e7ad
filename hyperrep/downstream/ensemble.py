"""downstream=ensemble: what sampled networks are worth together, without fine-tuning.

Hyper-Representations as Generative Models (Schürholt et al., 2022), Figure 5: ensembles of 1 … 15 randomly chosen members,
15 of each size. How members are combined is not stated; the authors' later code averages logits.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hyperrep.config import Config
from hyperrep.downstream.stages import ensure_population, ensure_zoo, given, tidy
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.engines.evaluation import outputs_by_part
from zoo.images.data import ImageData
from zoo.training.opening import zoo_images


def compare(config: Config) -> pd.DataFrame:
    """Test accuracy of ensembles: x is the size, `model` counts the ensembles of a size.

    Beside the populations stand B_T, models trained from scratch (the zoo's test split) at the last epoch learnt; of those
    that are not finite there, none is a member.

    Args:
        config: with `downstream.sizes`, `downstream.repeats` and `downstream.combine`: logits, probabilities or vote.

    Raises:
        UserError: if there are fewer networks than the smallest size.
    """
    zoo, chosen = ensure_zoo(config), config.downstream
    images, last = zoo_images(config, zoo), max(config.autoencoder.states)
    scratch = zoo.models[zoo.models["split"] == "test"]
    members = {"B_T": (zoo, scratch, last)}
    for method, words in chosen.populations.items():
        population = ensure_population(config, words)
        members[method] = (population, population.models, 0)
    parts = []
    for method, (source, rows, epoch) in members.items():
        parts += ensembles(
            method, _logits(source, rows, epoch, images, config), given(chosen.sizes), images, epoch, config
        )
    if not parts:
        raise UserError(
            f"downstream.sizes: got {chosen.sizes}, but no method has as many networks; see population.models"
        )
    return pd.concat(parts, ignore_index=True)


def ensembles(
    method: str, logits: Tensor, sizes: list[int], images: ImageData, epoch: int, config: Config
) -> list[pd.DataFrame]:
    """Accuracy of `downstream.repeats` random ensembles of each size that there are enough networks for.

    Args:
        method: their label.
        logits: float32 [networks, test images, classes].
        sizes: of ensembles.
        images: whose test images they are.
        epoch: of the networks.
        config: with `downstream.repeats`, `downstream.combine` and the seed.
    """
    random, parts = np.random.default_rng(config.seed), []
    for size in sizes:
        if size <= len(logits):
            teams = [random.choice(len(logits), size, replace=False) for _ in range(given(config.downstream.repeats))]
            accuracy = [
                _accuracy(logits[torch.from_numpy(team)], images, given(config.downstream.combine)) for team in teams
            ]
            place = {"epoch": epoch, "model": range(len(teams)), "x": float(size)}
            parts.append(tidy(method, images.name, "test_acc", value=accuracy, **place))
    return parts


def _logits(source: Zoo, rows: pd.DataFrame, epoch: int, images: ImageData, config: Config) -> Tensor:
    """What networks say of each test image: float32 [finite networks, images, classes]."""
    arch = source.architecture
    weights = source.weights(models=rows["model_id"], epochs=[epoch])[:, 0]
    finite = np.isfinite(weights).all(axis=1)
    weights, rows = weights[finite], rows[finite]
    if not len(rows):
        return torch.zeros(0, len(images.test), images.classes)
    return torch.cat(list(outputs_by_part(arch, weights, rows, images.test, images, config.engine)))


def _accuracy(logits: Tensor, images: ImageData, combine: str) -> float:
    """Test accuracy of all networks of `logits` together."""
    if combine == "probabilities":
        logits = logits.softmax(2)
    if combine == "vote":
        logits = torch.nn.functional.one_hot(logits.argmax(2), images.classes).float()
    return float((logits.sum(0).argmax(1) == images.test.labels).float().mean())
