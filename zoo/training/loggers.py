"""Where curves go besides the zoo: a CSV file, or Weights & Biases."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import pandas as pd

from zoo.base.errors import UserError
from zoo.config.sections import Config
from zoo.store.zoo import Zoo

if TYPE_CHECKING:  # Lightning takes seconds to import, and is not needed where nothing is logged
    from pytorch_lightning.loggers import Logger, WandbLogger

log = logging.getLogger(__name__)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


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


def _is_of_wandb(logger: Logger) -> TypeGuard[WandbLogger]:
    from pytorch_lightning.loggers import WandbLogger

    return isinstance(logger, WandbLogger)


def _begin(logger: Logger) -> None:
    if _is_of_wandb(logger):
        logger.experiment.define_metric("zoo/*", step_metric="epoch")


def tell(loggers: list[Logger], something: Callable[[Logger], Any]) -> None:
    """Do something with each logger. One that fails is done without from then on: curves are a convenience, states are stored."""
    for logger in list(loggers):
        try:
            something(logger)
        except Exception as error:  # a full disk, or W&B's service is gone, which has many errors of its own
            loggers.remove(logger)
            name = "W&B" if _is_of_wandb(logger) else "the curves' file"
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            log.warning("%s cannot be written to (%s): what is still to be done is done without", name, reason)


def make_loggers(config: Config, name: str, job_type: str, identity: str) -> list[Logger]:
    """The loggers of `logger=`.

    Args:
        config: the composed configuration.
        name: of the run.
        job_type: "zoo", "hyperrep" …
        identity: what it is about: one W&B run each, which a later call goes on with.
    """
    root = Path(config.paths.root)
    if config.logger.name == "none":
        return []
    from pytorch_lightning.loggers import CSVLogger, WandbLogger

    match config.logger.name:
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


def wandb_mode(config: Config) -> Any:
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
        if _is_of_wandb(logger):
            import wandb

            counts = np.histogram(rows["test_acc"].dropna(), bins=np.linspace(0, 1, 51))
            logger.experiment.log(point | {"zoo/test_acc/histogram": wandb.Histogram(np_histogram=counts)})
        else:
            logger.log_metrics(point, step=int(str(epoch)))
    if _is_of_wandb(logger):
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
    if _is_of_wandb(logger):
        logger.experiment.finish()
    else:
        logger.finalize("success")
