"""downstream=robustness: how much noise an embedding bears.

Hyper-Representations as Generative Models (Schürholt et al., 2022), Figure 3 a and c: noise on the embeddings of test
models, decoded. The paper does not say what its noise is relative to; here, to the standard deviation of each dimension.
"""

from __future__ import annotations

import pandas as pd

from hyperrep.config import Config
from hyperrep.downstream.decoded import ensure_representation, noisy
from hyperrep.downstream.stages import given, tidy
from hyperrep.models.losses import r_squared


def compare(config: Config) -> pd.DataFrame:
    """Accuracy and R² of noisy reconstructions of the zoo's test models, at the last epoch learnt.

    x is the level of the noise. The method "originals" has the accuracy of the models themselves.

    Args:
        config: with `downstream.levels` of noise; each method's words make an autoencoder.
    """
    parts: list[pd.DataFrame] = []
    for method, words in config.downstream.populations.items():
        known = ensure_representation(config, words)
        dataset, last = known.images.name, max(config.autoencoder.states)
        test, mean = known.states["test"].at(last), known.states["train"].weights.mean(0)
        ids = test.table["model_id"].to_numpy()
        if not parts:
            parts.append(tidy("originals", dataset, "test_acc", epoch=last, model=ids, value=test.table["test_acc"]))
        embeddings = known.encode(test.weights)
        for level in given(config.downstream.levels):
            decoded = known.decode(noisy(embeddings, level, config.seed))
            place = {"epoch": last, "model": ids, "x": level}
            parts.append(tidy(method, dataset, "test_acc", value=known.accuracy(decoded, test.table), **place))
            r2 = [float(r_squared(d, w, mean)) for d, w in zip(decoded, test.weights, strict=True)]
            parts.append(tidy(method, dataset, "r2", value=r2, **place))
    return pd.concat(parts, ignore_index=True)
