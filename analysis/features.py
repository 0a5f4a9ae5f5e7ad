"""What probes see of a model: functions of (config, zoo, states, weights), see `analysis.features` in the configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.weights import layer_statistics
from zoo import Zoo
from zoo.architecture import Architecture


def raw_weights(config: Any, zoo: Zoo, states: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """w: the weights as they are, [states, P]."""
    return weights


def weight_statistics(config: Any, zoo: Zoo, states: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """s(w): see `analysis.weights.layer_statistics`."""
    return layer_statistics(weights, Architecture.from_dict(zoo.description["arch"]))[0]
