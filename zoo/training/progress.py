"""The progress of a zoo."""

from __future__ import annotations

import pandas as pd

from zoo.base.console import Progress
from zoo.store.block import Block


class PopulationProgress:
    """The progress of a zoo, in models × epochs, with the mean accuracy of the models at work.

    Args:
        models: the zoo's models.
        epochs: the last epoch.
        what: is done with them.
    """

    def __init__(self, models: pd.DataFrame, epochs: int, what: str = "training") -> None:
        self.states = 0  # committed in this run: the step of the block curves
        self.shown = Progress(what, len(models) * epochs, "models × epochs")

    def __enter__(self) -> PopulationProgress:
        self.shown.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.shown.__exit__()

    def skip(self, block: Block) -> None:
        """Count what a block has already."""
        self.shown.skip(len(block.models) * max(0, len(block.epochs) - 1))

    def advance(self, block: Block, epochs: float) -> None:
        """Count a piece of an epoch of a block."""
        self.shown.advance(len(block.models) * epochs)

    def committed(self, block: Block, accuracy: float) -> None:
        """Tell that an epoch of a block is stored; `accuracy` is the mean over its models, on validation images."""
        self.states += 1
        self.shown.advance(0, f"mean accuracy of models {block.first}-{block.last}: {100 * accuracy:.1f} %")
