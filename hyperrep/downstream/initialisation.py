"""downstream=init: sampled networks as initialisations, on the images of the zoo they were learnt from.

Hyper-Representations as Generative Models (Schürholt et al., 2022), section 4.2, Table 1 and Figure 4: populations at
epoch 0 and while they are fine-tuned, beside models trained from scratch (B_T: the zoo's own test split, of which
neither autoencoder nor sampler has seen anything).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from hyperrep.downstream.stages import fine_tuned, grown, sampled, trajectories


def compare(config: Any) -> pd.DataFrame:
    """Accuracy on the test images of every network at every epoch.

    Args:
        config: with `downstream.epochs` of fine-tuning, 25 as published.
    """
    parts = [trajectories("B_T", grown(config), split="test")]
    for method, words in config.downstream.methods.items():
        parts.append(trajectories(method, fine_tuned(config, sampled(config, words), config.downstream.epochs)))
    return pd.concat(parts, ignore_index=True)
