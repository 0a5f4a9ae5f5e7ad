"""downstream=transfer: networks of one zoo, fine-tuned on the images of another.

Hyper-Representations as Generative Models (Schürholt et al., 2022), section 4.3, Table 2: sampled populations and trained
models (B_F: the train split at the last epoch that the autoencoder learnt) of the source, trained as the zoo of the
target is, beside models trained there from scratch (B_T: the target's own test split).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from hyperrep.downstream.stages import fine_tuned, grown, of_target, sampled, trajectories


def compare(config: Any) -> pd.DataFrame:
    """Accuracy on the target's test images of every network at every epoch.

    Args:
        config: of the source; `downstream.target` is the target's `zoo=`, `downstream.epochs` of fine-tuning, 50 as
            published.
    """
    epochs = config.downstream.epochs
    source = grown(config)
    target = of_target(config)
    last = max(config.autoencoder.states)
    parts = [trajectories("B_T", grown(target), split="test")]
    models = f"zoo.models={min(config.population.models, (source.models['split'] == 'train').sum())}"
    trained = fine_tuned(target, source, epochs, f"zoo.start.epoch={last}", "zoo.start.split=train", models)
    parts.append(trajectories("B_F", trained))
    for method, words in config.downstream.methods.items():
        parts.append(trajectories(method, fine_tuned(target, sampled(config, words), epochs)))
    return pd.concat(parts, ignore_index=True)
