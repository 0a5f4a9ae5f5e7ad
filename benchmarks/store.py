"""Reading epochs 21-25 of the train split of a 1000-model x 51-epoch zoo: the store against one file a state.

    python benchmarks/store.py

Writes a zoo of random weights of `arch=cnn_s` for one-channel images (2464 parameters, 503 MB) and, as the baseline,
the states to be read in the layout of the published zoos (one folder a model and epoch, the weights a torch-saved state
dict) in a temporary folder. Both give the same array, which is asserted. Reads are interleaved in one process, files in
the page cache; the median and the range are printed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/zoo.py is not the package zoo

from zoo import Zoo
from zoo.networks.architecture import Architecture
from zoo.store.writer import create_zoo, finalise

MODELS, LAST_EPOCH, BLOCK, REPEATS = 1000, 50, 100, 7
EPOCHS = range(21, 26)
CNN_S = Architecture(
    "cnn_s",
    image=(1, 28, 28),
    classes=10,
    layers=[
        *[{"conv": 8, "kernel": 5}, {"pool": 2}, "activation"],
        *[{"conv": 6, "kernel": 5}, {"pool": 2}, "activation"],
        *[{"conv": 4, "kernel": 2}, "activation", "flatten"],
        *[{"linear": 20}, "activation", {"linear": 10}],
    ],
)
METRICS = ["train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = make_zoo(Path(folder) / "zoo")
        print(f"written: {MODELS} models x {LAST_EPOCH + 1} epochs in {time.perf_counter() - start:.1f} s")
        states = make_states(Path(folder) / "states", path)

        def store() -> np.ndarray:
            return Zoo.open(path).weights(split="train", epochs=EPOCHS)

        def one_file_a_state() -> np.ndarray:
            vectors = []
            for file in states:
                state = torch.load(file, weights_only=True)
                vectors.append(torch.cat([tensor.flatten() for tensor in state.values()]))
            return torch.stack(vectors).numpy().reshape(-1, len(EPOCHS), CNN_S.n_parameters)

        np.testing.assert_array_equal(store(), one_file_a_state())
        times = interleaved({"store": store, "one file a state": one_file_a_state})
        times |= interleaved({"store: tables": lambda: (Zoo.open(path).models, Zoo.open(path).metrics)})
        times |= interleaved({"store: verify": Zoo.open(path).verify})
        for name, seconds in times.items():
            print(f"{name:>18}: {statistics.median(seconds):.3f} s ({min(seconds):.3f}-{max(seconds):.3f})")
        ratios = [slow / fast for slow, fast in zip(times["one file a state"], times["store"])]
        print(f"ratio: {statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}), {REPEATS} repeats each")


def interleaved(tasks: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(REPEATS):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - start)
    return times


def make_zoo(path: Path) -> Path:
    rng = np.random.default_rng(0)
    i = np.arange(MODELS)
    factors = {
        "init": "uniform",
        "activation": "tanh",
        "optimizer": "adam",
        "lr": 3e-4,
        "weight_decay": 0.0,
        "dropout": 0.0,
    }
    models = pd.DataFrame({"model_id": i, "seed": i + 1}).assign(**factors)
    models["split"] = np.repeat(["train", "val", "test"], [700, 150, 150])[rng.permutation(MODELS)]
    description = {"name": "benchmark", "arch": CNN_S.to_dict(), "epochs": LAST_EPOCH, "metrics": METRICS}
    zoo = create_zoo(path, description, models)
    for block in zoo.blocks(BLOCK):
        with block:
            for epoch in block.pending:
                weights = rng.standard_normal((BLOCK, CNN_S.n_parameters), dtype=np.float32)
                block.commit(epoch, {"weights": weights}, {name: rng.random(BLOCK) for name in METRICS}, {})
    finalise(zoo)
    return path


def make_states(folder: Path, path: Path) -> list[Path]:
    """The states to be read, one file each, by model and epoch."""
    zoo = Zoo.open(path)
    weights = torch.from_numpy(zoo.weights(split="train", epochs=EPOCHS))
    files = []
    for model, of_model in zip(zoo.choose_models("train"), weights):
        for epoch, vector in zip(EPOCHS, of_model):
            files.append(folder / f"model_{model:05d}" / f"checkpoint_{epoch:06d}" / "checkpoints")
            files[-1].parent.mkdir(parents=True)
            torch.save(CNN_S.state_dict(vector), files[-1])
    return files


if __name__ == "__main__":
    main()
