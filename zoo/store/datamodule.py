"""A zoo as a Lightning data module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from zoo.store.model_dataset import ModelDataset


class ZooDataModule(pl.LightningDataModule):
    """States of a zoo in batches (weights [batch, P], {property: values}), its splits by model.

    Args:
        sets: "train", "val" and "test".
        batch_size: states in a batch. Those that are trained on are shuffled.
    """

    def __init__(self, sets: Mapping[str, ModelDataset], batch_size: int) -> None:
        super().__init__()
        self.sets, self.batch_size = sets, batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        """Of the split "train", shuffled."""
        return DataLoader(self.sets["train"], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Of the split "val"."""
        return DataLoader(self.sets["val"], self.batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """Of the split "test"."""
        return DataLoader(self.sets["test"], self.batch_size)
