"""Fine-tuning: a zoo whose models begin as those of a stored zoo or population, on the same or on other images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from zoo.base.errors import UserError, naming
from zoo.config.sections import Config
from zoo.engines.engine import Population, untrained
from zoo.networks.architecture import Architecture
from zoo.store.block import Block
from zoo.store.tables import absent
from zoo.store.zoo import Zoo

TRAINING_FACTORS = ("optimizer", "lr", "weight_decay", "dropout")  # how a model is trained, not what it is


class Start:
    """The stored models that a config starts from (Hyper-Representations as Generative Models, sections 4.2 and 4.3).

    They are trained as the zoo of the config is (a factor of which its grid lists several values stays what it was),
    with fresh optimisers and in the orders of images that their seeds give from epoch 1 on (those of imported models whose
    seed is not known: their numbers). Epoch 0 is their state as it was stored.

    Args:
        config: with `zoo.start.zoo`.
        arch: the architecture that is trained.

    Raises:
        UserError: if there is no such zoo or state, it is unfinished, or it is of another architecture.
    """

    def __init__(self, config: Config, arch: Architecture) -> None:
        start = config.zoo.start
        assert start.zoo is not None
        with naming("zoo.start.zoo"):
            self.zoo = Zoo.open(Path(config.paths.root) / "zoos" / start.zoo, config.arch.module)
        if not self.zoo.finished:
            raise UserError(f"zoo.start.zoo: {start.zoo} is not finished; {self.zoo.redo}")
        self.epoch = self.zoo.epochs[-1] if start.epoch is None else start.epoch
        if self.epoch not in self.zoo.epochs:
            raise UserError(
                f"zoo.start.epoch: got {self.epoch}, but {start.zoo} has the epochs 0 to {self.zoo.epochs[-1]}"
            )
        there, self.arch = self.zoo.architecture, arch
        self.adds_variances = arch.variational and not there.variational
        if there.to_dict() != (arch.plain() if self.adds_variances else arch).to_dict():
            raise UserError(f"zoo.start.zoo: {start.zoo} has models of {_words(there)}, but asked are {_words(arch)}")
        rows = self.zoo.models.drop(columns=["status", "diverged_epoch", "start_model"], errors="ignore")
        states = self.zoo.metrics[self.zoo.metrics["epoch"] == self.epoch]
        rows = rows[~absent(states)]  # partial models begin where they are on record
        rows = rows if start.split is None else rows[rows["split"] == start.split]
        if not len(rows) or len(rows) < (config.zoo.models or 0):
            of = f" of split {start.split}" if start.split else ""
            raise UserError(f"zoo.models: got {config.zoo.models}, but {start.zoo} has {len(rows)} models{of}")
        rows = rows.head(config.zoo.models or len(rows))
        rows = rows.assign(start_model=rows["model_id"], model_id=range(len(rows)))
        for factor in TRAINING_FACTORS:
            values = getattr(config.zoo.grid, factor)
            if len(values) == 1:
                rows[factor] = values[0]
        if start.seed is not None:
            rows["seed"] = start.seed
        rows["seed"] = rows["seed"].where(rows["seed"] >= 0, rows["start_model"])  # not known of some imported models
        _refuse_unknown(rows, arch, start.zoo)
        self.models: pd.DataFrame = rows.reset_index(drop=True)
        first = hashlib.sha256(self.population(self.models.head(1)).weights.tobytes()).hexdigest()
        self.identity: dict[str, Any] = {
            "zoo": start.zoo, "epoch": self.epoch, "split": start.split, "seed": start.seed,
            "dataset": self.zoo.description["dataset"]["name"], "first_model": first,
        }  # fmt: skip

    @property
    def about(self) -> str:
        """A sentence for the card."""
        there = self.zoo.description
        source = f"Fine-tuned: epoch 0 is epoch {self.epoch} of {self.zoo.name} (images: {there['dataset']['name']})."
        return " ".join([source, *([there["about"]] if "about" in there else [])])

    def population(self, rows: pd.DataFrame) -> Population:
        """Some of `models` before training: the stored weights and buffers, with fresh optimisers.

        Where variances are learnt for models that have none, these are at their start.
        """
        weights = self.zoo.weights(models=rows["start_model"], epochs=[self.epoch])[:, 0]
        if self.adds_variances:
            weights = self.arch.with_variances(torch.tensor(weights)).numpy()
        if not self.zoo.buffer_layout:
            return untrained(weights)
        return untrained(weights, self.zoo.buffers(models=rows["start_model"], epochs=[self.epoch])[:, 0])

    def check(self, block: Block) -> None:
        """Refuse to go on with models that began as other networks than are stored now: their zoo was made again since.

        Raises:
            UserError: with the first of them.
        """
        rows = self.models.iloc[block.first : block.last + 1]
        if not block.epochs or not len(rows):
            return
        began, now = block.load(0)["weights"][: len(rows)], self.population(rows).weights
        if (others := (began != now) & ~(np.isnan(began) & np.isnan(now))).any():
            row = rows.iloc[int(others.any(axis=1).argmax())]
            raise UserError(
                f"model {row['model_id']} of zoo {block.zoo.name!r} began as another network than model {row['start_model']} of "
                f"zoo {self.zoo.name!r} is at epoch {self.epoch}, which was made again since: delete {block.zoo.path}, or choose "
                "another zoo.name (sparsify.twin of a twin)"
            )


def _refuse_unknown(rows: pd.DataFrame, arch: Architecture, name: str) -> None:
    """Imported models may not tell how they were trained; a single value in the grid says it for all."""
    for factor in TRAINING_FACTORS:
        if unknown := int(rows[factor].isna().sum()):
            raise UserError(
                f"zoo.start.zoo: of {unknown} models of {name} the {factor} is not known: give zoo.grid.{factor}=[ONE VALUE] "
                "for all of its models"
            )
    if len(strange := rows.loc[~arch.runs(rows["activation"]), "activation"].fillna("none").unique()):
        raise UserError(
            f"zoo.start.zoo: models of {name} have an activation that cannot be trained: {', '.join(sorted(strange))}"
        )


def _words(arch: Architecture) -> str:
    return f"arch={arch.name} for images of {'×'.join(map(str, arch.image))} and {arch.classes} classes"
