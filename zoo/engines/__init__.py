"""Engines train and evaluate a block of models together; they differ in speed, not in the science."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from zoo.architecture import Architecture
from zoo.engines.engine import Engine, EngineConfig, Population, Protocol, Scores, initial_population, untrained
from zoo.engines.fused_engine import FusedEngine
from zoo.engines.loop_engine import LoopEngine
from zoo.engines.torch_engine import TorchEngine
from zoo.images import ImageData, augments

__all__ = [
    "ENGINES",
    "Engine",
    "EngineConfig",
    "Population",
    "Protocol",
    "Scores",
    "choose",
    "initial_population",
    "make",
    "untrained",
]

ENGINES: dict[str, type[Engine]] = {"fused": FusedEngine, "torch": TorchEngine, "loop": LoopEngine}  # the fastest first


def choose(name: str, arch: Architecture, accelerator: str, augmented: bool) -> str:
    """The engine that `engine.name` stands for: with `auto`, the fastest that can do it (see `Engine.refusal`)."""
    if name != "auto":
        return name
    return next(n for n, engine in ENGINES.items() if engine.refusal(arch, accelerator, augmented) is None)


def make(
    config: EngineConfig,
    arch: Architecture,
    models: pd.DataFrame,
    data: ImageData,
    protocol: Protocol,
    device: torch.device | str,
) -> Engine:
    """The engine of a config for one block of models (see `Engine` for the arguments)."""
    name = choose(config.name, arch, "cpu" if torch.device(device).type == "cpu" else "gpu", augments(data.augment))
    own: dict[str, Any] = {"lanes": config.lanes} if name == "torch" else {}
    return ENGINES[name](arch, models, data, protocol, device, config.threads, **own)
