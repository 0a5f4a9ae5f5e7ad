"""What zoo.json tells of how a zoo was made."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from zoo.base.names import SCORES
from zoo.base.versions import versions
from zoo.config.recorded import command
from zoo.config.sections import Config
from zoo.engines.engine import ADAM_BETAS, ADAM_EPS, MOMENTUM
from zoo.engines.make import engine_class
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture
from zoo.networks.initialization import BIAS
from zoo.store.stored import CLASS_ACCURACY
from zoo.training.start import Start
from zoo.training.states import sparsity, training_protocol


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
    if (processor := engine_class(config.engine.name).processor(device)) is not None:
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
