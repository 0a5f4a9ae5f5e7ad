"""downstream=reconstruction: do originals and their reconstructions learn alike?

Hyper-Representations as Generative Models (Schürholt et al., 2022), Figure 6: models at epoch 25 and their reconstructions,
both fine-tuned; accuracy, and how far they are apart.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from hyperrep.config import Config
from hyperrep.downstream.decoded import Representation, ensure_representation
from hyperrep.downstream.stages import ensure_fine_tuned, given, tidy, trajectories
from hyperrep.sampling import described, store_population, stored_population
from zoo import Zoo


def compare(config: Config) -> pd.DataFrame:
    """Accuracy of both at every epoch, and between them the metrics "l2" and "cosine".

    They are paired: of the same seed, they see the same images in the same order. Originals are aligned first, which does
    not change what they do; l2 is relative to the norm of the original, the cosine is that of the angle between both.

    Args:
        config: with `downstream.epochs` of fine-tuning; each method's words make an autoencoder.
    """
    parts: list[pd.DataFrame] = []
    for method, words in config.downstream.populations.items():
        known = ensure_representation(config, words)
        test = known.states["test"].at(max(config.autoencoder.states))
        decoded = known.decode(known.encode(test.weights))
        pair = [_stored(known, test.weights, "originals"), _stored(known, decoded, "reconstructions")]
        originals, reconstructions = (
            ensure_fine_tuned(config, zoo, given(config.downstream.epochs), *words) for zoo in pair
        )
        if not parts:
            parts.append(trajectories("originals", originals))
        parts.append(trajectories(method, reconstructions))
        w, v = originals.weights(), reconstructions.weights()  # [models, epochs, P]
        norms = np.linalg.norm(w, axis=2), np.linalg.norm(v, axis=2)
        distances = {"l2": np.linalg.norm(w - v, axis=2) / norms[0], "cosine": (w * v).sum(2) / (norms[0] * norms[1])}
        models, epochs = np.indices(norms[0].shape)
        for metric, values in distances.items():
            place = {"epoch": epochs.ravel(), "model": models.ravel()}
            parts.append(tidy(method, known.images.name, metric, value=values.ravel(), **place))
    return pd.concat(parts, ignore_index=True)


def _stored(known: Representation, weights: Tensor, what: str) -> Zoo:
    """Weights [n, P] of the test models at the last epoch learnt, as a population that can be fine-tuned."""
    zoo, config = known.zoo, known.config
    last = max(config.autoencoder.states)
    ids = known.states["test"].at(last).table["model_id"].to_numpy()
    rows = zoo.models.iloc[ids].drop(columns=["status", "diverged_epoch", "start_model"], errors="ignore")
    rows = rows.assign(start_model=ids, model_id=range(len(ids))).reset_index(drop=True)
    words = "in the order of neurons" if what == "originals" else "as reconstructed"
    name = f"{zoo.name}_{config.autoencoder.name}_{what}"
    spec = {
        "kind": what,
        "zoo": {"name": zoo.name, "identity": zoo.identity},
        "epoch": last,
        "align": config.autoencoder.align,
    }
    if what == "reconstructions":
        spec["autoencoder_file"] = known.autoencoder_file
    about = f"Test models of zoo {zoo.name} at epoch {last}, {words} of autoencoder {config.autoencoder.name}."
    description = described(config, zoo, name, about, spec)
    return stored_population(config, description) or store_population(
        config, description, known.arch, weights, rows, known.images
    )
