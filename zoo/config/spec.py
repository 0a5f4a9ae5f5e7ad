"""`zoo=`: what is trained, a grid of generating factors times seeds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from zoo.base.names import FACTORS, SCHEDULES, SPLITS
from zoo.networks.initialization import METHODS
from zoo.networks.layers import ACTIVATIONS


@dataclass
class PrunedConfig:
    """`zoo.pruned.…`: how many weights are pruned, and when."""

    share: float = field(metadata={"min": 0.0, "below": 1.0})  # of the weights; 0: none
    epochs: int = field(metadata={"min": 1})  # see `schedule`


OPTIMIZERS = ("adam", "sgd")


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


def shard_problems(shard: str | None) -> list[str]:
    """Whether `zoo.shard` can be read."""
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard or "1/1")
    if found and int(found[1]) <= int(found[2]):
        return []
    return [f"zoo.shard: got {shard!r}, but it is PART/PARTS, e.g. 3/64 for the third of 64"]


@dataclass
class StartConfig:
    """`zoo.start.…`: whose models are trained on, in place of fresh ones."""

    zoo: str | None  # the name of a stored zoo or population; null: fresh models
    epoch: int | None = field(metadata={"min": 0})  # which of its states; null: the last
    split: str | None = field(metadata={"choices": SPLITS})  # only its models of this split; null: all
    seed: int | None = field(
        metadata={"min": 0}
    )  # one order of images for all models, as published; null: each its own
