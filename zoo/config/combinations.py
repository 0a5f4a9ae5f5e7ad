"""What each value of a configuration allows but all together forbid."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from hydra import compose

from zoo.base.errors import UserError
from zoo.base.lazy import torch
from zoo.base.names import LONGEST_NAME, is_name
from zoo.config.sections import Config
from zoo.config.spec import ZooConfig, shard_problems, spec_size
from zoo.engines.choice import choose, refusal
from zoo.images.config import augments, plan_shape, protocol_problems
from zoo.networks.architecture import Architecture


def preset_problems(config: Config) -> list[str]:
    """Whether the command line makes another zoo of a preset, under the preset's name; a sentence each."""
    chosen = {key: value for key, _, value in (word.partition("=") for word in config.overrides)}
    if not chosen.keys() & {"dataset", "arch", "zoo/kind", "zoo/protocol"}:
        return []
    preset = compose("config", [f"{key}={value}" for key, value in chosen.items() if key in ("zoo", "experiment")])
    problems = []
    for key, kind in (("zoo/kind", preset.zoo.kind), ("zoo/protocol", None)):
        if key in chosen and chosen[key] != kind:
            problems.append(
                f"{key}: got {chosen[key]!r}, but a preset builds on its own: choose another zoo=, or write a preset"
            )
    now, was = (f"dataset={of.dataset.name} arch={of.arch.name}" for of in (config, preset))
    published = config.zoo.published and config.zoo.start.zoo is None  # what is fine-tuned is not
    if now != was and (config.zoo.name == preset.zoo.name or published):
        problems.append(
            f"zoo.name: {preset.zoo.name} stands for {was}, not for {now}: choose another zoo=, or name yours "
            "(zoo.name=NAME zoo.published=null)"
        )
    return problems


def combination_problems(config: Config) -> list[str]:
    """What each value allows but all together forbid; a sentence each. Reads no data and starts nothing."""
    zoo, grid, arch, dataset = config.zoo, config.zoo.grid, config.arch, config.dataset
    problems = protocol_problems(dataset, arch.protocol, arch.image_size)
    problems += folder_problems("zoo.name", zoo.name) + shard_problems(zoo.shard)
    problems += folder_problems("arch.name", arch.name) + folder_problems("dataset.name", dataset.name)
    for factor in dataclasses.fields(grid):
        values = getattr(grid, factor.name)
        if not values or len(set(values)) < len(values):
            problems.append(f"zoo.grid.{factor.name}: got {values}, but it needs at least one value, and none twice")
    problems += start_problems(zoo)
    stored = config.task.name == "sparsify"  # whose source may be another zoo than the preset's, imported for one
    if zoo.start.zoo is None and not stored and zoo.models is not None and zoo.models > spec_size(zoo):
        problems.append(
            f"zoo.models: got {zoo.models}, but the spec has {spec_size(zoo)} models; null takes all of them"
        )
    if zoo.schedule == "onecycle" and set(grid.optimizer) - {"sgd"}:
        problems.append(
            f"zoo.schedule=onecycle cycles SGD's momentum: zoo.grid.optimizer must be [sgd], got {grid.optimizer}"
        )
    if zoo.schedule == "onecycle" and zoo.epochs == 0:
        problems.append("zoo.schedule=onecycle spans the epochs: zoo.epochs must be at least 1, got 0")
    if zoo.divergence_rate and not arch.variational:
        problems.append(
            f"zoo.divergence_rate: got {zoo.divergence_rate}, but only variances diverge: use task=sparsify and "
            "sparsify.divergence_rate, or arch.variational=true"
        )
    problems += [
        f"paths.{name}: is empty; give a folder" for name in ("root", "data") if not getattr(config.paths, name)
    ]
    given = {"paths.root": config.paths.root, "paths.data": config.paths.data, "source": config.source or ""}
    problems += [
        f"{key}: got {path!r}, but only a shell knows what ~ is: write the folder out, e.g. {os.path.expanduser(path)}"
        for key, path in given.items()
        if path.startswith("~") and (key == "paths.root" or not path.startswith(config.paths.root))
    ]
    root = Path(config.paths.root).absolute()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        problems.append(f"paths.root: got {config.paths.root}, but {there} is no folder that can be written to")
    if arch.classes is not None and arch.classes != dataset.classes:
        problems.append(
            f"arch.classes: arch={arch.name} has a head of {arch.classes} classes, but dataset={dataset.name} has "
            f"{dataset.classes}; use arch=resnet18, or an architecture of your own with {dataset.classes} outputs"
        )
    if problems:
        return problems
    try:
        built = architecture(config)
    except UserError as error:
        return [str(error)]
    if not built.takes_dropout and grid.dropout != [0.0]:
        problems.append(
            f"zoo.grid.dropout: arch={arch.name} has no dropout layer, so it must be [0.0], got {grid.dropout}"
        )
    if not built.takes_activation and grid.activation != ["relu"]:
        problems.append(
            f"zoo.grid.activation: arch={arch.name} takes no activation: it must be [relu], got {grid.activation}"
        )
    return problems + ([reason] if (reason := engine_refusal(config, built)) else [])


def machine_problems(config: Config) -> list[str]:
    """What this machine lacks for a configuration, a sentence each."""
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        return ["trainer=gpu: PyTorch finds no CUDA device on this machine; use trainer=cpu"]
    return []


def start_problems(zoo: ZooConfig) -> list[str]:
    """What is wrong with `zoo.start`; whether there is such a zoo turns out when it is opened."""
    start = zoo.start
    if start.zoo is None:
        given = [name for name in ("epoch", "split", "seed") if getattr(start, name) is not None]
        return [f"zoo.start.{name}: has no effect without zoo.start.zoo" for name in given]
    if start.zoo == zoo.name:
        return [
            f"zoo.name: got {zoo.name!r}, which is where zoo.start.zoo lies; give what is trained from it another name"
        ]
    return folder_problems("zoo.start.zoo", start.zoo)


def folder_problems(key: str, name: str) -> list[str]:
    """Whether a name of the configuration can be that of a folder; nothing leads out of the folder it is in."""
    if is_name(name):
        return []
    return [
        f"{key}: got {name!r:.300}, but it is a folder's name: letters, digits, '.', '_' and '-', {LONGEST_NAME} at most"
    ]


def training_conditions(config: Config) -> tuple[str, bool]:
    """What an engine must cope with: "cpu" or "gpu", and whether training images are augmented."""
    return config.trainer.accelerator, augments(config.dataset.protocols[config.arch.protocol].augment)


def architecture(config: Config) -> Architecture:
    """The architecture for the images that the dataset's protocol yields."""
    shape = plan_shape(config.dataset, config.arch.protocol, config.arch.image_size)
    return Architecture.from_config(config.arch, shape, config.dataset.classes)


def engine_refusal(config: Config, arch: Architecture) -> str | None:
    """Why the engine cannot train the architecture under this configuration; None if it can."""
    conditions = training_conditions(config)
    return refusal(choose(config.engine.name, arch, *conditions), arch, *conditions)
