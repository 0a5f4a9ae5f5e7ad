"""Lightning's `Trainer.fit` as every training here uses it."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from zoo.base.console import Progress

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # its remarks are about things that we do ourselves


class _Told(pl.Callback):
    """Every step counts as one of a progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(self, *_: Any) -> None:
        """A step is done."""
        self.progress.advance()


def fit(
    module: pl.LightningModule,
    data: Any = None,
    *,
    accelerator: str,
    epochs: int,
    progress: Progress | None = None,
    **options: Any,
) -> None:
    """Train a module in this process on one device; what is stored is stored by the module itself.

    Args:
        module: what is trained.
        data: a loader or data module; None: the module's own.
        accelerator: "cpu" or "gpu".
        epochs: how many.
        progress: in steps; None: the module tells its own.
        options: further ones of `pytorch_lightning.Trainer`.

    Raises:
        KeyboardInterrupt: on Ctrl-C.
    """
    with warnings.catch_warnings():
        # Tensors are in memory and some modules are their own optimisers: advice on both does not apply.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # as on any login node
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=epochs,
            plugins=[LightningEnvironment()],  # in a SLURM job, too: who submitted it requeues it, not Lightning
            enable_checkpointing=False,  # ours are exact, written whole or not at all, and no pickles
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Told(progress)] if progress else [],
            **{"logger": False, **options},
        )
        try:
            trainer.fit(module, data)
        except SystemExit as stop:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from stop
