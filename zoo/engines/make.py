"""The engine of a configuration."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from zoo.engines.choice import EngineConfig, choose
from zoo.engines.engine import Engine, Protocol
from zoo.engines.fused_engine import FusedEngine
from zoo.engines.loop_engine import LoopEngine
from zoo.engines.torch_engine import TorchEngine
from zoo.images.config import augments
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture

CLASSES: dict[str, type[Engine]] = {"fused": FusedEngine, "torch": TorchEngine, "loop": LoopEngine}


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
    return CLASSES[name](arch, models, data, protocol, device, config.threads, **own)
