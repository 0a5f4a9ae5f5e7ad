"""What zoo.json tells of how a zoo was made."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from zoo.base.names import SCORES
from zoo.config.sections import Config
from zoo.engines.engine import ADAM_BETAS, ADAM_EPS, MOMENTUM
from zoo.engines.make import CLASSES
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture
from zoo.networks.initialization import BIAS
from zoo.store.stored import CLASS_ACCURACY
from zoo.training.module import sparsity, training_protocol
from zoo.training.start import Start

OF_THIS_MACHINE = ("paths.", "logger", "engine.threads", "zoo.shard")  # overrides that change nothing of what is made


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
    if (processor := CLASSES[config.engine.name].processor(device)) is not None:
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


def command(config: Config, *also: str) -> str:
    """The command that makes it again, without the overrides that concern this machine only or begin with one of `also`."""
    kept = [
        shlex.quote(override) for override in config.overrides if not override.startswith((*OF_THIS_MACHINE, *also))
    ]
    return " ".join(["python run.py", *kept])
