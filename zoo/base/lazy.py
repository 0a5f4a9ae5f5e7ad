"""Libraries that take a second or more to import: they are imported when they are first used, which no help text does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from scipy import stats
    from scipy.spatial import distance
    from torch import nn
else:

    class Lazy:
        """A module that is imported with the first attribute that is asked of it."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(import_module(self._name), attribute)

    np, torch, nn, F = map(Lazy, ("numpy", "torch", "torch.nn", "torch.nn.functional"))
    stats, distance = map(Lazy, ("scipy.stats", "scipy.spatial.distance"))

__all__ = ["F", "distance", "nn", "np", "stats", "torch"]
