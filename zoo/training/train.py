"""`task=zoo`: from a configuration to a finished zoo.

Read top-down: `train_zoo` makes or continues the store, and for each block of models lets Lightning drive an engine
through the epochs that are still missing; every epoch is committed to the store before the next begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from zoo.base.console import console
from zoo.base.errors import UserError
from zoo.config.combinations import architecture, training_conditions
from zoo.config.sections import Config
from zoo.engines.choice import ENGINES, choose
from zoo.engines.make import engine_class, make_engine
from zoo.engines.torch_engine import LANES
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture
from zoo.store.block import Block
from zoo.store.writer import create_zoo, drop_damaged_manifest, finalise
from zoo.store.zoo import Zoo
from zoo.training.description import describe
from zoo.training.loggers import close, log_population, zoo_loggers
from zoo.training.opening import open_zoo, read_images
from zoo.training.progress import PopulationProgress
from zoo.training.provenance import Provenance
from zoo.training.spec import model_table, shard_of
from zoo.training.start import Start
from zoo.training.states import training_protocol
from zoo.training.summary import print_summary

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

MODELS_ON_CPU, MODELS_ON_GPU = 100, 1000  # models a block; a kill costs at most one epoch of one block


def train_zoo(config: Config, made_by: str | None = None) -> Zoo:
    """Train the zoo of `config` to its end, whatever of it is there already, and print a summary.

    Of a zoo that is trained in shards (`zoo.shard`), whoever trains the last missing model finishes it.

    Args:
        config: of the zoo.
        made_by: the command that is recorded for making it again; None: that of the config.

    Returns:
        The zoo; of a shard, whose siblings may not be done, perhaps unfinished.

    Raises:
        UserError: if the image data cannot be had, the store holds another zoo under this name, or the models that it began
            with (`zoo.start.zoo`) are others now.
    """
    arch = architecture(config)
    path = Path(config.paths.root) / "zoos" / config.zoo.name
    drop_damaged_manifest(path)
    if _imported(path, config, arch):
        console.print(f"Zoo {config.zoo.name} was trained by others and imported: there is nothing to train.")
        zoo = open_zoo(config, part=True)
        print_summary(zoo)
        return zoo
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
    zoo = create_zoo(path, description | {"command": made_by or description["command"]}, models)
    own = shard_of(len(models), shard_unit(config), config.zoo.shard)
    if not own:
        _tell(
            f"Shard {config.zoo.shard} is empty: the {len(models)} models of zoo {zoo.name} are cut between blocks of "
            f"{shard_unit(config)} (zoo.block_size)."
        )
    with PopulationProgress(models.iloc[own.start : own.stop], config.zoo.epochs) as progress:
        training = Training(config, arch, models, start, data, progress, Provenance(path, device))
        for block in zoo.blocks(config.zoo.block_size or models_a_block(arch, data), own):
            with block:  # checks what the block has: damaged files cost it all its epochs
                progress.skip(block)
                if start:
                    start.check(block)
                if block.pending:
                    _train_block(training, block, zoo, there)
    if config.zoo.shard and zoo.pending:
        _tell(
            f"Shard {config.zoo.shard} of zoo {zoo.name} ({len(own)} models) is done; {zoo.pending} models of other shards "
            "lack epochs."
        )
        close(training.loggers or [])
        return zoo
    return _finish(training, zoo)


@dataclass
class Training:
    """What all blocks of a zoo are trained with.

    Attributes:
        config, arch: of the zoo.
        models: one row each.
        start: where they come from; None: they are drawn.
        data: images, on the device.
        progress: what is told about every step.
        provenance: what is told about the hardware.
        loggers: where curves go; None: nothing was trained yet.
    """

    config: Config
    arch: Architecture
    models: pd.DataFrame
    start: Start | None
    data: ImageData
    progress: PopulationProgress
    provenance: Provenance
    loggers: list[Logger] | None = None


def _train_block(training: Training, block: Block, zoo: Zoo, there: Zoo | None) -> None:
    """Train the missing epochs of one block of models, from its last committed state on; `there`: the zoo as it was before."""
    from zoo.training.fitting import fit  # these bring Lightning, which takes seconds to import
    from zoo.training.module import PopulationModule

    config = training.config
    if block.last >= len(training.models):
        raise UserError(
            f"models {block.first}-{block.last} of zoo {zoo.name!r} are to be trained again: ask for all of its "
            f"{zoo.n_models} models (zoo.models={zoo.n_models})"
        )
    if there:
        _refuse_another_processor(config, there)  # to train a damaged block of a finished zoo again
    training.loggers = zoo_loggers(config, zoo) if training.loggers is None else training.loggers
    rows, done = training.models.iloc[block.first : block.last + 1], len(block.epochs)
    data, protocol = training.data, training_protocol(config)
    engine = make_engine(config.engine, training.arch, rows, data, protocol, config.trainer.device)
    train_eval = config.metrics.train_eval
    module = PopulationModule(engine, block, training.start, train_eval, training.loggers, training.progress)
    try:
        module.begin()
        if block.pending:
            fit(module, accelerator=config.trainer.accelerator, epochs=len(block.pending))
    finally:
        training.provenance.add(engine, (len(block.epochs) - done) * len(rows))
        engine.close()


def _finish(training: Training, zoo: Zoo) -> Zoo:
    """Write the tables of a zoo whose models all have all epochs, log it if that is new, and print what it holds."""
    config, loggers = training.config, training.loggers
    finished = zoo.finished
    finalise(zoo)
    zoo = Zoo.open(zoo.path, config.arch.module)
    if not finished:  # now it is, perhaps by other shards' work
        loggers = zoo_loggers(config, zoo) if loggers is None else loggers
        log_population(zoo, loggers, config.logger.artifact)
    close(loggers or [])
    print_summary(zoo)
    return zoo


def _tell(sentence: str) -> None:
    console.print(sentence, highlight=False, soft_wrap=True)


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


def _settle_engine(config: Config, arch: Architecture, path: Path) -> Zoo | None:
    """Put engine and lanes where the config leaves them open: those that the zoo was begun with, or else the best here.

    So no model changes them half-way, wherever its training goes on.

    Returns:
        The zoo as it is there; None for a new one.
    """
    there = Zoo.open(path, config.arch.module) if (path / "zoo.json").exists() else None
    begun = there.description["engine"] if there else {}
    if config.engine.name == "auto" and begun.get("name") in ENGINES:
        config.engine.name = begun["name"]
    else:
        config.engine.name = choose(config.engine.name, arch, *training_conditions(config))
    if config.engine.name == "torch" and config.engine.lanes is None:
        config.engine.lanes = begun.get("lanes") or LANES[config.trainer.device.type]
    return there


def _refuse_another_processor(config: Config, there: Zoo) -> None:
    """Raise UserError if a zoo that was begun elsewhere would get models with other last bits here."""
    begun = there.description["engine"]
    here = engine_class(config.engine.name).processor(config.trainer.device)
    if begun.get("processor", here) != here:  # older versions did not record it
        raise UserError(
            f"zoo {config.zoo.name!r} was begun on {begun['processor']}, this is {here}, and engine={config.engine.name} has "
            "other last bits here: go on where it was begun, or choose another zoo.name"
            + (" (engine=fused has the same bits everywhere)" if config.engine.name != "fused" else "")
        )
