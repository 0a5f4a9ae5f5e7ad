"""downstream=weight_distribution: the weights of originals, reconstructions and samples, layer by layer.

Hyper-Representations as Generative Models (Schürholt et al., 2022), Figure 2: without layer-wise loss normalisation the
reconstructions of layers with small weights shrink to their mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hyperrep.config import Config
from hyperrep.downstream.decoded import ensure_representation
from hyperrep.downstream.stages import ensure_population, given, tidy


def compare(config: Config) -> pd.DataFrame:
    """Densities of weights by layer: the metric is the layer, x the middle of a bin, the value the density there.

    The methods are "originals" (test models at the last epoch learnt) and, for each method, itself (its population) and
    "<method> reconstructions". Bins are equal over the originals' range, and a layer's first and last take what is beyond.

    Args:
        config: with `downstream.bins`.
    """
    parts: list[pd.DataFrame] = []
    last = max(config.autoencoder.states)
    for method, words in config.downstream.populations.items():
        known = ensure_representation(config, words)
        originals = known.states["test"].at(last).weights
        if not parts:
            parts += _densities(
                "originals", known, originals.numpy(), originals.numpy(), given(config.downstream.bins), last
            )
        decoded = known.decode(known.encode(originals)).numpy()
        parts += _densities(
            f"{method} reconstructions", known, decoded, originals.numpy(), given(config.downstream.bins), last
        )
        drawn = ensure_population(config, words).weights(epochs=[0])[:, 0]
        parts += _densities(method, known, drawn, originals.numpy(), given(config.downstream.bins), 0)
    return pd.concat(parts, ignore_index=True)


def _densities(
    method: str, known: Any, weights: np.ndarray, originals: np.ndarray, bins: int, epoch: int
) -> list[pd.DataFrame]:
    found = []
    for slot in known.arch.layout:
        if not slot.name.endswith("weight"):
            continue
        of = slice(slot.offset, slot.offset + slot.size)
        edges = np.linspace(originals[:, of].min(), originals[:, of].max(), bins + 1)
        density, _ = np.histogram(weights[:, of].clip(edges[0], edges[-1]), edges, density=True)
        layer = slot.name.removesuffix(".weight")
        found.append(tidy(method, known.images.name, layer, epoch=epoch, x=(edges[1:] + edges[:-1]) / 2, value=density))
    return found
