"""Centred kernel alignment of what networks compute inside (Kornblith, Norouzi, Lee and Hinton, 2019).

Model Zoos (Schürholt et al., 2022, section 4.2, Table 2) compares "intermediate and last-layer outputs" on 50 images, and
says neither the kernel nor which layers. Here: the linear kernel, centred over the images (the biased estimator of HSIC),
for the output of each activation and for the logits, and the mean over these layers.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.measures.pairs import BLOCK, all_pairs
from zoo.base.console import Progress
from zoo.networks.architecture import Architecture
from zoo.networks.layers import Activation, Layer

AT_ONCE = 50  # models whose activations are in memory at once
DEAD = 1e-6  # a layer whose outputs vary by less than this share of their size over the images is dead


def grams(arch: Architecture, weights: Tensor, rows: pd.DataFrame, images: Tensor) -> np.ndarray:
    """What each layer of each model sees in the images: centred Gram matrices, each of norm 1.

    Args:
        arch: a list of layers.
        weights: float32 [n, P], finite.
        rows: one row a model; its activation counts.
        images: float32 [m, C, H, W], normalised.

    Returns:
        float32 [layers, n, m²]: each activation's output, then the logits. All 0 where a layer gives the same for all
        images (a dead network): it is like no other, and not like itself.
    """
    n, m = len(weights), len(images)
    found = np.zeros((_layers(arch), n, m * m), np.float32)
    with Progress(f"layers of models on {m} images", n, "models") as progress:
        for activation, places in rows.reset_index(drop=True).groupby("activation", sort=False).groups.items():
            for first in range(0, len(places), AT_ONCE):
                some = places[first : first + AT_ONCE].tolist()
                for layer, outputs in enumerate(layer_outputs(arch, weights[some], images, str(activation))):
                    found[layer, some] = _gram(outputs)
                progress.advance(len(some))
    return found


def layer_outputs(arch: Architecture, weights: Tensor, images: Tensor, activation: str) -> list[Tensor]:
    """The outputs of each activation, then the logits, of many models on the same images: float32 [n, m, features] each."""
    outputs: list[Tensor] = []

    def seen(layer: Layer, given: Tensor) -> None:
        if isinstance(layer, Activation):
            outputs.append(given.flatten(2))

    with torch.no_grad():
        logits = arch.forward(weights, images.expand(len(weights), *images.shape), activation, seen=seen)
    return [*outputs, logits]


def pairwise_cka(kernels: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Linear CKA of all unordered pairs of different models, layer by layer.

    Args:
        kernels: as `grams` gives them.
        block: models that are compared with all others at once.

    Returns:
        float32 [layers, n (n - 1) / 2] in [0, 1], in the order of `numpy.triu_indices(n, 1)`.
    """

    def of_layer(gram: np.ndarray) -> np.ndarray:
        return all_pairs(len(gram), lambda i, j: (gram[i] @ gram[j].T).clip(0, 1), block)

    return np.stack([of_layer(gram) for gram in kernels])


def _layers(arch: Architecture) -> int:
    return sum(isinstance(layer, Activation) for layer in arch.flat_layers) + 1


def _gram(outputs: Tensor) -> np.ndarray:
    """Centred Gram matrices of outputs [n, m, features], of norm 1 or all 0: float32 [n, m²]."""
    values = outputs.to(torch.float64)
    centred = values - values.mean(1, keepdim=True)
    dead = centred.flatten(1).norm(dim=1) <= DEAD * values.flatten(1).norm(dim=1)
    gram = (centred @ centred.transpose(1, 2)).flatten(1)
    gram = gram / gram.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    gram[dead] = 0
    return gram.to(torch.float32).numpy()
