"""downstream=transfer: networks of one zoo, fine-tuned on the images of another.

Hyper-Representations as Generative Models (Schürholt et al., 2022), section 4.3, Table 2: sampled populations and trained
models (B_F: the train split at the last epoch that the autoencoder learnt) of the source, trained as the zoo of the
target is, beside models trained there from scratch (B_T: the target's own test split).
"""

from __future__ import annotations

import pandas as pd

from hyperrep.config import Config
from hyperrep.downstream.stages import ensure_fine_tuned, ensure_population, ensure_zoo, given, of_target, trajectories


def compare(config: Config) -> pd.DataFrame:
    """Accuracy on the target's test images of every network at every epoch.

    Args:
        config: of the source; `downstream.target` is the target's `zoo=`, `downstream.epochs` of fine-tuning, 50 as
            published.
    """
    epochs = given(config.downstream.epochs)
    source = ensure_zoo(config)
    target = of_target(config)
    last = max(config.autoencoder.states)
    parts = [trajectories("B_T", ensure_zoo(target), split="test")]
    models = f"zoo.models={min(config.population.models, (source.models['split'] == 'train').sum())}"
    trained = ensure_fine_tuned(target, source, epochs, f"zoo.start.epoch={last}", "zoo.start.split=train", models)
    parts.append(trajectories("B_F", trained))
    for method, words in config.downstream.populations.items():
        parts.append(trajectories(method, ensure_fine_tuned(target, ensure_population(config, words), epochs)))
    return pd.concat(parts, ignore_index=True)
