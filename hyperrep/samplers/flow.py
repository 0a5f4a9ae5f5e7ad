"""Conditional flow matching on embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from hyperrep.samplers.network_training import seeded, train
from hyperrep.samplers.property_features import PropertyFeatures
from hyperrep.samplers.sampler import Anchors, Sampler

HIDDEN = 512
FREQUENCIES = 8  # of the time features
BATCH = 256
LEARNING_RATE = 1e-3
SAMPLING_STEPS = 50  # of Heun's method


@dataclass
class FlowSampler(Sampler):
    """Noise carried to embeddings by a learnt velocity field, clipped to [-1, 1]. Independent.

    Conditional flow matching (Lipman et al., 2023) on linear paths x_t = (1 - t) x_0 + t x_1, from x_0 ~ N(0, I) to an
    anchor x_1, standardised per dimension; the field is an MLP D+17+C → 512 → 512 → 512 → D with SiLU, trained by
    Adam with a cosine schedule, and followed by Heun's method in 50 steps. In none of the papers on hyper-representations.
    Trained long on few anchors, its draws come close to anchors: look at their distance before they are called new.

    Args:
        steps: of training.
        fit_seed: of initial weights, batches and training noise.
        condition: property → value: the properties that the field is conditioned on, and the values of the draws. With
            None for a value, that property of a draw is that of a random anchor. None: on nothing. See
            `PropertyFeatures` for the names.
    """

    steps: int
    fit_seed: int
    condition: dict[str, Any] | None
    kind = "independent"
    space = "latent"

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Train the velocity field."""
        self.properties = PropertyFeatures(anchors, list(self.condition or {}))
        self.mean = anchors.embeddings.mean(axis=0)
        spread = anchors.embeddings.std(axis=0)
        self.scale = np.where(spread > 0, spread, 1).astype(np.float32)  # a constant dimension stays as it is
        points = torch.from_numpy((anchors.embeddings - self.mean) / self.scale)
        features = torch.from_numpy(self.properties.encode(self.properties.rows))
        with seeded(self.fit_seed):
            self.field = VelocityField(points.shape[1], self.properties.width, self.steps)
            train(self.field, TensorDataset(points, features), BATCH, self.steps, accelerator)

    @torch.no_grad()
    def sample(self, n: int, seed: int, condition: Mapping[str, Any] | None = None) -> np.ndarray:
        """Embeddings at the end of the flow, float32 [n, D] in [-1, 1].

        Args:
            n: how many.
            seed: of the noise, and of the anchors whose properties are taken where `condition` gives none.
            condition: property → value, in place of the option of that name.

        Raises:
            UserError: if a property was not trained with or cannot have the value.
        """
        random = np.random.default_rng(seed)
        features = torch.from_numpy(self.properties.encode(self._drawn(n, random, condition)))
        x = torch.from_numpy(random.standard_normal((n, len(self.mean)), dtype=np.float32))
        dt = 1 / SAMPLING_STEPS
        for step in range(SAMPLING_STEPS):
            t = torch.full((n,), step * dt)
            slope = self.field(x, t, features)
            x = x + dt / 2 * (slope + self.field(x + dt * slope, t + dt, features))
        return (self.mean + self.scale * x.numpy()).clip(-1, 1)

    def factors(self, n: int, seed: int) -> pd.DataFrame:
        """The properties that the field was given for the draws of `sample(n, seed)`."""
        return self._drawn(n, np.random.default_rng(seed), None)

    def _drawn(self, n: int, random: np.random.Generator, condition: Mapping[str, Any] | None) -> pd.DataFrame:
        condition = (self.condition or {}) if condition is None else condition
        return self.properties.draw(n, {k: value for k, value in condition.items() if value is not None}, random)


class VelocityField(pl.LightningModule):
    """The field v(x, t, features), trained by regression on the velocities of the linear paths.

    Args:
        dimensions: D.
        features: properties' features a point; 0 for none.
        steps: of training: the length of the learning rate's cosine.
    """

    def __init__(self, dimensions: int, features: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.network = nn.Sequential(
            nn.Linear(dimensions + 1 + 2 * FREQUENCIES + features, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, dimensions),
        )

    def forward(self, x: Tensor, t: Tensor, features: Tensor) -> Tensor:
        """Velocities [n, D] at points [n, D], times [n] in [0, 1] and features [n, C]."""
        angles = math.pi * t[:, None] * torch.arange(1, FREQUENCIES + 1, device=t.device)
        return self.network(torch.cat([x, t[:, None], angles.sin(), angles.cos(), features], dim=1))

    def configure_optimizers(self) -> Any:
        """Adam with a cosine schedule down to 0."""
        optimizer = torch.optim.Adam(self.parameters(), LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Mean squared error of the velocity x_1 - x_0 at a random time."""
        x1, features = batch
        x0 = torch.randn(x1.shape).to(x1.device)  # drawn on the CPU: the same anywhere
        t = torch.rand(len(x1)).to(x1.device)
        x = torch.lerp(x0, x1, t[:, None])
        return F.mse_loss(self(x, t, features), x1 - x0)
