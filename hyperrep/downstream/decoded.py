"""Embeddings and what they decode to: the common ground of comparisons in the latent space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hyperrep.config import Config
from hyperrep.downstream.stages import ensure_zoo, perform
from hyperrep.models.autoencoder import Autoencoder
from hyperrep.models.stored import autoencoder_hash, hyperrep_folder, load_autoencoder
from hyperrep.states import States, in_batches, read_states
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.config.reading import derive
from zoo.engines.evaluation import predictions
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture
from zoo.training.opening import open_zoo, zoo_images


@dataclass(frozen=True)
class Representation:
    """A zoo, its autoencoder and the states that this reads, by split."""

    zoo: Zoo
    arch: Architecture
    images: ImageData
    autoencoder: Autoencoder
    states: dict[str, States]
    config: Config
    autoencoder_file: str  # sha256 of its weights

    def accuracy(self, weights: Tensor, rows: pd.DataFrame) -> np.ndarray:
        """Test accuracy of networks [n, P], one row each in `rows`: float64 [n]."""
        found = predictions(self.arch, weights, rows, self.images.test, self.images, self.config.engine)
        return (found == self.images.test.labels.numpy()).mean(axis=1)

    def encode(self, weights: Tensor) -> Tensor:
        """Embeddings [n, D] of weights [n, P]."""
        return in_batches(self.autoencoder.encode, weights)

    def decode(self, embeddings: Tensor) -> Tensor:
        """Weights [n, P] of embeddings [n, D]."""
        return in_batches(self.autoencoder.decode, embeddings)


def ensure_representation(config: Config, words: list[str], epochs: list[int] | None = None) -> Representation:
    """What the autoencoder of a method has learnt, with the states of some epochs (None: those it learnt).

    The alignment is that of its training, whatever the epochs: a model keeps its order.

    Raises:
        UserError: if the method learns another last epoch than the others, at which all are compared.
    """
    own, last = max(derive(config, *words).autoencoder.states), max(config.autoencoder.states)
    if own != last:
        raise UserError(
            f"downstream.methods: {' '.join(words)}: its last state is of epoch {own}, but methods are compared at epoch {last}; "
            "let autoencoder.states of all of them end there"
        )
    ensure_zoo(config, *words)
    done = perform(config, "task=hyperrep", *words)
    root = hyperrep_folder(done)
    zoo = open_zoo(done)
    images = zoo_images(done, zoo)
    autoencoder = load_autoencoder(root, done.autoencoder, zoo)
    arch = zoo.architecture
    states = read_states(zoo, done.autoencoder, root.parent, images, epochs)
    return Representation(zoo, arch, images, autoencoder, states, done, autoencoder_hash(root))


def noisy(embeddings: Tensor, level: float, seed: int) -> Tensor:
    """Embeddings [n, D] plus Gaussian noise of `level` standard deviations of each dimension over them."""
    noise = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(seed))
    return embeddings + level * embeddings.std(0, correction=0) * noise
