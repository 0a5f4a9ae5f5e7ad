"""`task=sparsify`: the sparsified twin of a zoo: each of its models, trained on until most of its weights can go.

sparsify=vd (Model Zoos, Schürholt et al., 2022): variances are learnt beside the weights. Two zoos come of it: <zoo>_vd
with weights and variances, and <zoo>_vd_masked with the weights that are kept, which is an ordinary zoo of the same
architecture. sparsify=magnitude prunes the smallest weights: <zoo>_magnitude is that ordinary zoo itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from zoo.architecture import Architecture
from zoo.config import derive
from zoo.errors import UserError
from zoo.spec import SCHEDULES
from zoo.store import Zoo
from zoo.training import command, open_zoo, train_zoo

# Options of each kind.
KINDS = {"vd": {"divergence_rate"}, "magnitude": {"share", "steps"}}

# What a masked twin's description has of its twin's.
KEPT = ("published", "license", "protocol", "dataset", "engine", "epochs", "versions")


@dataclass
class SparsifyConfig:
    """`sparsify=`: how twins become sparse."""

    name: str = field(metadata={"choices": tuple(KINDS)})
    epochs: int = field(metadata={"min": 0})
    shared_seed: bool
    lr: float | None = field(metadata={"above": 0.0})
    schedule: str | None = field(metadata={"choices": SCHEDULES})
    divergence_rate: float | None = field(metadata={"min": 0.0})
    share: float | None = field(metadata={"above": 0.0, "below": 1.0})
    steps: int | None = field(metadata={"min": 1})


def sparsify_problems(config: Any) -> list[str]:
    """What forbids task=sparsify, a sentence each."""
    chosen, problems = config.sparsify, []
    for name in sorted(set().union(*KINDS.values())):
        given, wanted = getattr(chosen, name) is not None, name in KINDS[chosen.name]
        if wanted and not given:
            problems.append(f"sparsify.{name}: is missing, and sparsify={chosen.name} needs it")
        if given and not wanted:
            problems.append(f"sparsify.{name}: sparsify={chosen.name} has no such option")
    if chosen.name == "magnitude" and chosen.steps is not None and chosen.steps > chosen.epochs:
        problems.append(
            f"sparsify.steps: got {chosen.steps}, but sparsify.epochs={chosen.epochs} ends before the last of them; "
            "give at least as many epochs"
        )
    if config.arch.variational:
        problems.append("arch.variational: task=sparsify sets it itself; leave it false")
    return problems


def sparsify_zoo(config: Any) -> None:
    """Train the twin of the zoo of a config, whatever of it is there already.

    Raises:
        UserError: if there is no such zoo, or it is unfinished.
    """
    chosen, name = config.sparsify, config.zoo.name
    source = open_zoo(config)
    dataset, size = source.description["dataset"], config.zoo.batch_size
    if (dataset["name"], dataset["train_size"]) != (config.dataset.name, config.dataset.train_size):
        raise UserError(
            f"zoo {name!r} was trained on {dataset['name']} with dataset.train_size={dataset['train_size']}, not on "
            f"{config.dataset.name} with {config.dataset.train_size}: use the zoo's own overrides"
        )
    if source.description["protocol"]["batch_size"] != size:
        raise UserError(
            f"zoo.batch_size: got {size}, but zoo {name!r} was trained with {source.description['protocol']['batch_size']}: "
            "use the zoo's own overrides"
        )
    # Of the source's command line, what it starts from and what it prunes is no concern of the twin's.
    words = ["task=zoo", f"zoo.name={name}_{chosen.name}", f"zoo.start.zoo={name}", "zoo.start.epoch=null"]
    words += ["zoo.start.split=null", "zoo.start.seed=null", "zoo.pruned.share=0.0"]
    words += [f"zoo.epochs={chosen.epochs}", "zoo.models=null"]
    words += [f"zoo.grid.lr=[{chosen.lr}]"] if chosen.lr is not None else []
    words += [f"zoo.schedule={chosen.schedule}"] if chosen.schedule is not None else []
    if chosen.shared_seed:
        words.append(f"zoo.start.seed={source.models['seed'].iloc[0]}")
    if chosen.name == "magnitude":
        train_zoo(derive(config, *words, f"zoo.pruned.share={chosen.share}", f"zoo.pruned.epochs={chosen.steps}"))
        return
    train_zoo(derive(config, *words, "++arch.variational=true", f"zoo.divergence_rate={chosen.divergence_rate}"))
    twin = Zoo.open(source.path.with_name(f"{name}_{chosen.name}"))
    if twin.finished:  # else other shards are still at it
        store_masked(config, twin)


def store_masked(config: Any, twin: Zoo) -> Zoo:
    """The kept weights of a zoo with variances as a zoo of the plain architecture: <its name>_masked, all its epochs.

    Scores are those of the twin: in evaluation, its networks are these.
    """
    arch = Architecture.from_dict(twin.description["arch"])
    name = f"{twin.name}_masked"
    description = {
        **{key: twin.description[key] for key in KEPT if key in twin.description},
        "name": name,
        "about": f"The kept weights of {twin.name}. {twin.description['about']}",
        "spec": {"kind": "masked", "zoo": twin.name, "start": twin.description["spec"]["start"]},
        "arch": arch.plain().to_dict(),
        "metrics": [m for m in twin.description["metrics"] if not m.startswith("weight_max")],
        "command": command(config, ("paths.", "logger", "engine.threads", "zoo.shard")),
    }
    rows, metrics = (
        twin.models.drop(columns=["status", "diverged_epoch"]),
        twin.metrics.set_index(["epoch", "model_id"]),
    )
    masked = Zoo.create(twin.path.with_name(name), description, rows)
    size = len(twin.blocks(1)[0].models)
    for block in masked.blocks(size):
        with block:
            ids = rows["model_id"].iloc[block.first : block.last + 1]
            for epoch in block.pending:
                weights = arch.masked(torch.tensor(twin.weights(models=ids, epochs=[epoch])[:, 0]))
                state = {"weights": weights.numpy()}
                if twin.buffer_layout:
                    state["buffers"] = twin.buffers(models=ids, epochs=[epoch])[:, 0]
                scores = metrics.loc[[(epoch, model) for model in ids]]
                columns = {name: scores[name].to_numpy() for name in description["metrics"]}
                block.commit(epoch, state, columns, {"step": np.zeros(len(ids), np.int64)})
    masked.finalise()
    return Zoo.open(masked.path)
