"""What comparisons stand on: zoos, populations and fine-tuned zoos, each made if it is not there yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from hyperrep.config import Config
from hyperrep.samplers import sampler_class
from zoo import Zoo
from zoo.base.console import console
from zoo.config import reading
from zoo.config.reading import derive

T = TypeVar("T")


def given(option: T | None) -> T:
    """An option of a comparison; that it has those which it needs was checked before."""
    assert option is not None
    return option


def perform(config: Config, *words: str) -> Config:
    """Do a task of the command line with other words, announced as the command that it is; its configuration."""
    derived = derive(config, *words)
    console.print(f"$ python run.py {' '.join(derived.overrides)}", style="bold", highlight=False, soft_wrap=True)
    reading.perform(derived)
    return derived


def ensure_zoo(config: Config, *words: str) -> Zoo:
    """The zoo of a command line with further words, trained."""
    done = perform(config, "task=zoo", *words)
    return Zoo.open(Path(done.paths.root) / "zoos" / done.zoo.name, done.arch.module)


def of_target(config: Config, *words: str) -> Config:
    """The configuration of the zoo that `downstream.target` names, with `downstream.target_words` and further words."""
    named, own = config.downstream.target, given(config.downstream.target_words)
    return derive(config, "task=zoo", f"zoo={named}", f"zoo.name={named}", *own, *words)


def ensure_population(config: Config, words: list[str]) -> Zoo:
    """The population of a method, drawn and audited; its autoencoder is trained before."""
    if sampler_class(derive(config, "task=sample", *words).sampler.name).space == "latent":
        perform(config, "task=hyperrep", *words)
    done = perform(config, "task=sample", *words)
    return Zoo.open(Path(done.paths.root) / "zoos" / done.population.name, done.arch.module)


def ensure_fine_tuned(config: Config, start: Zoo, epochs: int, *words: str) -> Zoo:
    """The models of a population or zoo, trained for `epochs` as the zoo of the command line is."""
    name = f"{start.name}_on_{config.zoo.name}"
    return ensure_zoo(
        config,
        f"zoo.start.zoo={start.name}",
        f"zoo.name={name}",
        f"zoo.epochs={epochs}",
        "zoo.models=null",
        *words,
    )


def trajectories(method: str, zoo: Zoo, split: str | None = None) -> pd.DataFrame:
    """Accuracy of every model at every epoch on the test images: method, dataset, epoch, model, x, metric, value."""
    models = zoo.models if split is None else zoo.models[zoo.models["split"] == split]
    rows = zoo.metrics[zoo.metrics["model_id"].isin(models["model_id"])]
    return tidy(
        method, zoo.description["dataset"]["name"], "test_acc",
        epoch=rows["epoch"], model=rows["model_id"], value=rows["test_acc"],
    )  # fmt: skip


def tidy(
    method: str, dataset: str, metric: str, *, value: Any, epoch: Any = 0, model: Any = 0, x: Any = np.nan
) -> pd.DataFrame:
    """Rows of a result."""
    columns = {"method": method, "dataset": dataset, "epoch": epoch, "model": model, "x": x, "metric": metric}
    return pd.DataFrame({**columns, "value": np.asarray(value, np.float64)})
