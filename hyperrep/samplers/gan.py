"""S_GAN: a generative adversarial network on embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from hyperrep.samplers.network_training import seeded, train
from hyperrep.samplers.sampler import Anchors, Sampler

NOISE = 16  # dimensions of the generator's input
HIDDEN = 256
BATCH = 128
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.9)


@dataclass
class GANSampler(Sampler):
    """z = G(ε), ε ~ N(0, I_16), with a generator G trained against a discriminator on the anchors. Independent.

    S_GAN of Hyper-Representations as Generative Models (2022). Only the 16 dimensions of noise are known; the networks
    are in an appendix that was not at hand, and the code is not released. The choices here: G is an MLP 16-256-256-D with
    tanh, D an MLP D-256-256-1, both with leaky ReLU, trained with the non-saturating loss (Goodfellow et al., 2014) and
    Adam, learning rate 2e-4, β = (0.5, 0.9), batches of 128. Two networks that chase each other amplify rounding: anchors
    that differ in their last bit give other draws of the same kind (0.02 apart after 500 steps, as far as any two after 3000).

    Args:
        steps: of training, each one of D and one of G.
        fit_seed: of initial weights, batches and training noise.
    """

    steps: int
    fit_seed: int
    kind = "independent"
    space = "latent"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Train both networks."""
        data = TensorDataset(torch.from_numpy(anchors.embeddings))
        with seeded(self.fit_seed):
            gan = GAN(anchors.embeddings.shape[1])
            train(gan, data, BATCH, self.steps, accelerator)
        self.generator = gan.generator

    @torch.no_grad()
    def sample(self, n: int, seed: int) -> np.ndarray:
        """Generated embeddings, float32 [n, D] in [-1, 1]."""
        noise = np.random.default_rng(seed).standard_normal((n, NOISE), dtype=np.float32)
        return self.generator(torch.from_numpy(noise)).numpy()


class GAN(pl.LightningModule):
    """Generator and discriminator, each with its own optimiser.

    Args:
        dimensions: D of the embeddings.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(
            nn.Linear(NOISE, HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, dimensions),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Linear(dimensions, HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, 1),
        )

    def configure_optimizers(self) -> Any:
        """Adam for each network: the generator's first."""
        networks = (self.generator, self.discriminator)
        return [torch.optim.Adam(network.parameters(), LEARNING_RATE, BETAS) for network in networks]

    def training_step(self, batch: list[Tensor]) -> None:
        """One step of the discriminator, then one of the generator, on the same noise."""
        (real,) = batch
        of_generator, of_discriminator = self.optimizers()  # type: ignore[attr-defined]
        fake = self.generator(torch.randn(len(real), NOISE).to(real.device))  # drawn on the CPU: the same anywhere

        # -log D(real) - log(1 - D(fake)), in terms of the logit
        loss = F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake.detach())).mean()
        of_discriminator.zero_grad()
        self.manual_backward(loss)
        of_discriminator.step()

        # -log D(fake): non-saturating
        loss = F.softplus(-self.discriminator(fake)).mean()
        of_generator.zero_grad()
        self.manual_backward(loss)
        of_generator.step()
