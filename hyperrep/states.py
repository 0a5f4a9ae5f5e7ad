"""What the autoencoder learns from: the states of a zoo, by split, checked and brought into one order of neurons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hyperrep.alignment import align, load_permutations, save_permutations
from hyperrep.config import AutoencoderConfig
from hyperrep.symmetry import Permutations
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.base.names import FACTORS
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture

SPLITS = ("train", "val", "test")
MATCHING_IMAGES = 256  # for align=activations
PROPERTIES = ("train_acc", "val_acc", "test_acc", *FACTORS)


@dataclass(frozen=True)
class States:
    """States of one split of a zoo.

    Attributes:
        weights: float32 [states, P].
        table: one row a state: model_id, epoch, train_acc, val_acc, test_acc and the generating factors.
    """

    weights: Tensor
    table: pd.DataFrame

    def at(self, epoch: int, models: int | None = None) -> States:
        """The states of one epoch, of the first `models` models."""
        rows = self.table.index[self.table["epoch"] == epoch][:models]
        return States(self.weights[torch.tensor(rows.tolist())], self.table.loc[rows].reset_index(drop=True))


def read_states(
    zoo: Zoo, config: AutoencoderConfig, folder: Path, images: ImageData, epochs: list[int] | None = None
) -> dict[str, States]:
    """The states of each split, aligned as `autoencoder.align` says.

    Args:
        zoo: finished.
        config: which states.
        folder: where the alignment is kept, so that it is computed once.
        images: used by align=activations.
        epochs: whose states; None: those that the autoencoder learns, `autoencoder.states`.

    Raises:
        UserError: if an epoch is not stored, or no state of a split is finite and within `autoencoder.weight_threshold`.
    """
    epochs = sorted(config.states if epochs is None else epochs)
    missing = [epoch for epoch in sorted({*config.states, *epochs}) if epoch not in zoo.epochs]
    if missing:
        raise UserError(
            f"autoencoder.states: zoo {zoo.name!r} has no epoch {', '.join(map(str, missing))}; it has 0 to {zoo.epochs[-1]}"
        )
    arch = zoo.architecture
    aligned = None
    if config.align != "none":
        aligned = zoo_permutations(zoo, arch, config, folder, images)
    states = {}
    for split in SPLITS:
        data = zoo.dataset(split, epochs, PROPERTIES, weight_threshold=config.weight_threshold)
        trained = arch.runs(data.table["activation"])
        weights, rows = data.weights[trained], data.table[trained].reset_index(drop=True)
        if aligned is not None and len(rows):
            permutations = Permutations(arch)
            of_states = aligned[torch.tensor(rows["model_id"].tolist())]
            known = (of_states >= 0).all(1)
            weights = permutations.apply(weights[known], permutations.split(of_states[known]))
            rows = rows[known.numpy()].reset_index(drop=True)
        if not len(rows):
            raise _nothing_to_learn(zoo, split, epochs)
        states[split] = States(weights, rows)
    return states


def _nothing_to_learn(zoo: Zoo, split: str, epochs: list[int]) -> UserError:
    models = zoo.models
    if split not in set(models["split"]):
        there = ", ".join(f"{n} {name}" for name, n in models["split"].value_counts().items())
        return UserError(
            f"zoo {zoo.name!r} has no model in its {split} split (its {len(models)} models: {there}): an autoencoder needs "
            "models of each; a zoo that is trained here has them from zoo.models=20 on"
        )
    return UserError(
        f"zoo {zoo.name!r} has no finite state in its {split} split at epochs {epochs} whose weights are within "
        "autoencoder.weight_threshold"
    )


def zoo_permutations(
    zoo: Zoo, arch: Architecture, config: AutoencoderConfig, folder: Path, images: ImageData
) -> Tensor:
    """The permutation that aligns each model of a zoo (see `align`): int64 [models, neurons]; -1 for those that are diverged,
    beyond `autoencoder.weight_threshold`, or of an activation that is not known here.

    A model is matched at the last epoch that is learnt, and keeps that order at all: its neurons do not change places while
    it learns. The mean that models are matched to is that of the train split. Kept in `folder`, and computed again when the
    zoo or the threshold has changed.

    Raises:
        UserError: if no model of the train split can be matched.
    """
    mode, epoch, threshold = config.align, max(config.states), config.weight_threshold
    made_from = f"{zoo.content}, weights within {threshold}"
    file = folder / f"alignment-{mode}-epoch-{epoch:04d}.safetensors"
    kept = load_permutations(file, made_from, mode)
    if kept is not None and _are_permutations(kept, zoo.n_models, arch):
        return kept
    weights = torch.from_numpy(zoo.weights(epochs=[epoch])[:, 0])
    known = torch.from_numpy(arch.runs(zoo.models["activation"]))
    within = (weights.abs() <= (torch.finfo().max if threshold is None else threshold)).all(dim=1)  # no NaN is
    matched = (within & known).nonzero()[:, 0]
    models = zoo.models.iloc[matched.numpy()].reset_index(drop=True)
    if not (models["split"] == "train").any():
        raise _nothing_to_learn(zoo, "train", [epoch])
    _, of_matched = align(
        weights[matched],
        arch,
        mode,
        mean_over=models.index[models["split"] == "train"].tolist(),
        images=_pictures(images, mode),
        activations=models["activation"].tolist(),
    )
    table = torch.full((len(weights), of_matched.shape[1]), -1)
    table[matched] = of_matched
    folder.mkdir(parents=True, exist_ok=True)
    save_permutations(file, table, made_from, mode)
    return table


def _are_permutations(table: Tensor, models: int, arch: Architecture) -> bool:
    """Whether a table that was kept is what `zoo_permutations` gives."""
    permutations = Permutations(arch)
    fits = table.shape == (models, sum(group.size for group in permutations.groups)) and not table.is_floating_point()
    groups = permutations.split(table) if fits else []
    known = [group[(group >= 0).any(dim=1)].sort(dim=1).values for group in groups]
    return bool(groups) and all(bool((group == torch.arange(group.shape[1])).all()) for group in known)


def permutations_like(
    reference: States, weights: Tensor, rows: pd.DataFrame, arch: Architecture, mode: str, images: ImageData
) -> Tensor:
    """The permutations that bring models of another zoo into the order of neurons of an aligned one: int64 [n, neurons].

    Args:
        reference: aligned models, one state each; their mean is what others are matched to.
        weights: float32 [n, P], finite.
        rows: column activation, a row a model.
        arch: of all of them.
        mode: of `align`.
        images: of the reference's zoo; used by align=activations.
    """
    first = len(reference.weights)
    _, of_all = align(
        torch.cat([reference.weights, weights]),
        arch,
        mode,
        mean_over=range(first),
        images=_pictures(images, mode),
        activations=[*reference.table["activation"], *rows["activation"]],
    )
    return of_all[first:]


def _pictures(images: ImageData, mode: str) -> Tensor | None:
    """The images on which neurons are compared, for the modes that compare them there."""
    return images.normalise(images.train.pixels[:MATCHING_IMAGES].to("cpu")) if mode == "activations" else None


@torch.no_grad()
def in_batches(function: Any, values: Tensor, size: int = 500) -> Tensor:
    """`function` of a long batch, a part at a time."""
    return torch.cat([function(part) for part in values.split(size)])
