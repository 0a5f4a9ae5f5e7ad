"""`task=zoo` and `task=plan`: from a configuration to a finished zoo.

Read top-down: `train_zoo` makes or continues the store, and for each block of models lets Lightning drive an engine
through the epochs that are still missing; every epoch is committed to the store before the next begins.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from rich.table import Table
from torch.utils.data import DataLoader

from zoo import Zoo, engines
from zoo.architecture import Architecture
from zoo.config import MOST_NAMES, Config, architecture, training_conditions
from zoo.console import Progress, console, duration
from zoo.engines import Engine, Population, Protocol, Scores
from zoo.engines.engine import ADAM_BETAS, ADAM_EPS, MOMENTUM
from zoo.engines.torch_engine import LANES
from zoo.errors import UserError
from zoo.fitting import fit
from zoo.images import AugmentConfig, ImageData, Images, load_images
from zoo.initialization import BIAS
from zoo.provenance import Provenance
from zoo.pruning import schedule, zero_shares
from zoo.schema import SCORES
from zoo.spec import model_table, shard_of, spec_size
from zoo.start import Start
from zoo.store import CLASS_ACCURACY, Block

log = logging.getLogger(__name__)

MODELS_ON_CPU, MODELS_ON_GPU = 100, 1000  # models a block; a kill costs at most one epoch of one block
CHUNKS = 50  # pieces an epoch is trained in, so that progress shows and an interrupt is heard
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OF_THIS_MACHINE = ("paths.", "logger", "engine.threads", "zoo.shard")  # overrides that change nothing of what is made


def train_zoo(config: Config, made_by: str | None = None) -> None:
    """Train the zoo of `config` to its end, whatever of it is there already, and print a summary.

    Of a zoo that is trained in shards (`zoo.shard`), whoever trains the last missing model finishes it.

    Args:
        config: of the zoo.
        made_by: the command that is recorded for making it again; None: that of the config.

    Raises:
        UserError: if the image data cannot be had, the store holds another zoo under this name, or the models that it began
            with (`zoo.start.zoo`) are others now.
    """
    arch, protocol = architecture(config), training_protocol(config)
    path = Path(config.paths.root) / "zoos" / config.zoo.name
    Zoo.drop_damaged_manifest(path)
    if _imported(path, config, arch):
        console.print(f"Zoo {config.zoo.name} was trained by others and imported: there is nothing to train.")
        print_summary(open_zoo(config, part=True))
        return
    models, start = zoo_models(config, arch)
    there = _settle_engine(config, arch, path)
    if there and (not there.finished or len(models) > there.n_models or config.zoo.epochs > there.epochs[-1]):
        _refuse_another_processor(config, there)
    data = read_images(config)
    device = config.trainer.device
    data = data.to(device)
    description = describe(config, arch, data, start)
    if there:  # what is on record stays
        description["engine"].pop("processor", None)
        if "processor" in there.description["engine"]:
            description["engine"]["processor"] = there.description["engine"]["processor"]
    zoo = Zoo.create(path, description | {"command": made_by or description["command"]}, models)
    loggers: list[Logger] | None = None
    provenance = Provenance(path, device)
    own = shard_of(len(models), shard_unit(config), config.zoo.shard)
    if not own:
        console.print(
            f"Shard {config.zoo.shard} is empty: the {len(models)} models of zoo {zoo.name} are cut between blocks of "
            f"{shard_unit(config)} (zoo.block_size).",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    with PopulationProgress(models.iloc[own.start : own.stop], config.zoo.epochs) as progress:
        for block in zoo.blocks(config.zoo.block_size or models_a_block(arch, data), own):
            with block:  # checks what the block has: damaged files cost it all its epochs
                progress.skip(block)
                if start:
                    start.check(block)
                if block.pending and block.last >= len(models):
                    raise UserError(
                        f"models {block.first}-{block.last} of zoo {zoo.name!r} are to be trained again: ask for all of its "
                        f"{zoo.n_models} models (zoo.models={zoo.n_models})"
                    )
                if block.pending:
                    if there:
                        _refuse_another_processor(config, there)  # to train a damaged block of a finished zoo again
                    loggers = zoo_loggers(config, zoo) if loggers is None else loggers
                    train_block(
                        config, arch, models, protocol, start, data, device, block, loggers, progress, provenance
                    )
    if config.zoo.shard and zoo.pending:
        console.print(
            f"Shard {config.zoo.shard} of zoo {zoo.name} ({len(own)} models) is done; {zoo.pending} models of other shards "
            "lack epochs.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        close(loggers or [])
        return
    finished = zoo.finished
    zoo.finalise()
    zoo = Zoo.open(path, config.arch.module)
    if not finished:  # now it is, perhaps by other shards' work
        loggers = zoo_loggers(config, zoo) if loggers is None else loggers
        log_population(zoo, loggers, config.logger.artifact)
    close(loggers or [])
    print_summary(zoo)


def _imported(path: Path, config: Config, arch: Architecture) -> bool:
    """Whether task=import has put a zoo of this name, architecture and dataset there."""
    if config.zoo.start.zoo is not None or not (path / "zoo.json").exists():
        return False
    there = Zoo.open(path)
    dataset = there.description["dataset"].get("name")
    return there.imported and there.description["arch"] == arch.to_dict() and dataset == config.dataset.name


def shard_unit(config: Config) -> int:
    """How many models stay together however a zoo is cut into shards: a block, as far as the config tells its size."""
    return config.zoo.block_size or (MODELS_ON_CPU if config.trainer.accelerator == "cpu" else MODELS_ON_GPU)


def zoo_models(config: Config, arch: Architecture) -> tuple[pd.DataFrame, Start | None]:
    """The models of a config, one row each, and where they start from; None: they are drawn."""
    if config.zoo.start.zoo is None:
        return model_table(config.zoo), None
    start = Start(config, arch)
    return start.models, start


def read_images(config: Config) -> ImageData:
    """The images of a config, from its folders or downloaded. Raises UserError if they cannot be had."""
    folders = [Path(folder) for folder in config.paths.system_data]
    return load_images(config.dataset, config.arch.protocol, config.arch.image_size, Path(config.paths.data), folders)


def open_zoo(config: Config, part: bool = False) -> Zoo:
    """The finished zoo of a config.

    Args:
        config: which.
        part: whether only its first `zoo.models` may be wanted.

    Raises:
        UserError: if there is none, with the command that makes it, or a part is asked for.
    """
    path = Path(config.paths.root) / "zoos" / config.zoo.name
    if not (path / "zoo.json").exists():
        raise UserError(f"zoo.name: there is no zoo {config.zoo.name!r} under {path.parent}; {_advice(config)}")
    zoo = Zoo.open(path, config.arch.module)
    if not zoo.finished:
        raise UserError(f"zoo {config.zoo.name!r} is not finished: {zoo.redo} to finish it")
    if not part and (config.zoo.models or zoo.n_models) < zoo.n_models:
        raise UserError(
            f"zoo.models: got {config.zoo.models}, but zoo {zoo.name!r} has {zoo.n_models} models, and task={config.task.name} "
            "takes all of them: leave it out, or train fewer under another zoo.name"
        )
    return zoo


def _advice(config: Config) -> str:
    """What to do where the zoo of a config is not there: a preset's can be made; of another name nobody knows how."""
    if not any(word.startswith("zoo.name=") for word in config.overrides):
        kept = [word for word in config.overrides if word.startswith(("zoo", "dataset", "arch", "paths", "experiment"))]
        return f"make it with `{' '.join(['python run.py', *map(shlex.quote, kept)])}`"
    there = sorted(path.parent.name for path in (Path(config.paths.root) / "zoos").glob("*/zoo.json"))
    return f"check the name; there are {', '.join(there[:MOST_NAMES]) or 'none'}"


def zoo_images(config: Config, zoo: Zoo) -> ImageData:
    """The images that a zoo was trained on.

    Raises:
        UserError: if those of the config are others.
    """
    data = read_images(config)
    dataset = zoo.description["dataset"]
    theirs = dataset["fingerprint"]
    same = dataset["name"] == config.dataset.name and dataset.get("train_size") == config.dataset.train_size
    if theirs is None and same:
        return data  # an imported zoo: nobody knows which images exactly
    if data.fingerprint != theirs:
        asked = {key: getattr(config.dataset, key) for key in ("name", "train_size", "split_seed")}
        was, now = (", ".join(f"{key}={some.get(key)}" for key in asked) for some in (dataset, asked))
        raise UserError(
            f"zoo {zoo.name!r} was trained on other images (dataset: {was}) than the configuration gives ({now}): use the zoo's "
            "own dataset overrides"
        )
    return data


def models_a_block(arch: Architecture, data: ImageData) -> int:
    """How many models are trained together and share a file, unless `zoo.block_size` says it.

    On a GPU up to `MODELS_ON_GPU`, but no more than fill half of the free memory: each has an order of the images
    (int64), and weights, gradient, two moments and as much again for what a step makes of them (float32).
    """
    device = data.train.pixels.device
    if device.type == "cpu":
        return MODELS_ON_CPU
    a_model = 8 * len(data.train) + 8 * 4 * arch.n_parameters
    return max(1, min(MODELS_ON_GPU, torch.cuda.mem_get_info(device)[0] // 2 // a_model))


def train_block(
    config: Config,
    arch: Architecture,
    models: pd.DataFrame,
    protocol: Protocol,
    start: Start | None,
    data: ImageData,
    device: torch.device,
    block: Block,
    loggers: list[Logger],
    progress: PopulationProgress,
    provenance: Provenance,
) -> None:
    """Train the missing epochs of one block of models, from its last committed state on."""
    rows, there = models.iloc[block.first : block.last + 1], len(block.epochs)
    engine = engines.make(config.engine, arch, rows, data, protocol, device)
    module = PopulationModule(engine, block, start, config.metrics.train_eval, loggers, progress)
    try:
        module.begin()
        if block.pending:
            fit(module, accelerator=config.trainer.accelerator, epochs=len(block.pending))
    finally:
        provenance.add(engine, (len(block.epochs) - there) * len(rows))
        engine.close()


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

    def train_dataloader(self) -> DataLoader:
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


def before_training(arch: Architecture, rows: pd.DataFrame, start: Start | None) -> Population:
    """The models of some rows as they are at epoch 0."""
    return engines.initial_population(arch, rows) if start is None else start.population(rows)


def epoch_metrics(train: Scores, val: Scores, test: Scores) -> dict[str, np.ndarray]:
    """The metrics that every epoch of every zoo has: losses, accuracies, and test accuracy by class; [models] each."""
    metrics: dict[str, np.ndarray] = {}
    for split, scores in (("train", train), ("val", val), ("test", test)):
        metrics |= {f"{split}_loss": scores.loss, f"{split}_acc": scores.accuracy}
    return metrics | {f"{CLASS_ACCURACY}{c}": column for c, column in enumerate(test.class_accuracy.T)}


def sparsity(weights: np.ndarray, arch: Architecture, protocol: Protocol) -> dict[str, np.ndarray]:
    """The metrics of a zoo whose weights are dropped or pruned: their share, of all and of each layer; else none.

    NaN for a model that is not finite.
    """
    found: dict[str, np.ndarray] = {}
    if arch.variational:
        found = {name: share.numpy() for name, share in arch.sparsity(torch.tensor(weights)).items()}
    elif protocol.pruned:
        found = zero_shares(weights, arch)
    finite = np.isfinite(weights).all(axis=1)
    return {name: np.where(finite, share, np.nan) for name, share in found.items()}


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


# ------------------------------------------------------------------------------------------ what identifies a zoo


def training_protocol(config: Config) -> Protocol:
    """How every model is trained."""
    zoo = config.zoo
    pruned = schedule(zoo.pruned.share, zoo.pruned.epochs) if zoo.pruned.share else ()
    return Protocol(zoo.batch_size, zoo.epochs, zoo.schedule, zoo.divergence_rate, pruned)


def describe(config: Config, arch: Architecture, data: ImageData, start: Start | None = None) -> dict[str, Any]:
    """What zoo.json records: all that a model depends on, and nothing of where and when it was trained."""
    zoo = config.zoo
    metrics = [*SCORES]
    metrics += ["train_eval_loss", "train_eval_acc"] if config.metrics.train_eval else []
    metrics += list(sparsity(np.zeros((1, arch.n_parameters), np.float32), arch, training_protocol(config)))
    protocol: dict[str, Any] = {"batch_size": zoo.batch_size, "schedule": zoo.schedule, "loss": "cross_entropy"}
    if zoo.schedule == "onecycle":
        protocol["epochs"] = zoo.epochs  # the cycle spans them: a longer training is another one
    if arch.variational:
        protocol["divergence_rate"] = zoo.divergence_rate
    if zoo.pruned.share:
        protocol["pruned"] = asdict(zoo.pruned)
    device = data.train.pixels.device
    engine: dict[str, Any] = {"name": config.engine.name, "device": device.type}
    if config.engine.name == "torch":
        engine["lanes"] = config.engine.lanes
    if (processor := engines.ENGINES[config.engine.name].processor(device)) is not None:
        engine["processor"] = processor
    spec = {"kind": zoo.kind, "grid": asdict(zoo.grid), "seeds": asdict(zoo.seeds), "split_seed": zoo.split_seed}
    return {
        "name": zoo.name,
        "published": None if start else zoo.published,
        "license": zoo.license,
        "spec": {"kind": "fine_tuned", "start": start.identity} if start else spec,
        **({"about": start.about} if start else {}),
        "protocol": protocol,
        "arch": arch.to_dict(),
        "dataset": describe_images(config, data),
        "engine": engine,
        "epochs": zoo.epochs,
        "metrics": metrics + [f"{CLASS_ACCURACY}{c}" for c in range(data.classes)],
        "constants": CONSTANTS,
        "versions": versions(),
        "command": command(config, "task"),
    }


def describe_images(config: Config, data: ImageData) -> dict[str, Any]:
    """What zoo.json records of the images, as read with `read_images`."""
    rules = config.dataset.protocols[config.arch.protocol]
    return {
        "name": config.dataset.name,
        "title": config.dataset.title,
        "fingerprint": data.fingerprint,
        "protocol": config.arch.protocol,
        "train_size": config.dataset.train_size,
        "split_seed": config.dataset.split_seed,
        "sizes": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
        "transform": {k: v for k, v in asdict(rules).items() if k not in ("train", "val", "test")},
    }


# What no option changes, for whoever makes a model again with other code (docs/FORMAT.md).
CONSTANTS = {
    "bias": BIAS,
    "adam": {"betas": list(ADAM_BETAS), "eps": ADAM_EPS, "weight_decay": "L2, added to the gradient"},
    "sgd": {"momentum": MOMENTUM, "nesterov": False, "weight_decay": "L2, added to the gradient"},
    "random_numbers": "Philox4x32-10",
}


def versions() -> dict[str, str]:
    """The versions of what makes a zoo, as zoo.json records them."""
    return {name: version_of(name) for name in ("hyperzoo", "torch", "numpy", "numba", "llvmlite", "pytorch-lightning")}


def version_of(package: str) -> str:
    """The version of an installed package. hyperzoo itself need not be installed: `python run.py` works in its folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def command(config: Any, *also: str) -> str:
    """The command that makes it again, without the overrides that concern this machine only or begin with one of `also`."""
    kept = [
        shlex.quote(override) for override in config.overrides if not override.startswith((*OF_THIS_MACHINE, *also))
    ]
    return " ".join(["python run.py", *kept])


def _settle_engine(config: Config, arch: Architecture, path: Path) -> Zoo | None:
    """Put engine and lanes where the config leaves them open: those that the zoo was begun with, or else the best here.

    So no model changes them half-way, wherever its training goes on.

    Returns:
        The zoo as it is there; None for a new one.
    """
    there = Zoo.open(path, config.arch.module) if (path / "zoo.json").exists() else None
    begun = there.description["engine"] if there else {}
    if config.engine.name == "auto" and begun.get("name") in engines.ENGINES:
        config.engine.name = begun["name"]
    else:
        config.engine.name = engines.choose(config.engine.name, arch, *training_conditions(config))
    if config.engine.name == "torch" and config.engine.lanes is None:
        config.engine.lanes = begun.get("lanes") or LANES[config.trainer.device.type]
    return there


def _refuse_another_processor(config: Config, there: Zoo) -> None:
    """Raise UserError if a zoo that was begun elsewhere would get models with other last bits here."""
    begun = there.description["engine"]
    here = engines.ENGINES[config.engine.name].processor(config.trainer.device)
    if begun.get("processor", here) != here:  # older versions did not record it
        raise UserError(
            f"zoo {config.zoo.name!r} was begun on {begun['processor']}, this is {here}, and engine={config.engine.name} has "
            "other last bits here: go on where it was begun, or choose another zoo.name"
            + (" (engine=fused has the same bits everywhere)" if config.engine.name != "fused" else "")
        )


# ------------------------------------------------------------------------------------------ curves and progress


def zoo_loggers(config: Config, zoo: Zoo) -> list[Logger]:
    """The loggers of a zoo, or of a shard of it, whose curves are over its epochs."""
    identity = f"{zoo.path.resolve()} {zoo.description['dataset']['fingerprint']}"
    name = zoo.name
    if config.zoo.shard:  # jobs side by side each have a run of their own
        shard = config.zoo.shard.replace("/", " of ")
        name, identity = f"{name} {shard}", f"{identity} {shard}"
    loggers = make_loggers(
        config, name, "sparsify" if config.arch.variational or config.zoo.pruned.share else "zoo", identity
    )
    tell(loggers, _begin)
    return loggers


def _begin(logger: Logger) -> None:
    if isinstance(logger, WandbLogger):
        logger.experiment.define_metric("zoo/*", step_metric="epoch")


def tell(loggers: list[Logger], something: Callable[[Logger], Any]) -> None:
    """Do something with each logger. One that fails is done without from then on: curves are a convenience, states are stored."""
    for logger in list(loggers):
        try:
            something(logger)
        except Exception as error:  # a full disk, or W&B's service is gone, which has many errors of its own
            loggers.remove(logger)
            name = "W&B" if isinstance(logger, WandbLogger) else "the curves' file"
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            log.warning("%s cannot be written to (%s): what is still to be done is done without", name, reason)


def make_loggers(config: Any, name: str, job_type: str, identity: str) -> list[Logger]:
    """The loggers of `logger=`.

    Args:
        config: the composed configuration.
        name: of the run.
        job_type: "zoo", "hyperrep" …
        identity: what it is about: one W&B run each, which a later call goes on with.
    """
    root = Path(config.paths.root)
    match config.logger.name:
        case "none":
            return []
        case "csv":
            return [CSVLogger(root / "logs", name=name)]
    import wandb

    try:
        run = wandb.init(
            project=config.logger.project,
            entity=config.logger.entity,
            name=name,
            group=config.zoo.name,
            tags=[config.dataset.name, *([config.logger.sweep] if config.logger.sweep else [])],
            job_type=job_type,
            id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            resume="allow",
            mode=wandb_mode(config),
            dir=root,
            config=asdict(config),
        )
    except (wandb.Error, ValueError) as error:  # no login, no network, no such team, no such WANDB_MODE
        raise UserError(
            f"logger={config.logger.name}: W&B says: {' '.join(str(error).split())}. Log in with `wandb login`, or use "
            "logger=wandb_offline; what is stored stays"
        ) from error
    return [WandbLogger(experiment=run)]


def wandb_mode(config: Any) -> Any:
    """The mode of W&B: that of `logger=`, unless the environment's WANDB_MODE says that there is to be less."""
    here = os.environ.get("WANDB_MODE")
    if config.logger.name == "wandb_offline":
        return "disabled" if here == "disabled" else "offline"
    return here or "online"


def curve_point(metrics: pd.DataFrame) -> dict[str, float]:
    """Mean, standard deviation and quantiles over models of loss and accuracy of one epoch.

    Models with a non-finite loss do not count for the loss.
    """
    point: dict[str, float] = {}
    for name in ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc"):
        values = metrics[name].to_numpy()
        values = values[np.isfinite(values)]
        if len(values):
            point |= {f"{name}/mean": float(values.mean()), f"{name}/std": float(values.std())}
            point |= {f"{name}/q{round(100 * q):02d}": float(np.quantile(values, q)) for q in QUANTILES}
    return point


def log_population(zoo: Zoo, loggers: list[Logger], artifact: str) -> None:
    """The curves of the whole zoo, an accuracy histogram an epoch, a table with one row a model, and the zoo as an artifact.

    Args:
        zoo: finished.
        loggers: W&B gets all of it, others the curves.
        artifact: of the zoo: "reference" to where it lies, "upload" of its files, or "none". A zoo that has changed is a
            new version.
    """
    tell(loggers, lambda logger: _log_population(zoo, logger, artifact))


def _log_population(zoo: Zoo, logger: Logger, artifact: str) -> None:
    metrics = zoo.metrics
    for epoch, rows in metrics.groupby("epoch"):
        point: dict[str, Any] = {f"zoo/{k}": v for k, v in curve_point(rows).items()} | {"epoch": int(str(epoch))}
        if isinstance(logger, WandbLogger):
            import wandb

            counts = np.histogram(rows["test_acc"].dropna(), bins=np.linspace(0, 1, 51))
            logger.experiment.log(point | {"zoo/test_acc/histogram": wandb.Histogram(np_histogram=counts)})
        else:
            logger.log_metrics(point, step=int(str(epoch)))
    if isinstance(logger, WandbLogger):
        last = metrics[metrics["epoch"] == zoo.epochs[-1]].drop(columns=["epoch"])
        table = zoo.models.merge(last, on="model_id")
        # W&B cuts tables at 10,000 rows without a word; no published zoo comes near, but a user's may.
        logger.experiment.log({"models": wandb.Table(dataframe=table.head(10_000).astype({"diverged_epoch": float}))})
        if artifact != "none":
            logger.experiment.log_artifact(_artifact(zoo, upload=artifact == "upload"))


def _artifact(zoo: Zoo, upload: bool) -> Any:
    import wandb

    kept = {key: zoo.description.get(key) for key in ("models", "epochs", "published", "spec", "protocol", "dataset")}
    made = wandb.Artifact(zoo.name, type="zoo", metadata=kept)
    if upload:
        made.add_dir(str(zoo.path))
    else:
        made.add_file(str(zoo.path / "manifest.json"))  # hashes of all files: what makes a version one
        made.add_reference(zoo.path.resolve().as_uri(), name="zoo", checksum=False, max_objects=10**6)
    return made


def close(loggers: list[Logger]) -> None:
    """End the runs of loggers."""
    tell(loggers, _end)


def _end(logger: Logger) -> None:
    if isinstance(logger, WandbLogger):
        logger.experiment.finish()
    else:
        logger.finalize("success")


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


# ------------------------------------------------------------------------------------------ summary and plan


def print_summary(zoo: Zoo) -> None:
    """A table of what the zoo holds."""
    models, metrics = zoo.models, zoo.metrics
    last = metrics[metrics["epoch"] == zoo.epochs[-1]]
    counts = models["status"].value_counts()
    partial = f", {counts['partial']} partial" if "partial" in counts else ""
    table = Table(title=f"Zoo {zoo.name}", show_header=False, title_justify="left")
    splits = ", ".join(f"{(models['split'] == split).sum()} {split}" for split in ("train", "val", "test"))
    table.add_row("models", f"{len(models)} ({splits}), {counts.get('diverged', 0)} diverged{partial}")
    if "start" in zoo.description["spec"]:
        before = 100 * metrics[metrics["epoch"] == 0]["test_acc"].dropna()
        table.add_row(
            "start",
            f"{zoo.description['spec']['start']['zoo']}, test accuracy {before.mean():.1f} ± {before.std(ddof=0):.1f} %",
        )
    table.add_row("states", f"{len(metrics)} (epochs 0 to {zoo.epochs[-1]}), {zoo.n_parameters} parameters each")
    for name, title in (("train_acc", "train"), ("val_acc", "validation"), ("test_acc", "test")):
        values = 100 * last[name].dropna()
        if len(values):
            spread = f"{values.mean():.1f} ± {values.std(ddof=0):.1f} % (lowest {values.min():.1f}, highest {values.max():.1f})"
            table.add_row(f"{title} accuracy", f"{spread}, n = {len(values)}")
    if "sparsity" in last:
        values = 100 * last["sparsity"].dropna()
        table.add_row("sparsity", f"{values.mean():.1f} ± {values.std(ddof=0):.1f} % of the weights, n = {len(values)}")
    console.print(table, highlight=False)
    console.print(f'Open it with: from zoo import Zoo; zoo = Zoo.open("{zoo.path}")', highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Estimate:
    """What a zoo takes.

    Attributes:
        models, states: how many.
        size: bytes on disk.
        steps: of training, over all models.
        images: that all models together are trained on, one by one.
        evaluated: images that all models together are evaluated on.
    """

    models: int
    states: int
    size: int
    steps: int
    images: int
    evaluated: int


def estimate(config: Config, arch: Architecture, models: pd.DataFrame) -> Estimate:
    """What the zoo of a config takes; `models` are all of its models."""
    split = config.dataset.protocols[config.arch.protocol]
    images, n = min(config.dataset.train_size or split.train, split.train), len(models)
    states = n * (config.zoo.epochs + 1)
    optimizer = arch.n_parameters * (2 if (models["optimizer"] == "adam").any() else 1)
    size = 4 * (states * (arch.n_parameters + arch.n_buffers) + n * optimizer)
    epochs = n * config.zoo.epochs
    evaluated = states * (split.val + split.test) + (states if config.metrics.train_eval else n) * images
    steps = epochs * math.ceil(images / config.zoo.batch_size)
    return Estimate(n, states, size, steps, epochs * images, evaluated)


def plan_zoo(config: Config) -> None:
    """Print what `task=zoo` would do: models, states, bytes and estimated work. Reads no image data, writes nothing."""
    arch = architecture(config)
    models, start = zoo_models(config, arch)
    found = estimate(config, arch, models)
    time_taken = measure_pace(config, arch, models, start).duration(found)
    engine = engines.choose(config.engine.name, arch, *training_conditions(config))
    table = Table(title=f"Zoo {config.zoo.name}", show_header=False, title_justify="left")
    if config.zoo.published and not start:
        table.add_row("preset of", config.zoo.published)
    splits = ", ".join(f"{(models['split'] == split).sum()} {split}" for split in ("train", "val", "test"))
    whole = f"{start.zoo.name}, epoch {start.epoch}" if start else f"{spec_size(config.zoo)} in the spec"
    table.add_row("models", f"{found.models} of {whole} ({splits})")
    for factor, values in asdict(config.zoo.grid).items():
        table.add_row(f"  {factor}", ", ".join(map(str, models[factor].unique() if start else values)))
    table.add_row("states", f"{found.states} (epochs 0 to {config.zoo.epochs} of each model)")
    table.add_row(
        "parameters", f"{arch.n_parameters} a model, arch={arch.name}, images {'×'.join(map(str, arch.image))}"
    )
    table.add_row("on disk", f"about {in_bytes(found.size)}")
    table.add_row("work", f"{found.steps:,} steps of batch {config.zoo.batch_size}")
    table.add_row("time", f"about {time_taken} here with engine={engine} (training and evaluation)")
    console.print(table, highlight=False)


@dataclass(frozen=True)
class Pace:
    """Seconds of one model with one image on this machine: trained (fastest and slowest piece measured), and evaluated."""

    fastest: float
    slowest: float
    evaluated: float

    def duration(self, found: Estimate) -> str:
        """The time that a zoo takes, as a range to read."""
        evaluation = found.evaluated * self.evaluated
        ends = [duration(found.images * pace + evaluation) for pace in (self.fastest, self.slowest)]
        return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def measure_pace(config: Config, arch: Architecture, models: pd.DataFrame, start: Start | None) -> Pace:
    """Train one block on random images for some seconds as `task=zoo` does, many steps of all its models at a time.

    One step at a time would find the weights of every model outside the caches.
    """
    rows = models.head(1 if arch.is_module else config.zoo.block_size or MODELS_ON_CPU)
    batch = config.zoo.batch_size
    pixels = torch.randint(0, 256, (max(20, 10_000 // batch) * batch, *arch.image), dtype=torch.uint8)
    images = Images(pixels, torch.randint(0, arch.classes, (len(pixels),)))
    few = Images(pixels[:500], images.labels[:500])
    half = torch.full((arch.image[0],), 0.5)
    data = ImageData("random", arch.classes, arch.image, images, few, few, half, half, AugmentConfig(), "")
    engine = engines.make(
        config.engine, arch, rows, data, Protocol(batch, 1, config.zoo.schedule), config.trainer.device
    )

    def seconds(work: Callable[[], Any]) -> float:
        began = time.monotonic()
        work()
        engine.population()  # waits for the device
        return time.monotonic() - began

    try:
        engine.load(before_training(arch, rows, start))
        engine.start_epoch(1)
        engine.train(0, 1)  # compiles
        engine.evaluate(few)
        evaluated = seconds(partial(engine.evaluate, few)) / (len(few) * len(rows))
        pieces: list[float] = []
        done, size, began = 1, 1, time.monotonic()
        while done + size <= engine.steps_per_epoch and time.monotonic() - began < 4:
            took = seconds(partial(engine.train, done, done + size))
            pieces.append(took / (size * batch * len(rows)))
            done += size
            if took < 0.2 and done + 2 * size <= engine.steps_per_epoch and size < 100:  # too short a piece to measure
                size, pieces = 2 * size, []
        return Pace(min(pieces), max(pieces), evaluated)
    finally:
        engine.close()


def in_bytes(n: float) -> str:
    """A size to read."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
