"""Alignment: bring the neurons of all models into one order, so that their weights can be compared and averaged.

A model can be permuted without changing its function (see `symmetry`). Each is given the order in which it resembles the
mean of all others most, as in Git Re-Basin (Ainsworth, Hayase and Srinivasa, 2023), where two models are matched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hyperrep.symmetry import Permutations
from zoo.base.console import tracked
from zoo.base.errors import UserError
from zoo.networks.architecture import Architecture
from zoo.networks.layers import Conv, Layer, Linear
from zoo.store.manifest import read_listed, write_listed

MODES = ("none", "weights", "activations")
CHUNK = 16  # models that are run on the images at the same time
SAMPLES = 2048  # activations kept of a neuron: 8 KB in memory, and a standard error of 0.02 of a correlation


def align(
    weights: Tensor | np.ndarray,
    arch: Architecture,
    mode: str,
    *,
    mean_over: Sequence[int] | None = None,
    images: Tensor | None = None,
    activations: str | Sequence[str] | None = None,
    rounds: int = 20,
) -> tuple[Tensor, Tensor]:
    """Align a population to its running mean.

    All models are matched to one of them, then, round after round, to the mean of the models as they were matched before,
    until no neuron moves or the rounds are over. With mode="weights" the sum of squared distances to the mean does not grow
    from one round to the next.

    Args:
        weights: float [n, P]; all values finite.
        arch: an architecture that is a list of layers.
        mode: "none" changes nothing. "weights" maximises the inner product with the mean's weights, which is to minimise
            the Euclidean distance. "activations" maximises the correlations of the neurons' activations with the mean's.
        mean_over: indices of the models that the mean is taken over, the first of which is the one to begin with; all if
            None. Give those of the train split, and nothing of the other models enters the alignment.
        images: float [m, C, H, W], normalised, on the device of the weights; for mode="activations".
        activations: the name of the activation of all models, or one a model; for mode="activations".
        rounds: how often all are matched, at most.

    Returns:
        (the permuted weights [n, P], the permutations int64 [n, neurons of all groups] that make them), on the device of
        the weights. `Permutations.split` turns the second into `perms` for other weights of the same models.

    Raises:
        UserError: if weights are not finite, or the architecture is a module class.
        ValueError: if the mode is unknown or what it needs is not given.
    """
    weights = torch.as_tensor(weights)
    permutations = Permutations(arch)
    perms = permutations.identity(len(weights), weights.device)
    if mode == "none" or not perms:
        return weights, _table(perms, weights)
    _refuse_nonfinite(weights)
    matching: _Matching
    if mode == "weights":
        matching = _WeightMatching(arch, permutations, weights)
    elif mode == "activations" and images is not None and activations is not None:
        names = [activations] * len(weights) if isinstance(activations, str) else list(activations)
        matching = _ActivationMatching(arch, weights, images, names)
    else:
        raise ValueError(f"mode is {mode!r}, but may be {', '.join(MODES)}; activations needs images and activations")

    members = torch.arange(len(weights)) if mean_over is None else torch.as_tensor(mean_over)
    mean = matching.mean(perms, members[:1])
    for _ in tracked(range(rounds), f"aligning {len(weights)} models", "rounds, at most"):
        before, perms = perms, matching.match(perms, mean)
        if all(torch.equal(a, b) for a, b in zip(before, perms)):
            break
        mean = matching.mean(perms, members)
    return permutations.apply(weights, perms), _table(perms, weights)


class _Matching(Protocol):
    """What the models of a population have in common, and how each comes closer to it."""

    def mean(self, perms: list[Tensor], members: Tensor) -> list[Tensor]:
        """The mean of the models `members`, int64 [m], permuted by `perms`; what it consists of is the mode's own."""

    def match(self, perms: list[Tensor], mean: list[Tensor]) -> list[Tensor]:
        """Better `perms`: those that bring each model closest to such a mean."""


# --------------------------------------------------------------------------------------------- by weights


class _WeightMatching:
    """Coordinate descent over the groups (Git Re-Basin, algorithm 1), all models side by side, in float64."""

    def __init__(self, arch: Architecture, permutations: Permutations, weights: Tensor) -> None:
        self.arch, self.permutations, self.weights = arch, permutations, weights

    def mean(self, perms: list[Tensor], members: Tensor) -> list[Tensor]:
        """One tensor a slot, [1, *shape]."""
        return self.arch.split(self._permuted(perms, members).mean(0, keepdim=True))

    def match(self, perms: list[Tensor], mean: list[Tensor]) -> list[Tensor]:
        perms = [perm.clone() for perm in perms]
        moving = torch.arange(len(self.weights), device=self.weights.device)
        while len(moving):
            moved = torch.zeros(len(moving), dtype=torch.bool, device=moving.device)
            for group, perm in enumerate(perms):
                slots = self.arch.split(self._permuted(perms, moving))
                move = _best_assignment(self._similarity(slots, mean, group))
                perm[moving] = perm[moving].gather(1, move)
                moved |= (move != torch.arange(perm.shape[1], device=moving.device)).any(1)
            moving = moving[moved]
        return perms

    def _permuted(self, perms: list[Tensor], rows: Tensor) -> Tensor:
        return self.permutations.apply(self.weights[rows].double(), [perm[rows] for perm in perms])

    def _similarity(self, slots: list[Tensor], mean: list[Tensor], group: int) -> Tensor:
        """Inner products of all that belongs to the mean's neuron i with all of the model's neuron j: [n, size, size]."""
        weight, bias, following = 2 * group, 2 * group + 1, 2 * group + 2
        size = slots[bias].shape[1]
        incoming = slots[weight].flatten(2) @ mean[weight].flatten(2).transpose(1, 2)
        biases = slots[bias][:, :, None] * mean[bias][:, None, :]
        outgoing = _by_input(slots[following], size) @ _by_input(mean[following], size).transpose(1, 2)
        return (incoming + biases + outgoing).transpose(1, 2)


def _by_input(weight: Tensor, size: int) -> Tensor:
    """A layer's weight [n, out, ...] as what it takes from each of `size` neurons before it: [n, size, values]."""
    return weight.flatten(2).unflatten(2, (size, -1)).transpose(1, 2).flatten(2)


# --------------------------------------------------------------------------------------------- by activations


class _ActivationMatching:
    """Each group by itself: the assignment of the highest sum of correlations, over images and places in the map."""

    def __init__(self, arch: Architecture, weights: Tensor, images: Tensor, names: Sequence[str]) -> None:
        rows_done, parts = [], []
        for name in sorted(set(names)):
            own = torch.tensor([row for row, other in enumerate(names) if other == name])
            for rows in own.split(CHUNK):
                rows_done.append(rows)
                parts.append([_standardised(group) for group in _activations(arch, weights[rows], images, name)])
        back = torch.cat(rows_done).argsort()
        self.activations = [torch.cat(groups)[back] for groups in zip(*parts)]  # one a group: [n, size, samples]

    def mean(self, perms: list[Tensor], members: Tensor) -> list[Tensor]:
        """One tensor a group: [size, samples]."""
        return [
            torch.take_along_dim(group[members], perm[members][:, :, None], dim=1).mean(0)
            for group, perm in zip(self.activations, perms)
        ]

    def match(self, perms: list[Tensor], mean: list[Tensor]) -> list[Tensor]:
        better = []
        for group, perm, wanted in zip(self.activations, perms, mean, strict=True):
            similarity = wanted @ group.transpose(1, 2) / wanted.shape[1]  # of place i with the neuron that was jth
            similarity = torch.take_along_dim(similarity, perm[:, None, :], dim=2)  # ... with the one that is jth now
            better.append(perm.gather(1, _best_assignment(similarity)))
        return better


def _standardised(activations: Tensor) -> Tensor:
    """A part of the samples of [n, size, samples], the same of every model, with mean 0 and variance 1 a neuron.

    A neuron that never changes becomes 0: it is like no other.
    """
    samples = activations.shape[2]
    chosen = torch.randperm(samples, generator=torch.Generator().manual_seed(0))[:SAMPLES]
    some = activations[:, :, chosen]
    centred = some - some.mean(2, keepdim=True)
    spread = centred.square().mean(2, keepdim=True).sqrt()
    return torch.where(spread > 1e-6, centred / spread, 0.0)


def _activations(arch: Architecture, weights: Tensor, images: Tensor, activation: str) -> list[Tensor]:
    """What the neurons of each group give to the next layer with weights, dropout off.

    Args:
        arch: a list of layers.
        weights: [n, P].
        images: [m, C, H, W].
        activation: one of ACTIVATIONS.

    Returns:
        One tensor a group: [n, size, m * places of the feature map].
    """
    given: list[Tensor] = []
    before, size = images, 0  # what the latest layer gave, and the neurons of the latest with weights

    def seen(layer: Layer, h: Tensor) -> None:
        nonlocal before, size
        if isinstance(layer, Conv | Linear):
            if size:
                given.append(before.reshape(len(weights), len(images), size, -1).transpose(1, 2).flatten(2))
            size = h.shape[2]
        before = h

    arch.forward(weights, images.expand(len(weights), *images.shape), activation, seen=seen)
    return given


# --------------------------------------------------------------------------------------------- assignment


def _best_assignment(similarity: Tensor) -> Tensor:
    """The permutation of the highest similarity: int64 [n, size]; old neuron perm[i] goes to place i.

    Neurons stay where they are unless others fit better by more than rounding: matching in turns must come to an end.

    Args:
        similarity: [n, size, size], of place i with neuron j.
    """
    values = similarity.cpu().numpy()
    places = np.arange(values.shape[1])
    perm = np.stack([linear_sum_assignment(one, maximize=True)[1] for one in values])
    gain = np.take_along_axis(values, perm[:, :, None], axis=2).sum((1, 2)) - values[:, places, places].sum(1)
    rounding = 100 * np.finfo(values.dtype).eps * np.abs(values).max((1, 2))
    perm = np.where((gain > rounding)[:, None], perm, places)
    return torch.from_numpy(perm).to(similarity.device)


def _table(perms: list[Tensor], weights: Tensor) -> Tensor:
    """`perms` side by side: int64 [n, neurons of all groups]."""
    empty = torch.empty(len(weights), 0, dtype=torch.int64, device=weights.device)
    return torch.cat([empty, *perms], dim=1)


def _refuse_nonfinite(weights: Tensor) -> None:
    broken = int((~weights.isfinite().all(1)).sum())
    if broken:
        raise UserError(
            f"{broken} of {len(weights)} models hold NaN or infinite weights and cannot be aligned: leave diverged ones "
            "out, for example with models=zoo.models.query(\"status == 'ok'\").model_id"
        )


# --------------------------------------------------------------------------------------------- on disk


def save_permutations(path: Path, table: Tensor, fingerprint: str, mode: str) -> None:
    """Keep the permutations of a zoo in a safetensors file, which appears under its name only when complete.

    Args:
        path: the file, in a folder that exists; one that is there is replaced.
        table: int64 [n, neurons of all groups], as `align` returns it.
        fingerprint: what identifies the models: another zoo, other models or another epoch have another one.
        mode: as in `align`.
    """
    data = to_safetensors({"permutations": table.cpu().contiguous()}, _about(fingerprint, mode))
    write_listed(path, data)  # two processes may keep the same alignment


def load_permutations(path: Path, fingerprint: str, mode: str) -> Tensor | None:
    """The permutations int64 [n, neurons of all groups] that `save_permutations` kept.

    None if there is no such file, it is damaged, or it belongs to other models or another mode: they are to be computed.
    """
    try:
        read_listed(path)
        with safe_open(path, framework="pt") as tensors:
            if tensors.metadata() != _about(fingerprint, mode):
                return None
            return tensors.get_tensor("permutations")
    except (OSError, ValueError, SafetensorError):
        return None


def _about(fingerprint: str, mode: str) -> dict[str, str]:
    # One key only: safetensors keeps them in a hash map, so that the same alignment would have other bytes when made again.
    return {"of": json.dumps({"fingerprint": fingerprint, "mode": mode})}
