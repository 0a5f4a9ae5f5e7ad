"""Small image sets and tables of models for tests."""

import itertools

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from run import CONFIG_DIR
from zoo import Zoo
from zoo.images.config import AugmentConfig
from zoo.images.data import ImageData, Images
from zoo.networks.architecture import Architecture
from zoo.store.writer import create_zoo, finalise

CNN_S_LAYERS = [
    {"conv": 8, "kernel": 5}, {"pool": 2}, "activation", "dropout",
    {"conv": 6, "kernel": 5}, {"pool": 2}, "activation", "dropout",
    {"conv": 4, "kernel": 2}, "activation",
    "flatten", {"linear": 20}, "activation", "dropout", {"linear": 10},
]  # fmt: skip
CNN_M_LAYERS = [
    {"conv": 16, "kernel": 3}, {"pool": 2}, "activation", "dropout",
    {"conv": 32, "kernel": 3}, {"pool": 2}, "activation", "dropout",
    {"conv": 15, "kernel": 3}, {"pool": 2}, "activation", "dropout",
    "flatten", {"linear": 20}, "activation", "dropout", {"linear": 10},
]  # fmt: skip


def architecture(name: str, channels: int | None = None) -> Architecture:
    if name == "cnn_s":
        return Architecture(name, (channels or 1, 28, 28), 10, CNN_S_LAYERS)
    if name == "cnn_m":
        return Architecture(name, (3, 32, 32), 10, CNN_M_LAYERS)
    if name == "resnet18":
        return Architecture(name, (3, 32, 32), 10, module="zoo.resnet.ResNet18")
    layers = OmegaConf.to_container(OmegaConf.load(CONFIG_DIR / "arch" / f"{name}.yaml"))["layers"]
    return Architecture(name, (channels or 1, 28, 28), 10, layers)


def image_data(shape=(1, 28, 28), train=57, val=11, test=13, classes=10, seed=0, augment=None) -> ImageData:
    """Noisy pictures whose class shows: learnable, so that accuracies move."""
    random = torch.Generator().manual_seed(seed)
    patterns = torch.randint(0, 256, (classes, *shape), generator=random)

    def split(n: int) -> Images:
        labels = torch.randint(0, classes, (n,), generator=random)
        noise = torch.randint(0, 256, (n, *shape), generator=random)
        return Images(((patterns[labels] + noise) // 2).to(torch.uint8), labels)

    half = torch.full((shape[0],), 0.5)
    return ImageData(
        "patterns", classes, shape, split(train), split(val), split(test), half, half.clone(),
        augment or AugmentConfig(), "0" * 64,
    )  # fmt: skip


def model_rows(**factors) -> pd.DataFrame:
    """Every combination of the factors given as lists; seeds 1, 2, …"""
    defaults = {
        "init": ["kaiming_uniform"], "activation": ["tanh"], "optimizer": ["adam"], "lr": [1e-3],
        "weight_decay": [0.0], "dropout": [0.0],
    }  # fmt: skip
    columns = defaults | factors
    rows = pd.DataFrame(list(itertools.product(*columns.values())), columns=list(columns))
    rows.insert(0, "seed", range(1, len(rows) + 1))
    return rows


class Normed(nn.Module):
    """A small network with BatchNorm, so with buffers: [n, channels, height, width] -> logits."""

    def __init__(self, image: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(image[0], 4, 5, stride=4, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * len(range(0, image[1] - 4, 4)) * len(range(0, image[2] - 4, 4)), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).relu().flatten(1))


def copied(zoo, name, weights=lambda epoch, weights: weights, rows=None, scores=lambda rows: rows, spec=None):
    """A copy of a zoo beside it, with other weights (a function of epoch and weights), another table of models or of scores
    (a function of the table), or of another spec."""
    kept = ("epochs", "arch", "protocol", "dataset", "engine", "versions", "command")
    metrics = [column for column in zoo.description["metrics"] if column != "weight_max_abs"]
    description = {"name": name, "spec": spec or {}, "metrics": metrics, **{key: zoo.description[key] for key in kept}}
    rows = (zoo.models if rows is None else rows).drop(columns=["status", "diverged_epoch"])
    copy = create_zoo(zoo.path.with_name(name), description, rows)
    (block,) = copy.blocks(len(rows))
    with block:
        for epoch in block.pending:
            of_epoch = scores(zoo.metrics[zoo.metrics["epoch"] == epoch])
            columns = {metric: of_epoch[metric].to_numpy() for metric in metrics}
            state = {"weights": weights(epoch, zoo.weights(epochs=[epoch])[:, 0])}
            block.commit(epoch, state, columns, {"step": np.zeros(len(rows), np.int64)})
    finalise(copy)
    return Zoo.open(copy.path)
