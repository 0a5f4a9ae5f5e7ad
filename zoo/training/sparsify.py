"""`task=sparsify`: the sparsified twin of a zoo: each of its models, trained on until most of its weights can go.

sparsify=vd (Model Zoos, Schürholt et al., 2022): variances are learnt beside the weights. Two zoos come of it: <zoo>_vd
with weights and variances, and <zoo>_vd_masked with the weights that are kept, which is an ordinary zoo of the same
architecture. sparsify=magnitude prunes the smallest weights: <zoo>_magnitude is that ordinary zoo itself. Twins are trained
as their sources were: what these were trained with is on record, and does not come from the command line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from zoo.base.console import console
from zoo.base.errors import UserError, naming
from zoo.base.files import locked
from zoo.config.combinations import folder_problems
from zoo.config.reading import derive
from zoo.config.recorded import command
from zoo.config.sections import KINDS, Config
from zoo.images.data import ImageData
from zoo.store.writer import create_zoo, finalise
from zoo.store.zoo import Zoo
from zoo.training.accuracy_check import MOST_APART, accuracies_apart
from zoo.training.opening import open_zoo, zoo_images
from zoo.training.start import TRAINING_FACTORS
from zoo.training.train import train_zoo

# What a masked twin's description has of its twin's.
KEPT = ("published", "license", "protocol", "dataset", "engine", "epochs", "versions")


def sparsify_problems(config: Config) -> list[str]:
    """What forbids task=sparsify, a sentence each."""
    chosen = config.sparsify
    problems = [] if chosen.twin is None else folder_problems("sparsify.twin", chosen.twin)
    if chosen.twin == config.zoo.name:
        problems.append(f"sparsify.twin: got {chosen.twin!r}, which is the zoo itself; give its twin another name")
    if chosen.name == "vd" and masked_name(config) == config.zoo.name:
        problems.append(
            f"sparsify.twin: got {chosen.twin!r}, whose kept weights would be {masked_name(config)!r}, which is the zoo itself; "
            "give its twin another name"
        )
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


def twin_name(config: Config) -> str:
    """The name of the zoo that task=sparsify makes."""
    return config.sparsify.twin or f"{config.zoo.name}_{config.sparsify.name}"


def masked_name(config: Config) -> str:
    """The name of the zoo of the weights that a twin with variances keeps."""
    return f"{twin_name(config)}_masked"


def start_epoch(config: Config, source: Zoo) -> int:
    """Which state of the source's models their twins start from: `sparsify.epoch`, or that which a twin of this name was begun
    from, or the last.

    Raises:
        UserError: if it is not stored.
    """
    if config.sparsify.epoch is not None:
        with naming("sparsify.epoch"):
            source.choose_epochs([config.sparsify.epoch])
        return config.sparsify.epoch
    path = source.path.with_name(twin_name(config))
    begun = Zoo.open(path).description["spec"].get("start", {}) if (path / "zoo.json").exists() else {}
    return begun.get("epoch", source.epochs[-1]) if begun.get("zoo") == source.name else source.epochs[-1]


def sparsify_zoo(config: Config) -> None:
    """Train the twin of the zoo of a config, whatever of it is there already.

    Raises:
        UserError: if there is no such zoo, it is unfinished, was trained on other images or in other batches, it is not on
            record what one of its models was trained with, or the twin's name is taken.
    """
    chosen, name = config.sparsify, config.zoo.name
    source = open_zoo(config, part=True)
    if source.description["arch"].get("variational"):
        raise UserError(
            f"zoo.name: {name} has variances already: sparsify its source, or {name}_masked, its kept weights"
        )
    images = zoo_images(config, source)
    if source.description["dataset"]["fingerprint"] is None:  # it was imported
        _compare_accuracies(config, source, images)
    if chosen.name == "vd":
        _refuse_taken(config, source)
    protocol = source.description["protocol"]
    if protocol["batch_size"] != config.zoo.batch_size:
        raise UserError(
            f"zoo.batch_size: got {config.zoo.batch_size}, but zoo {name!r} was trained with {protocol['batch_size']}: use the "
            "zoo's own overrides"
        )
    # Of the source's command line, what it starts from and what it prunes is no concern of the twin's.
    epoch = start_epoch(config, source)
    made_by = command(config) + f" sparsify.epoch={epoch}" * (chosen.epoch is None)
    words = [
        "task=zoo",
        f"zoo.name={twin_name(config)}",
        f"zoo.start.zoo={name}",
        f"zoo.start.epoch={epoch}",
    ]
    words += [
        "zoo.start.split=null",
        "zoo.start.seed=null",
        "zoo.pruned.share=0.0",
        f"zoo.epochs={chosen.epochs}",
    ]
    words += [f"zoo.grid.{factor}={values}" for factor, values in trained_with(source, chosen.lr).items()]
    words.append(f"zoo.schedule={chosen.schedule or protocol['schedule']}")
    if chosen.shared_seed:
        words.append(f"zoo.start.seed={max(0, source.models['seed'].iloc[0])}")  # -1: not known
    if chosen.name == "magnitude":
        words += [f"zoo.pruned.share={chosen.share}", f"zoo.pruned.epochs={chosen.steps}"]
        train_zoo(derive(config, *words), made_by)
        return
    words += ["++arch.variational=true", f"zoo.divergence_rate={chosen.divergence_rate}"]
    train_zoo(derive(config, *words), made_by)
    twin = Zoo.open(source.path.with_name(twin_name(config)), config.arch.module)
    if twin.finished:  # else other shards are still at it
        with locked(twin.path / ".lock"):  # several may have found it finished
            store_masked(twin)


def _compare_accuracies(config: Config, source: Zoo, images: ImageData) -> None:
    """Tell if these seem to be other images than the zoo's, before its twin is begun; the published code asserts it, too."""
    if (source.path.with_name(twin_name(config)) / "zoo.json").exists():
        return
    apart = accuracies_apart(config, source, images)
    if len(apart) and apart.max() > MOST_APART:
        console.print(
            f"Test accuracies of {len(apart)} models of zoo {source.name} are up to {100 * apart.max():.1f} % off those on "
            "record: these are other images than the zoo's, or they were prepared in another way.",
            style="bold", highlight=False, soft_wrap=True,
        )  # fmt: skip


def _refuse_taken(config: Config, source: Zoo) -> None:
    """Told before the training: the kept weights would find no place after it."""
    twin, masked = (source.path.with_name(name) for name in (twin_name(config), masked_name(config)))
    if not (masked / "zoo.json").exists():
        return
    spec = Zoo.open(masked).description["spec"]
    if spec.get("kind") != "masked" or spec.get("zoo") != twin.name or not (twin / "zoo.json").exists():
        raise UserError(
            f"{masked} is there, but holds no kept weights of a twin {twin.name!r} that is there, too: delete it, or choose "
            "another sparsify.twin"
        )


def trained_with(source: Zoo, lr: float | None) -> dict[str, list[Any]]:
    """The values of each factor of training among the models of a zoo; of `lr` only this one, unless it is None.

    A grid of them leaves models what they were (see `Start`).

    Raises:
        UserError: if one is not on record: some imported models do not tell.
    """
    found: dict[str, list[Any]] = {}
    for factor in TRAINING_FACTORS:
        values = source.models[factor] if factor != "lr" or lr is None else pd.Series([lr])
        if values.isna().any():
            raise UserError(
                f"zoo {source.name!r}: it is not on record with which {factor} {values.isna().sum()} of its models were "
                "trained, so their twins cannot be trained alike; import them again with it in their params.json"
            )
        found[factor] = values.unique().tolist()
    return found


def store_masked(twin: Zoo) -> Zoo:
    """The kept weights of a zoo with variances as a zoo of the plain architecture: <its name>_masked, all its epochs.

    Scores are those of the twin: in evaluation, its networks are these.
    """
    arch = twin.architecture
    name = f"{twin.name}_masked"
    description = {
        **{key: twin.description[key] for key in KEPT if key in twin.description},
        "name": name,
        "about": f"The kept weights of {twin.name}. {twin.description['about']}",
        "spec": {"kind": "masked", "zoo": twin.name, "start": twin.description["spec"]["start"]},
        "arch": arch.plain().to_dict(),
        "metrics": [m for m in twin.description["metrics"] if not m.startswith("weight_max")],
        "command": twin.description["command"],
    }
    rows, metrics = (
        twin.models.drop(columns=["status", "diverged_epoch"]),
        twin.metrics.set_index(["epoch", "model_id"]),
    )
    masked = create_zoo(twin.path.with_name(name), description, rows)
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
    finalise(masked)
    return Zoo.open(masked.path)
