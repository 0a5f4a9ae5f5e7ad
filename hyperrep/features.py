"""Embeddings as features of models (Self-Supervised Representation Learning on Neural Network Weights, Schürholt et al., 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from hyperrep.states import zoo_permutations
from hyperrep.symmetry import Permutations
from hyperrep.training import hyperrep_folder, in_batches, load_autoencoder
from zoo import Zoo
from zoo.architecture import Architecture
from zoo.training import zoo_images


def embeddings(config: Any, zoo: Zoo, states: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """z: what the zoo's autoencoder (`autoencoder=`, trained before) makes of the weights, float32 [states, D].

    States of epochs that it has not learnt are in the order of neurons of those that it has.

    Args:
        config: of the zoo and the autoencoder.
        zoo: whose states these are.
        states: column model_id, a row a state.
        weights: float32 [states, P].

    Raises:
        UserError: if the autoencoder is not there, or was trained on another zoo.
    """
    root, mode = hyperrep_folder(config), config.autoencoder.align
    autoencoder = load_autoencoder(root, config.autoencoder, zoo)
    values = torch.tensor(weights)
    if mode != "none":
        arch = Architecture.from_dict(zoo.description["arch"])
        images, last = zoo_images(config, zoo), max(config.autoencoder.states)
        of_models = zoo_permutations(zoo, arch, mode, last, root.parent, images)
        permutations = Permutations(arch)
        values = permutations.apply(values, permutations.split(of_models[states["model_id"].tolist()]))
    return in_batches(autoencoder.encode, values).numpy()
