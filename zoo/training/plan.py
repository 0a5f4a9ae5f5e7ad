"""`task=plan`: what a zoo takes, in models, bytes and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from rich.table import Table

from zoo.base.console import console, duration
from zoo.config.combinations import architecture, training_conditions
from zoo.config.sections import Config
from zoo.config.spec import spec_size
from zoo.engines.choice import choose
from zoo.engines.engine import Protocol
from zoo.engines.make import make_engine
from zoo.images.config import AugmentConfig
from zoo.images.data import ImageData, Images
from zoo.networks.architecture import Architecture
from zoo.training.start import Start
from zoo.training.states import before_training
from zoo.training.train import MODELS_ON_CPU, zoo_models


@dataclass(frozen=True)
class Estimate:
    """What a zoo takes.

    Attributes:
        models, states: how many.
        size: bytes on disk.
        steps: of training, over all models.
        images: that all models together are trained on, one by one.
        evaluated: images that all models together are evaluated on.
    """

    models: int
    states: int
    size: int
    steps: int
    images: int
    evaluated: int


def estimate(config: Config, arch: Architecture, models: pd.DataFrame) -> Estimate:
    """What the zoo of a config takes; `models` are all of its models."""
    split = config.dataset.protocols[config.arch.protocol]
    images, n = min(config.dataset.train_size or split.train, split.train), len(models)
    states = n * (config.zoo.epochs + 1)
    optimizer = arch.n_parameters * (2 if (models["optimizer"] == "adam").any() else 1)
    size = 4 * (states * (arch.n_parameters + arch.n_buffers) + n * optimizer)
    epochs = n * config.zoo.epochs
    evaluated = states * (split.val + split.test) + (states if config.metrics.train_eval else n) * images
    steps = epochs * math.ceil(images / config.zoo.batch_size)
    return Estimate(n, states, size, steps, epochs * images, evaluated)


def plan_zoo(config: Config) -> None:
    """Print what `task=zoo` would do: models, states, bytes and estimated work. Reads no image data, writes nothing."""
    arch = architecture(config)
    models, start = zoo_models(config, arch)
    found = estimate(config, arch, models)
    time_taken = measure_pace(config, arch, models, start).duration(found)
    engine = choose(config.engine.name, arch, *training_conditions(config))
    table = Table(title=f"Zoo {config.zoo.name}", show_header=False, title_justify="left")
    if config.zoo.published and not start:
        table.add_row("preset of", config.zoo.published)
    splits = ", ".join(f"{(models['split'] == split).sum()} {split}" for split in ("train", "val", "test"))
    whole = f"{start.zoo.name}, epoch {start.epoch}" if start else f"{spec_size(config.zoo)} in the spec"
    table.add_row("models", f"{found.models} of {whole} ({splits})")
    for factor, values in asdict(config.zoo.grid).items():
        table.add_row(f"  {factor}", ", ".join(map(str, models[factor].unique() if start else values)))
    table.add_row("states", f"{found.states} (epochs 0 to {config.zoo.epochs} of each model)")
    table.add_row(
        "parameters", f"{arch.n_parameters} a model, arch={arch.name}, images {'×'.join(map(str, arch.image))}"
    )
    table.add_row("on disk", f"about {in_bytes(found.size)}")
    table.add_row("work", f"{found.steps:,} steps of batch {config.zoo.batch_size}")
    table.add_row("time", f"about {time_taken} here with engine={engine} (training and evaluation)")
    console.print(table, highlight=False)


@dataclass(frozen=True)
class Pace:
    """Seconds of one model with one image on this machine: trained (fastest and slowest piece measured), and evaluated."""

    fastest: float
    slowest: float
    evaluated: float

    def duration(self, found: Estimate) -> str:
        """The time that a zoo takes, as a range to read."""
        evaluation = found.evaluated * self.evaluated
        ends = [duration(found.images * pace + evaluation) for pace in (self.fastest, self.slowest)]
        return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def measure_pace(config: Config, arch: Architecture, models: pd.DataFrame, start: Start | None) -> Pace:
    """Train one block on random images for some seconds as `task=zoo` does, many steps of all its models at a time.

    One step at a time would find the weights of every model outside the caches.
    """
    rows = models.head(1 if arch.is_module else config.zoo.block_size or MODELS_ON_CPU)
    batch = config.zoo.batch_size
    pixels = torch.randint(0, 256, (max(20, 10_000 // batch) * batch, *arch.image), dtype=torch.uint8)
    images = Images(pixels, torch.randint(0, arch.classes, (len(pixels),)))
    few = Images(pixels[:500], images.labels[:500])
    half = torch.full((arch.image[0],), 0.5)
    data = ImageData("random", arch.classes, arch.image, images, few, few, half, half, AugmentConfig(), "")
    engine = make_engine(
        config.engine, arch, rows, data, Protocol(batch, 1, config.zoo.schedule), config.trainer.device
    )

    def seconds(work: Callable[[], Any]) -> float:
        began = time.monotonic()
        work()
        engine.population()  # waits for the device
        return time.monotonic() - began

    try:
        engine.load(before_training(arch, rows, start))
        engine.start_epoch(1)
        engine.train(0, 1)  # compiles
        engine.evaluate(few)
        evaluated = seconds(partial(engine.evaluate, few)) / (len(few) * len(rows))
        pieces: list[float] = []
        done, size, began = 1, 1, time.monotonic()
        while done + size <= engine.steps_per_epoch and time.monotonic() - began < 4:
            took = seconds(partial(engine.train, done, done + size))
            pieces.append(took / (size * batch * len(rows)))
            done += size
            if took < 0.2 and done + 2 * size <= engine.steps_per_epoch and size < 100:  # too short a piece to measure
                size, pieces = 2 * size, []
        return Pace(min(pieces), max(pieces), evaluated)
    finally:
        engine.close()


def in_bytes(n: float) -> str:
    """A size to read."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
