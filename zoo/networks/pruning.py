"""Magnitude pruning: the smallest weights of a model are 0 and stay so (Han, Pool, Tran and Dally, 2015).

At once, or a little before each epoch: after e of n epochs the share s (1 - (1 - e/n)³) (Zhu and Gupta, 2017).
"""

from __future__ import annotations

import numpy as np

from zoo.networks.architecture import Architecture
from zoo.networks.layout import Slot


def prunable(arch: Architecture) -> list[Slot]:
    """The tensors whose values may be pruned: weights of convolutions and linear layers, no biases, no BatchNorm."""
    return [slot for slot in arch.layout if slot.name.endswith("weight") and len(slot.shape) > 1]


def places(arch: Architecture) -> np.ndarray:
    """Where the values of `prunable` lie in the weight vector: int64, ascending."""
    return np.concatenate([np.arange(slot.offset, slot.offset + slot.size) for slot in prunable(arch)])


def prune(weights: np.ndarray, arch: Architecture, share: float) -> np.ndarray:
    """A copy of weights [models, P] with the `share` of each model's prunable weights that are smallest in size set to 0.

    The number is rounded down; layers are not told apart. Models that are not finite stay as they are.
    """
    at = places(arch)
    pruned, sizes = weights.copy(), np.abs(weights[:, at])
    n = int(share * len(at) + 1e-9)
    smallest = np.argsort(sizes, axis=1, kind="stable")[:, :n]
    finite = np.isfinite(weights).all(axis=1)
    rows = np.arange(len(weights))[finite, None]
    pruned[rows, at[smallest[finite]]] = 0
    return pruned


def zero_shares(weights: np.ndarray, arch: Architecture) -> dict[str, np.ndarray]:
    """The share of prunable weights that are 0, of all and of each layer: float64 [models] each.

    Keys: "sparsity", then "sparsity_<layer>", e.g. "sparsity_conv1".
    """
    counts = {
        slot.name.removesuffix(".weight"): (weights[:, slot.offset : slot.offset + slot.size] == 0).sum(1)
        for slot in prunable(arch)
    }
    sizes = {slot.name.removesuffix(".weight"): slot.size for slot in prunable(arch)}
    every = sum(counts.values()) / sum(sizes.values())
    return {"sparsity": np.asarray(every)} | {f"sparsity_{layer}": n / sizes[layer] for layer, n in counts.items()}


def schedule(share: float, epochs: int) -> tuple[float, ...]:
    """The share that is pruned before epoch 1, 2, … `epochs`; the last holds from then on. One epoch: all at once."""
    return tuple(share * (1 - (1 - (e + 1) / epochs) ** 3) for e in range(epochs))
