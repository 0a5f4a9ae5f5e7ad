"""The engine of a configuration."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pandas as pd
import torch

from zoo.engines.choice import EngineConfig, choose
from zoo.engines.engine import Engine, Protocol
from zoo.images.config import augments
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture

CLASSES = {"fused": "FusedEngine", "torch": "TorchEngine", "loop": "LoopEngine"}


def engine_class(name: str) -> type[Engine]:
    """The class of an engine; only the one that is asked for is imported: the compiler of the fused one takes a second."""
    found: type[Engine] = getattr(import_module(f"zoo.engines.{name}_engine"), CLASSES[name])
    return found


def make_engine(
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
    return engine_class(name)(arch, models, data, protocol, device, config.threads, **own)
