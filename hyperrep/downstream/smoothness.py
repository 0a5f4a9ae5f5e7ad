"""downstream=smoothness: what lies between two embeddings.

Hyper-Representations as Generative Models (Schürholt et al., 2022), Figure 3 b and d: straight lines between the embeddings
of one model at epochs 5 and 25 ("along") and of two models ("across"), decoded.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hyperrep.config import Config
from hyperrep.downstream.decoded import Representation, ensure_representation
from hyperrep.downstream.stages import given, tidy


def compare(config: Config) -> pd.DataFrame:
    """Accuracy along the lines, between test models; x is the place, 0 … 1; `model` counts the lines.

    The metrics are "along" and "across" for decoded embeddings, and for the method "weights" the same between the
    (aligned) weights themselves.

    Args:
        config: with `downstream.points` on a line, `downstream.pairs` of models and `downstream.from_epoch`, where lines
            along begin; each method's words make an autoencoder.
    """
    parts: list[pd.DataFrame] = []
    early_epoch, last = given(config.downstream.from_epoch), max(config.autoencoder.states)
    for i_method, (method, words) in enumerate(config.downstream.populations.items()):
        known = ensure_representation(config, words, [early_epoch, last])
        first, final = (known.states["test"].at(epoch) for epoch in (early_epoch, last))
        both = sorted(set(first.table["model_id"]) & set(final.table["model_id"]))
        early, late = (_of(states.weights, states.table["model_id"], both) for states in (first, final))
        rows = final.table.set_index("model_id").loc[both].reset_index()
        i, j = _pairs(rows["activation"].to_numpy(), given(config.downstream.pairs), config.seed)
        lines = {"along": (early, late, rows), "across": (late[i], late[j], rows.iloc[i].reset_index(drop=True))}
        for metric, (start, end, of) in lines.items():
            if i_method == 0:  # weights are the same whatever the autoencoder
                parts += _line("weights", metric, known, start, end, of, False, given(config.downstream.points), last)
            parts += _line(method, metric, known, start, end, of, True, given(config.downstream.points), last)
    return pd.concat(parts, ignore_index=True)


def _of(weights: Tensor, ids: pd.Series, wanted: list[int]) -> Tensor:
    place = {model: row for row, model in enumerate(ids)}
    return weights[torch.tensor([place[model] for model in wanted])]


def _pairs(activations: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` random pairs of different models of one activation, which what lies between has too; all if there are fewer."""
    i, j = np.triu_indices(len(activations), 1)
    alike = activations[i] == activations[j]
    i, j = i[alike], j[alike]
    chosen = np.random.default_rng(seed).permutation(len(i))[:count]
    return i[chosen], j[chosen]


def _line(
    method: str,
    metric: str,
    known: Representation,
    start: Tensor,
    end: Tensor,
    rows: pd.DataFrame,
    latent: bool,
    points: int,
    epoch: int,
) -> list[pd.DataFrame]:
    if latent:
        start, end = known.encode(start), known.encode(end)
    found = []
    for x in np.linspace(0, 1, points):
        between = torch.lerp(start, end, float(x))
        accuracy = known.accuracy(known.decode(between) if latent else between, rows)
        found.append(
            tidy(method, known.images.name, metric, epoch=epoch, model=range(len(rows)), x=float(x), value=accuracy)
        )
    return found
