"""The spec of a zoo: a grid of generating factors times seeds, as a table with one row a model.

The spec alone regenerates the zoo: rows, seeds and splits follow from the config, on any machine.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from zoo.architecture import ACTIVATIONS
from zoo.initialization import METHODS
from zoo.pruning import PrunedConfig
from zoo.schema import FACTORS, SCHEDULES
from zoo.start import StartConfig

OPTIMIZERS = ("adam", "sgd")

# 70/15/15 by model, dealt out in rounds of 20 consecutive rows: so every prefix of a zoo is split in proportion, a zoo
# that grows keeps its splits, and each published size is divided exactly (1000 -> 700/150/150).
SPLIT_ROUND = {"train": 14, "val": 3, "test": 3}


@dataclass
class GridConfig:
    """The generating factors; a zoo holds every combination of the listed values."""

    init: list[str] = field(metadata={"choices": tuple(METHODS)})
    activation: list[str] = field(metadata={"choices": tuple(ACTIVATIONS)})
    optimizer: list[str] = field(metadata={"choices": OPTIMIZERS})
    lr: list[float] = field(metadata={"above": 0.0})  # with schedule=onecycle: the highest rate of the cycle
    weight_decay: list[float] = field(metadata={"min": 0.0})  # L2, added to the gradient
    dropout: list[float] = field(metadata={"min": 0.0, "below": 1.0})


@dataclass
class SeedsConfig:
    """How the models of one combination get their seeds. A model's seed fixes init, batch order and dropout."""

    mode: str = field(
        metadata={"choices": ("range", "drawn")}
    )  # range: 1..count; drawn: from [0, 10^6), each model own
    count: int = field(metadata={"min": 1})  # models a combination
    drawn_from: int = field(metadata={"min": 0})  # the seed from which mode=drawn draws: the zoo can be regenerated


@dataclass
class ZooConfig:
    """`zoo=`: what is trained, how long, and how many of it."""

    name: str  # the folder of the zoo under <paths.root>/zoos
    kind: str = field(metadata={"choices": ("seed", "hyp10r", "hyp10f")})
    grid: GridConfig
    seeds: SeedsConfig
    batch_size: int = field(metadata={"min": 1})
    epochs: int = field(metadata={"min": 0})
    schedule: str = field(metadata={"choices": SCHEDULES})  # of the learning rate, within a model's training
    models: int | None = field(metadata={"min": 1})  # the first rows of the spec; null: all of them
    split_seed: int = field(metadata={"min": 0})  # deals the models out to train / val / test
    block_size: int | None = field(metadata={"min": 1})  # models a file; at most one epoch of a block is lost
    shard: str | None  # "3/64": only the third of 64 ranges of models, beside others that train the rest
    start: StartConfig
    divergence_rate: float = field(
        metadata={"min": 0.0}
    )  # arch.variational: what its weight in the loss grows by, an epoch
    pruned: PrunedConfig
    published: str | None  # what the preset stands for in the paper; overrides may depart from it
    license: str | None  # that the card names: of the zoo, which is yours to choose


def spec_size(config: ZooConfig) -> int:
    """How many models the whole spec has (whatever `config.models` says)."""
    points = 1
    for factor in FACTORS:
        points *= len(getattr(config.grid, factor))
    return points * config.seeds.count


def model_table(config: ZooConfig) -> pd.DataFrame:
    """The models of a zoo.

    Rows go seed by seed; within a round of seeds, every point of the grid comes once, in one shuffled order that is the
    same in every round. So the first rows of any number (`zoo.models`) are spread over the grid.

    Returns:
        One row a model, the first `config.models` of the spec: model_id (0, 1, …), seed, init, activation, optimizer,
        lr, weight_decay, dropout, split ("train", "val" or "test").
    """
    points = list(itertools.product(*(getattr(config.grid, factor) for factor in FACTORS)))
    # RandomState, because numpy promises its stream never to change.
    shuffled = np.random.RandomState(config.split_seed).permutation(len(points))
    rows = [points[i] for _ in range(config.seeds.count) for i in shuffled]
    table = pd.DataFrame(rows, columns=list(FACTORS)).astype({"lr": float, "weight_decay": float, "dropout": float})
    if config.seeds.mode == "drawn":
        seeds = np.random.RandomState(config.seeds.drawn_from).randint(0, 10**6, size=len(rows))
    else:
        seeds = np.repeat(np.arange(1, config.seeds.count + 1), len(points))
    table.insert(0, "seed", seeds.astype(np.int64))
    table.insert(0, "model_id", np.arange(len(rows), dtype=np.int64))
    table["split"] = deal_splits(len(rows), config.split_seed)
    return table.iloc[: config.models].reset_index(drop=True)


def shard_of(models: int, unit: int, shard: str | None) -> range:
    """The ids of the models of one shard of a zoo.

    Shards are ranges of whole units, as equal as can be; so blocks of a unit's size are the same in any number of shards.
    With fewer units than shards, some are empty.

    Args:
        models: of the whole zoo.
        unit: models that stay together.
        shard: "3/64": the third of 64; None: all models.
    """
    part, parts = map(int, (shard or "1/1").split("/"))
    units = -(-models // unit)
    first, stop = ((part - 1) * units // parts, part * units // parts)
    return range(first * unit, min(stop * unit, models))


def shard_problems(shard: str | None) -> list[str]:
    """Whether `zoo.shard` can be read."""
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard or "1/1")
    if found and int(found[1]) <= int(found[2]):
        return []
    return [f"zoo.shard: got {shard!r}, but it is PART/PARTS, e.g. 3/64 for the third of 64"]


def deal_splits(n: int, seed: int) -> np.ndarray:
    """The split of each of `n` models, in rounds (see SPLIT_ROUND)."""
    random = np.random.RandomState(seed)
    names = np.repeat(list(SPLIT_ROUND), list(SPLIT_ROUND.values()))
    rounds = -(-n // len(names))
    return np.concatenate([random.permutation(names) for _ in range(rounds)])[:n].astype(object)
