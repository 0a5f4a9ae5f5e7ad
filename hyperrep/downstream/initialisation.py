"""downstream=init: sampled networks as initialisations, on the images of the zoo they were learnt from.

Hyper-Representations as Generative Models (Schürholt et al., 2022), section 4.2, Table 1 and Figure 4: populations at
epoch 0 and while they are fine-tuned, beside models trained from scratch (B_T: the zoo's own test split, of which
neither autoencoder nor sampler has seen anything).
"""

from __future__ import annotations

import pandas as pd

from hyperrep.config import Config
from hyperrep.downstream.stages import ensure_fine_tuned, ensure_population, ensure_zoo, given, trajectories


def compare(config: Config) -> pd.DataFrame:
    """Accuracy on the test images of every network at every epoch.

    Args:
        config: with `downstream.epochs` of fine-tuning, 25 as published.
    """
    parts = [trajectories("B_T", ensure_zoo(config), split="test")]
    for method, words in config.downstream.populations.items():
        parts.append(
            trajectories(
                method,
                ensure_fine_tuned(config, ensure_population(config, words), given(config.downstream.epochs)),
            )
        )
    return pd.concat(parts, ignore_index=True)
