"""What a whole run costs beyond training: an epoch of a zoo on MNIST-size data, taken apart.

    python benchmarks/zoo.py                # 20 models of CNN-s, 50,000 training and 2 x 10,000 evaluation images
    python benchmarks/zoo.py --engine torch --train 5000

Runs `PopulationModule` under Lightning on random images, as `run.py` does, with the store and the CSV logger, and times
training, batch orders, evaluation and storing from epoch 1 on; prints the share of each and the whole run's throughput.
One block holds all models.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import run
from zoo.config.combinations import architecture
from zoo.config.reading import read_config
from zoo.engines.choice import choose
from zoo.engines.make import engine_class
from zoo.images.config import AugmentConfig
from zoo.images.data import ImageData, Images
from zoo.store.block import Block
from zoo.training import opening, train
from zoo.training.module import PopulationModule


def images(train: int, rest: int) -> ImageData:
    random = torch.Generator().manual_seed(0)

    def part(n: int) -> Images:
        pixels = torch.randint(0, 256, (n, 1, 28, 28), generator=random, dtype=torch.uint8)
        return Images(pixels, torch.randint(0, 10, (n,), generator=random))

    half = torch.full((1,), 0.5)
    return ImageData(
        "random", 10, (1, 28, 28), part(train), part(rest), part(rest), half, half, AugmentConfig(), "0" * 64
    )


def timed(function: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began

    return wrapper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--evaluation", type=int, default=10_000, help="validation images, and as many test images")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"),
    ):
        overrides = [f"paths.root={folder}", "zoo=mnist_seed", f"engine={options.engine}"]
        overrides += [f"zoo.models={options.models}", f"zoo.epochs={options.epochs}"]
        overrides += [f"engine.threads={options.threads}"] if options.threads else []
        config = read_config(compose("config", overrides), run.Config)
        data = images(options.train, options.evaluation)
        opening.load_images = lambda *args: data  # type: ignore[assignment]
        engine = engine_class(choose(config.engine.name, architecture(config), "cpu", False))
        seconds: dict[str, float] = {}
        for name, what in (("start_epoch", "batch orders"), ("train", "training"), ("evaluate", "evaluation")):
            setattr(engine, name, timed(getattr(engine, name), seconds, what))
        Block.commit = timed(Block.commit, seconds, "storing")  # type: ignore[method-assign]
        begin, since = PopulationModule.begin, 0.0

        def begin_then_measure(module: PopulationModule) -> None:
            nonlocal since
            begin(module)
            seconds.clear()  # what epoch 0 took: compiling, and evaluating the training images too
            since = time.perf_counter()

        train_block = train._train_block

        def measured_block(*args: Any) -> None:
            train_block(*args)
            seconds["whole"] = time.perf_counter() - since

        PopulationModule.begin = begin_then_measure  # type: ignore[method-assign]
        train._train_block = measured_block
        train.train_zoo(config)
    whole = seconds.pop("whole")
    seconds["logging, Lightning and the rest"] = whole - sum(seconds.values())
    print(f"\nengine={engine.name}, {options.models} models x {options.epochs} epochs in {whole:.1f} s, after epoch 0")
    for name, spent in seconds.items():
        print(f"{name:32} {spent:8.2f} s {100 * spent / whole:6.1f} %")
    steps = options.models * options.epochs * -(-options.train // config.zoo.batch_size)
    print(
        f"{steps / whole:,.0f} model-steps/s over all; {options.models * options.epochs / whole:.2f} models x epochs/s"
    )


if __name__ == "__main__":
    main()
