"""The spec of a zoo: a grid of generating factors times seeds, as a table with one row a model.

The spec alone regenerates the zoo: rows, seeds and splits follow from the config, on any machine.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from zoo.base.names import FACTORS
from zoo.config.spec import ZooConfig

# 70/15/15 by model, dealt out in rounds of 20 consecutive rows: so every prefix of a zoo is split in proportion, a zoo
# that grows keeps its splits, and each published size is divided exactly (1000 -> 700/150/150).
SPLIT_ROUND = {"train": 14, "val": 3, "test": 3}


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


def deal_splits(n: int, seed: int) -> np.ndarray:
    """The split of each of `n` models, in rounds (see SPLIT_ROUND)."""
    random = np.random.RandomState(seed)
    names = np.repeat(list(SPLIT_ROUND), list(SPLIT_ROUND.values()))
    rounds = -(-n // len(names))
    return np.concatenate([random.permutation(names) for _ in range(rounds)])[:n].astype(object)
