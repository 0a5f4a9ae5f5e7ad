"""Embeddings as features of models (Self-Supervised Representation Learning on Neural Network Weights, Schürholt et al., 2021)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hyperrep.config import Config
from hyperrep.models.stored import hyperrep_folder, load_autoencoder
from hyperrep.states import in_batches, permutations_like, read_states, zoo_permutations
from hyperrep.symmetry import Permutations
from zoo import Zoo
from zoo.networks.architecture import Architecture
from zoo.training.opening import open_zoo, zoo_images


def embeddings(config: Config, zoo: Zoo, states: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """z: what the autoencoder of the config's zoo (`autoencoder=`, trained before) makes of weights, float32 [states, D].

    Weights come in the order of neurons of the states that it has learnt: each model is matched at the last epoch that was
    learnt, and keeps that order at all. That is so for other zoos, too (`analysis.others`): their models are matched to
    those of the config's zoo. A model that is not finite by then, is beyond `autoencoder.weight_threshold` or of an unknown
    activation is embedded as it is.

    Args:
        config: of the zoo and the autoencoder.
        zoo: whose states these are; that of the config, or another of its architecture.
        states: column model_id, a row a state.
        weights: float32 [states, P].

    Raises:
        UserError: if the autoencoder is not there, was trained on another zoo, or the other zoo lacks that epoch.
    """
    root, chosen = hyperrep_folder(config), config.autoencoder
    learnt = open_zoo(config)
    autoencoder = load_autoencoder(root, chosen, learnt)
    values = torch.tensor(weights)
    if chosen.align != "none":
        arch = zoo.architecture
        of_states = _orders(config, learnt, zoo, states["model_id"].to_numpy(), arch, root.parent)
        permutations, known = Permutations(arch), (of_states >= 0).all(dim=1)
        values[known] = permutations.apply(values[known], permutations.split(of_states[known]))
    return in_batches(autoencoder.encode, values).numpy()


def _orders(
    config: Config, learnt: Zoo, zoo: Zoo, models: np.ndarray, arch: Architecture, folder: Path
) -> torch.Tensor:
    """The permutations of some models, int64 [len(models), neurons]; -1 for those that have none."""
    chosen, images = config.autoencoder, zoo_images(config, learnt)
    last = max(chosen.states)
    if zoo.identity == learnt.identity:
        return zoo_permutations(zoo, arch, chosen, folder, images)[models.tolist()]
    reference = read_states(learnt, chosen, folder, images)["train"].at(last)
    theirs = zoo.dataset(
        None, [last], ("activation",), models=np.unique(models), weight_threshold=chosen.weight_threshold
    )
    known = arch.runs(theirs.table["activation"])
    rows, weights = theirs.table[known], theirs.weights[known]
    of_models = permutations_like(reference, weights, rows, arch, chosen.align, images)
    none = torch.full((1, of_models.shape[1]), -1)  # the last row, where -1 leads
    return torch.cat([of_models, none])[pd.Index(rows["model_id"]).get_indexer(models)]
