"""The configuration of a zoo as dataclasses: what a value means, of which kind it is, and between which limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from zoo.base.lazy import torch
from zoo.base.names import SCHEDULES
from zoo.config.spec import ZooConfig
from zoo.engines.choice import EngineConfig
from zoo.images.config import DatasetConfig
from zoo.networks.architecture import ArchConfig


@dataclass
class TaskConfig:
    """`task=`: what to do."""

    name: str
    check: list[str]  # dotted paths of functions that say what forbids it; called before anything starts
    run: list[str]  # dotted paths of the functions that do it, one after another; called with the whole configuration
    help: str
    filed_under: list[str] = field(default_factory=list)  # keys whose values tell its results from others'
    made_of: list[str] = field(default_factory=list)  # groups that decide what the results are


@dataclass
class TrainerConfig:
    """`trainer=`: the hardware."""

    accelerator: str = field(metadata={"choices": ("cpu", "gpu")})

    @property
    def device(self) -> torch.device:
        """Where tensors are."""
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")


@dataclass
class LoggerConfig:
    """`logger=`: where curves go besides the zoo itself."""

    name: str = field(metadata={"choices": ("csv", "wandb", "wandb_offline", "none")})
    project: str  # of W&B
    entity: str | None  # of W&B: your team; null: your default
    sweep: str | None  # a tag of W&B runs
    artifact: str = field(metadata={"choices": ("reference", "upload", "none")})  # of a finished zoo, in W&B


@dataclass
class MetricsConfig:
    """`metrics.…`: what is measured at every epoch beyond loss and accuracy on train (running), val and test."""

    train_eval: bool  # also loss and accuracy of the whole training set in evaluation mode (one more pass an epoch)


@dataclass
class PathsConfig:
    """`paths.…`: folders; relative ones are taken from where the command is started."""

    root: str  # everything a run writes
    data: str  # image files, downloaded once
    system_data: list[str]  # folders that are looked into before anything is downloaded


# Options of each kind.
KINDS = {"vd": {"divergence_rate"}, "magnitude": {"share", "steps"}}


@dataclass
class SparsifyConfig:
    """`sparsify=`: how twins become sparse."""

    name: str = field(metadata={"choices": tuple(KINDS)})
    twin: str | None  # the name of the zoo that comes of it; null: <zoo>_<name>
    epoch: int | None = field(metadata={"min": 0})  # see `start_epoch`
    epochs: int = field(metadata={"min": 0})
    shared_seed: bool
    lr: float | None = field(metadata={"above": 0.0})
    schedule: str | None = field(metadata={"choices": SCHEDULES})
    divergence_rate: float | None = field(metadata={"min": 0.0})
    share: float | None = field(metadata={"above": 0.0, "below": 1.0})
    steps: int | None = field(metadata={"min": 1})


@dataclass
class PopulationConfig:
    """`population.…`: the networks that task=sample draws."""

    name: str  # the folder under <paths.root>/zoos that they are stored in
    models: int = field(metadata={"min": 1})
    seed: int = field(metadata={"min": 0})  # of the draws


@dataclass(kw_only=True)
class Config:
    """Everything `run.py` composes."""

    task: TaskConfig
    dataset: DatasetConfig
    arch: ArchConfig
    zoo: ZooConfig
    engine: EngineConfig
    trainer: TrainerConfig
    sparsify: SparsifyConfig
    population: PopulationConfig
    logger: LoggerConfig
    metrics: MetricsConfig
    paths: PathsConfig
    source: str | None  # of task=import: the folder of a downloaded zoo
    format: str = field(metadata={"choices": ("raw", "hub", "croissant", "csv")})  # of task=export
    seed: int = field(metadata={"min": 0})
    overrides: list[str] = field(default_factory=list)  # the words of the command line; set by run.py
