"""docs/FORMAT.md, *Making a model again without hyperzoo*, as a program: PyTorch, NumPy and pandas, nothing of ours."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from torch import nn

RUN = str(Path(__file__).resolve().parents[2] / "run.py")


def words(seed: int, purpose: int, epoch: int, step: int, n: int) -> np.ndarray:
    """Point 3: uint64 [n], each below 2^32."""
    mask = np.uint64(0xFFFFFFFF)
    groups = -(-n // 4)
    c = [np.arange(groups, dtype=np.uint64), *(np.full(groups, value, np.uint64) for value in (step, epoch, purpose))]
    k = [np.uint64(seed) & mask, np.uint64(seed) >> np.uint64(32)]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & mask]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return np.stack(c, axis=1).ravel()[:n]


def digits(dataset: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Point 1: the training images, normalised, and their labels."""

    def permutation(n, seed):
        return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()

    bunch = load_digits()
    pixels, labels = np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target
    official = permutation(len(labels), 42)[300:]
    chosen = official[permutation(len(official), dataset["split_seed"])][: dataset["sizes"]["train"]]
    resized = [
        np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR)) for image in pixels[chosen]
    ]
    x = torch.tensor(np.stack(resized))[:, None].float()
    mean, std = (torch.tensor(dataset["transform"][key]).view(-1, 1, 1) for key in ("mean", "std"))
    return (x / 255 - mean) / std, torch.tensor(labels[chosen])


class KeptBy(nn.Module):
    """Point 5: a dropout layer whose words are set before each step."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.draw = p, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.draw(x.numel()) >= np.uint64(round(self.p * 2**32))
        return x * torch.tensor(kept).view(x.shape) / (1 - self.p)


def network(arch: dict, row: pd.Series, bias: float) -> nn.Sequential:
    """Point 2."""
    activations = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}
    methods = {
        name: getattr(nn.init, f"{name}_") for name in ("uniform", "normal", "kaiming_uniform", "kaiming_normal")
    }
    torch.manual_seed(row["seed"])
    layers, shape = [], torch.zeros(1, *arch["image"])
    for layer in arch["layers"]:
        match layer:
            case "activation":
                made = activations[row["activation"]]()
            case "dropout":
                made = KeptBy(row["dropout"])
                made.draw = lambda n: np.full(n, 2**32 - 1, np.uint64)
            case "flatten":
                made = nn.Flatten()
            case {"conv": channels, "kernel": kernel}:
                made = nn.Conv2d(shape.shape[1], channels, kernel)
            case {"pool": size}:
                made = nn.MaxPool2d(size)
            case {"linear": features}:
                made = nn.Linear(shape.shape[1], features)
        layers.append(made)
        shape = made(shape)
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            methods[row["init"]](layer.weight)
            nn.init.constant_(layer.bias, bias)
    return nn.Sequential(*layers)


def regenerated(about: dict, row: pd.Series, epochs: int) -> np.ndarray:
    """Points 4 to 6: the weights of a model after `epochs` epochs."""
    x, y = digits(about["dataset"])
    constants, seed = about["constants"], int(row["seed"])
    net = network(about["arch"], row, constants["bias"])
    dropouts = [layer for layer in net if isinstance(layer, KeptBy)]
    if row["optimizer"] == "adam":
        adam = constants["adam"]
        optimizer = torch.optim.Adam(
            net.parameters(), row["lr"], tuple(adam["betas"]), adam["eps"], weight_decay=row["weight_decay"]
        )
    else:
        momentum = constants["sgd"]["momentum"]
        optimizer = torch.optim.SGD(net.parameters(), row["lr"], momentum, weight_decay=row["weight_decay"])
    for epoch in range(1, epochs + 1):
        drawn = words(seed, 0, epoch, 0, 2 * len(y)).reshape(-1, 2)
        keys = ((drawn[:, 0] << np.uint64(32)) | drawn[:, 1]).view(np.int64)
        order = torch.tensor(np.argsort(keys, kind="stable"))
        for step, chosen in enumerate(order.split(about["protocol"]["batch_size"])):
            for i, layer in enumerate(dropouts):
                layer.draw = lambda n, i=i, epoch=epoch, step=step: words(seed, 2 + i, epoch, step, n)
            optimizer.zero_grad()
            F.cross_entropy(net(x[chosen]), y[chosen]).backward()
            optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()]).numpy()


def table(spec: dict, models: int) -> pd.DataFrame:
    """Point 7."""
    names = ["init", "activation", "optimizer", "lr", "weight_decay", "dropout"]
    points = list(pd.MultiIndex.from_product([spec["grid"][name] for name in names]))
    order = np.random.RandomState(spec["split_seed"]).permutation(len(points))
    count, mode = spec["seeds"]["count"], spec["seeds"]["mode"]
    rows = pd.DataFrame([points[i] for _ in range(count) for i in order], columns=names)
    drawn = np.random.RandomState(spec["seeds"]["drawn_from"]).randint(0, 10**6, size=len(rows))
    rows["seed"] = drawn if mode == "drawn" else np.repeat(np.arange(1, count + 1), len(points))
    deal, splits = np.random.RandomState(spec["split_seed"]), ["train"] * 14 + ["val"] * 3 + ["test"] * 3
    rows["split"] = np.concatenate([deal.permutation(splits) for _ in range(-(-len(rows) // 20))])[: len(rows)]
    return rows.head(models)


@pytest.mark.parametrize("zoo", ["digits_hyp10f", "digits_hyp10r"])
def test_a_stranger_makes_the_models_again_from_what_is_stored_and_written(tmp_path, zoo):
    command = [
        sys.executable,
        RUN,
        f"zoo={zoo}",
        "zoo.models=8",
        "zoo.epochs=2",
        "dataset.train_size=95",
        "logger=none",
    ]
    subprocess.run([*command, f"paths.root={tmp_path}"], check=True, capture_output=True)
    folder = tmp_path / "zoos" / zoo
    about, models = json.loads((folder / "zoo.json").read_text()), pd.read_parquet(folder / "models.parquet")
    mine = table(about["spec"], len(models))
    pd.testing.assert_frame_equal(mine, models[mine.columns], check_dtype=False)
    (block,) = (folder / "weights").glob("*-*/")
    stored = [load_file(block / f"epoch-{epoch:04d}.safetensors")["weights"] for epoch in (0, 2)]
    off = []
    for i, row in models.iterrows():
        np.testing.assert_array_equal(regenerated(about, row, 0), stored[0][i])
        weights = regenerated(about, row, 2)
        off.append(np.linalg.norm(weights - stored[1][i]) / np.linalg.norm(weights - stored[0][i]))
    # In units of the distance moved. Every so often rounding tips a max-pool, which throws a model further.
    assert np.median(off) < 1e-4
    assert np.quantile(off, 0.75) < 1e-3, off
