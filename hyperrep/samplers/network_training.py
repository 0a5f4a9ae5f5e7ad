"""How the samplers that are networks are trained: a small Lightning module on all anchors, a fixed number of steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from zoo.base.console import Progress
from zoo.training.fitting import fit


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's CPU random state seeded, and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def train(module: pl.LightningModule, data: TensorDataset, batch_size: int, steps: int, accelerator: str) -> None:
    """Train `module` in place; on return it is on the CPU, in evaluation mode. Writes no files.

    Args:
        module: what is trained; its steps take the tensors of a batch.
        data: the rows that batches are drawn from, with replacement.
        batch_size: rows a step.
        steps: batches.
        accelerator: "cpu" or "gpu".
    """
    rows = RandomSampler(data, replacement=True, num_samples=batch_size * steps)
    loader = DataLoader(data, sampler=BatchSampler(rows, batch_size, drop_last=False), batch_size=None)
    with Progress("training the sampler", steps, "steps") as progress:
        fit(module, loader, accelerator=accelerator, epochs=1, progress=progress)
    module.cpu().eval()
