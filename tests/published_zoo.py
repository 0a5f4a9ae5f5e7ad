"""A zoo in the raw layout of the published ones, written by plain PyTorch: METHODS A.1, A.3 and A.6, nothing of hyperzoo's."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


class CNN(nn.Module):
    """CNN-s: layers of dropout only where there is dropout, so that indices shift."""

    def __init__(self, channels, activation, dropout):
        super().__init__()
        act, drop = ACTIVATIONS[activation], [nn.Dropout(dropout)] if dropout else []
        self.module_list = nn.ModuleList(
            [nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), act(), *drop, nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), act(), *drop,
             nn.Conv2d(6, 4, 2), act(), nn.Flatten(), nn.Linear(36, 20), act(), *drop, nn.Linear(20, 10)]
        )  # fmt: skip

    def forward(self, x):
        for layer in self.module_list:
            x = layer(x)
        return x


class CNN3(nn.Module):
    """CNN-m: layers of dropout always."""

    def __init__(self, channels, activation, dropout):
        super().__init__()
        layers = []
        for inputs, outputs in ((channels, 16), (16, 32), (32, 15)):
            layers += [nn.Conv2d(inputs, outputs, 3), nn.MaxPool2d(2), ACTIVATIONS[activation](), nn.Dropout(dropout)]
        layers += [nn.Flatten(), nn.Linear(60, 20), ACTIVATIONS[activation](), nn.Dropout(dropout), nn.Linear(20, 10)]
        self.module_list = nn.ModuleList(layers)

    forward = CNN.forward


def scores(model, pixels, labels) -> tuple[float, float]:
    model.eval()
    with torch.no_grad():
        logits = model(pixels)
    return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())


def write_trial(folder: Path, number: int, params: dict, train, test, epochs: int, padded=True, model=None, kind=CNN):
    """Train a model with plain PyTorch, and leave what Ray Tune left: the folder of the trial."""
    seed = params["seed"]
    torch.manual_seed(seed)
    model = model or kind(train[0].shape[1], params["model::nlin"], params["model::dropout"])
    trial = folder / f"NN_tune_trainable_da045_{number:05d}_{number}_seed={seed}_2021-09-25_11-43-53"
    trial.mkdir(parents=True)
    (trial / "params.json").write_text(json.dumps({**params, "dataset::dump": "/netscratch2/somebody/dataset.pt"}))
    optimizer = torch.optim.Adam(model.parameters(), params["optim::lr"], weight_decay=params["optim::wd"])
    lines = []
    for epoch in range(epochs + 1):
        if epoch:
            model.train()
            for part in torch.randperm(len(train[0])).split(params["training::batchsize"]):
                optimizer.zero_grad()
                F.cross_entropy(model(train[0][part]), train[1][part]).backward()
                optimizer.step()
        (train_loss, train_acc), (test_loss, test_acc) = scores(model, *train), scores(model, *test)
        lines.append({"train_loss": train_loss, "train_acc": train_acc, "test_loss": test_loss, "test_acc": test_acc,
                      "training_iteration": epoch, "trial_id": f"da045_{number:05d}", "config": params})  # fmt: skip
        checkpoint = trial / (f"checkpoint_{epoch:06d}" if padded else f"checkpoint_{epoch}")
        checkpoint.mkdir()
        torch.save(model.state_dict(), checkpoint / "checkpoints")
        torch.save(optimizer.state_dict(), checkpoint / "optimizer")
    (trial / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return trial


def params(seed, activation="tanh", dropout=0.0, lr=3e-3):
    return {"model::type": "CNN", "model::channels_in": 1, "model::nlin": activation, "model::dropout": dropout,
            "model::init_type": "uniform", "optim::optimizer": "adam", "optim::lr": lr, "optim::wd": 0.0, "seed": seed,
            "training::batchsize": 8, "training::epochs_train": 50}  # fmt: skip
