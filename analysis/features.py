"""What probes see of a model: functions of (config, zoo, states, weights), see `analysis.features` in the configuration.

A function may be called for a part of the states at a time, and gives None for zoos that it is not for, else numbers
[states, F], as many for every state. What it is given is its own copy.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.config import Config
from analysis.measures.weights import layer_statistics
from zoo import Zoo

LARGEST = 100_000  # weights of a model whose weights themselves are features: a matrix of states x weights is solved


def raw_weights(config: Config, zoo: Zoo, states: pd.DataFrame, weights: np.ndarray) -> np.ndarray | None:
    """w: the weights as they are, [states, P]; None for large networks: the paper has no such column for its ResNets."""
    return weights if weights.shape[1] <= LARGEST else None


def weight_statistics(config: Config, zoo: Zoo, states: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """s(w): see `analysis.measures.weights.layer_statistics`."""
    return layer_statistics(weights, zoo.architecture)[0]
