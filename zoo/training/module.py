"""A block of models as a Lightning module."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from torch.utils.data import DataLoader

from zoo.base.errors import UserError
from zoo.engines.engine import Engine, Population, Scores
from zoo.store.block import Block
from zoo.training.loggers import curve_point, tell
from zoo.training.progress import PopulationProgress
from zoo.training.start import Start
from zoo.training.states import before_training, epoch_metrics, sparsity

CHUNKS = 50  # pieces an epoch is trained in, so that progress shows and an interrupt is heard


class PopulationModule(pl.LightningModule):
    """A block of models as one Lightning module: a training step is a piece of an epoch, done by the engine.

    Args:
        engine: what trains the block.
        block: where its states are committed.
        start: where its models come from; None: they are drawn.
        train_eval: also evaluate the training images in evaluation mode, every epoch.
        loggers: where the block's curves go.
        progress: what is told about every step.
    """

    def __init__(
        self,
        engine: Engine,
        block: Block,
        start: Start | None,
        train_eval: bool,
        loggers: list[Logger],
        progress: PopulationProgress,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.engine, self.block, self.start, self.train_eval = engine, block, start, train_eval
        self.curves, self.progress = loggers, progress
        self.epoch = 0

    def begin(self) -> None:
        """Load the block's last state, or that which it starts from, and commit this as epoch 0."""
        if self.block.epochs:
            self.epoch = self.block.epochs[-1]
            self.engine.load(_stored_population(self.block, self.epoch))
        else:
            self.engine.load(before_training(self.engine.arch, self.engine.models, self.start))
            self.commit(self.engine.evaluate(self.engine.data.train))
        self.progress.shown.prepared()

    def configure_optimizers(self) -> None:
        """None: every model has its own inside the engine."""

    def train_dataloader(self) -> DataLoader[Any]:
        """The steps of an epoch as ranges (first, last)."""
        steps = self.engine.steps_per_epoch
        size = math.ceil(steps / CHUNKS)
        return DataLoader([(i, min(i + size, steps)) for i in range(0, steps, size)], batch_size=None)  # type: ignore[arg-type]

    def on_train_epoch_start(self) -> None:
        """Let the engine prepare the next epoch."""
        self.epoch += 1
        self.engine.prune(self.epoch)
        self.engine.start_epoch(self.epoch)

    def training_step(self, steps: tuple[int, int]) -> None:
        """Train every model for a range of steps."""
        self.engine.train(*steps)
        self.progress.advance(self.block, (steps[1] - steps[0]) / self.engine.steps_per_epoch)

    def on_train_epoch_end(self) -> None:
        """Evaluate, and commit the epoch to the store."""
        self.commit(self.engine.finish_epoch())

    def commit(self, running: Scores) -> None:
        """Store the engine's models as the state of the current epoch, with their scores.

        `running` are the training scores: running averages in train mode, as published (in epoch 0, evaluation mode).
        """
        data, population = self.engine.data, self.engine.population()
        val, test = self.engine.evaluate(data.val), self.engine.evaluate(data.test)
        metrics = epoch_metrics(running, val, test) | sparsity(
            population.weights, self.engine.arch, self.engine.protocol
        )
        if self.train_eval:
            train = running if self.epoch == 0 else self.engine.evaluate(data.train)
            metrics |= {"train_eval_loss": train.loss, "train_eval_acc": train.accuracy}
        state = {"weights": population.weights}
        if population.buffers.shape[1]:
            state["buffers"] = population.buffers
        optimizer = {"first_moment": population.first_moment, "step": population.step}
        if (self.engine.models["optimizer"] == "adam").any():
            optimizer["second_moment"] = population.second_moment
        self.block.commit(self.epoch, state, metrics, optimizer)
        row = {f"block/{k}": v for k, v in curve_point(pd.DataFrame(metrics)).items()}
        row |= {"block/first_model": self.block.first, "block/epoch": self.epoch}
        tell(self.curves, lambda logger: logger.log_metrics(row, step=self.progress.states))
        self.progress.committed(self.block, float(np.mean(val.accuracy if len(data.val) else test.accuracy)))


def _stored_population(block: Block, epoch: int) -> Population:
    """A committed state with its optimiser state, to train on from."""
    state, optimizer = block.load(epoch), block.load_optimizer()
    weights = state["weights"]
    shapes = {"first_moment": weights.shape, "second_moment": weights.shape, "step": weights.shape[:1]}
    wrong = [name for name, array in optimizer.items() if array.shape != shapes.get(name)]
    if wrong or not {"first_moment", "step"} <= set(optimizer):
        raise UserError(
            f"{block.path} has no optimiser state from which training goes on ({', '.join(wrong) or 'it lacks some'}): delete it, "
            f"then {block.zoo.redo} to redo its models"
        )
    return Population(
        weights,
        state.get("buffers", np.zeros((len(weights), 0), np.float32)),
        optimizer["first_moment"],
        optimizer.get("second_moment", np.zeros_like(weights)),
        optimizer["step"],
    )
