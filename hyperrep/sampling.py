"""`task=sample`: draw new networks and store them as a population, which everything that works on a zoo works on."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hyperrep.alignment import align
from hyperrep.config import Config
from hyperrep.models.autoencoder import Autoencoder
from hyperrep.models.stored import autoencoder_hash, hyperrep_folder, load_autoencoder, trained_description
from hyperrep.samplers import Anchors, Sampler, anchors_in_words, fit_sampler, sampler_class, selected
from hyperrep.states import States, in_batches, read_states
from zoo import Zoo
from zoo.base.console import Progress, console
from zoo.base.errors import UserError
from zoo.base.files import locked
from zoo.base.names import FACTORS, SCORES
from zoo.base.versions import versions
from zoo.config.recorded import command
from zoo.engines.engine import untrained
from zoo.engines.evaluation import Networks, predictions
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture
from zoo.networks.copies import copied
from zoo.store.stored import CLASS_ACCURACY
from zoo.store.writer import create_zoo, drop_damaged_manifest, finalise
from zoo.training.opening import open_zoo, zoo_images
from zoo.training.spec import deal_splits
from zoo.training.start import TRAINING_FACTORS
from zoo.training.states import epoch_metrics
from zoo.training.summary import print_summary

log = logging.getLogger(__name__)

COMPARED_STATES = 500  # reconstructions whose distance to those of other models is measured
NUMBERS_AT_ONCE = 2**25  # of weights whose distances are measured: 256 MB
SAME = 1e-6  # of their norm: vectors that are nearer to each other are one, but for rounding


def sample_population(config: Config) -> Zoo:
    """Draw, evaluate and store `population.models` networks, unless they are there already, and print how they do.

    Raises:
        UserError: if the zoo or the autoencoder is missing, the sampler's options are wrong, or the population's name is
            taken by another one.
    """
    zoo = open_zoo(config)
    folder = hyperrep_folder(config)
    kind = sampler_class(config.sampler.name)
    autoencoder = load_autoencoder(folder, config.autoencoder, zoo) if kind.space == "latent" else None
    description = describe_population(config, zoo, kind, folder)
    population = stored_population(config, description)
    if population is None:
        lock = Path(config.paths.root) / "zoos" / f".{config.population.name}.lock"
        busy = f"another process ({{owner}}) is drawing population {config.population.name!r}: wait until it ends, and try again"
        with locked(lock, busy):
            population = _drawn(config, zoo, kind, autoencoder, folder, description)
    print_summary(population)
    return population


def _drawn(
    config: Config,
    zoo: Zoo,
    kind: type[Sampler],
    autoencoder: Autoencoder | None,
    folder: Path,
    description: dict[str, Any],
) -> Zoo:
    """Draw the population of a description, and store it; `folder` is that of the autoencoder."""
    arch = zoo.architecture
    images = zoo_images(config, zoo)
    states = read_states(zoo, config.autoencoder, folder.parent, images)["train"]
    anchors = anchor_points(states, autoencoder, config.sampler.top_by)
    sampler = fit_sampler(config.sampler, anchors, config.trainer.accelerator)
    n = config.population.models * config.sampler.best_of
    weights, points = draw(sampler, anchors, autoencoder, n, config.population.seed)
    asked = sampler.factors(n, config.population.seed)
    rows = population_table(points, anchors, asked, config.population.seed)
    if config.sampler.best_of > 1:
        predicted = predictions(arch, weights, rows, images.val, images, config.engine)
        kept = choose(predicted, images.val.labels.numpy(), config.population.models, config.sampler.variety)
        weights = weights[torch.from_numpy(kept)]
        named = rows.iloc[: len(kept)][["model_id", "seed", "split"]]
        rows = rows.iloc[kept].drop(columns=list(named)).reset_index(drop=True).join(named)
    in_order = matched(weights, states.weights, arch, config.autoencoder.align)
    near = copies(weights, states.weights, anchors.model_id) | copies(in_order, states.weights, anchors.model_id)
    decoded = None if autoencoder is None else in_batches(autoencoder.decode, torch.from_numpy(anchors.embeddings))
    description["measured"] = {
        "centroid_accuracy": centroid_accuracy(
            arch, selected(config.sampler, anchors), autoencoder, rows, images, config
        ),
        "anchor_distance": nearest_distance(weights, states.weights) / float(states.weights.norm(dim=1).mean()),
        "reconstruction_distance": reconstruction_distance(weights, decoded, anchors.model_id),
        "copies_by_weights": np.flatnonzero(near).tolist(),
        "reconstructions": None
        if decoded is None
        else np.flatnonzero(copies(weights, decoded, anchors.model_id)).tolist(),
    }
    return store_population(config, description, arch, weights, rows, images)


def anchor_points(states: States, autoencoder: Autoencoder | None, top_by: str) -> Anchors:
    """The states as anchors: their embeddings or, without an autoencoder, their weights.

    Their test accuracy is with them only where they are to be selected by it (`top_by` is "test").
    """
    points = states.weights if autoencoder is None else in_batches(autoencoder.encode, states.weights)
    table = states.table
    return Anchors(
        points.numpy().astype(np.float32),
        table["model_id"].to_numpy(),
        table["epoch"].to_numpy(),
        table["val_acc"].to_numpy(),
        table[list(FACTORS)],
        table["test_acc"].to_numpy() if top_by == "test" else None,
    )


def draw(
    sampler: Sampler, anchors: Anchors, autoencoder: Autoencoder | None, n: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw `n` networks: weights [n, P], and the points they are, [n, D]: embeddings, or the weights themselves.

    Raises:
        UserError: if a sampler of the user's draws something else.
    """
    drawn = np.asarray(sampler.sample(n, seed), np.float32)
    if drawn.shape != (n, anchors.embeddings.shape[1]):
        raise UserError(
            f"sampler: {type(sampler).__name__}.sample drew {list(drawn.shape)}, but {n} points of "
            f"{anchors.embeddings.shape[1]} dimensions are wanted"
        )
    points = torch.from_numpy(drawn)
    return points if autoencoder is None else in_batches(autoencoder.decode, points), points


def population_table(points: Tensor, anchors: Anchors, asked: pd.DataFrame | None, seed: int) -> pd.DataFrame:
    """The models of a population as rows of a zoo: what they are, and how they would be trained on.

    A factor that draws were asked to have is theirs. For the others: an embedding does not name the activation, so a
    draw gets that of its nearest anchor; and how most of the zoo was trained is how it would be trained on.
    """
    n = len(points)
    table = pd.DataFrame({"model_id": range(n), "seed": range(seed * n, seed * n + n), "init": "sampled"})
    assert anchors.properties is not None
    known = anchors.properties["activation"].to_numpy()
    nearest = [torch.cdist(part, torch.from_numpy(anchors.embeddings)).argmin(1) for part in points.split(500)]
    table["activation"] = known[torch.cat(nearest).numpy()]
    for factor in TRAINING_FACTORS:
        table[factor] = next(iter(anchors.properties[factor].mode()), None)  # of imported models it may not be known
    table["split"] = deal_splits(n, seed)
    for factor in ("activation", *TRAINING_FACTORS):
        if asked is not None and factor in asked:
            table[factor] = asked[factor].to_numpy()
    return table


def choose(predicted: np.ndarray, labels: np.ndarray, n: int, variety: float) -> np.ndarray:
    """Which `n` networks to keep, one after another: int64 [n].

    Each time the one with the largest accuracy + variety * (mean disagreement with those that are kept already): maximal
    marginal relevance (Carbonell and Goldstein, 1998). With variety 0 these are the most accurate ones.

    Args:
        predicted: classes int16 [networks, images] on images that nothing is reported on.
        labels: their classes, int [images].
        n: at most as many as there are networks.
        variety: what disagreement counts; at least 0.
    """
    score = (predicted == labels).mean(axis=1)
    if variety == 0:
        return np.argsort(-score, kind="stable")[:n]
    disagreement, kept = np.zeros(len(predicted)), np.zeros(n, np.int64)
    for i in range(n):
        kept[i] = np.argmax(score + variety * disagreement / max(i, 1))
        disagreement += (predicted != predicted[kept[i]]).mean(axis=1)
        score[kept[i]] = -np.inf
    return kept


def centroid_accuracy(
    arch: Architecture,
    anchors: Anchors,
    autoencoder: Autoencoder | None,
    rows: pd.DataFrame,
    images: ImageData,
    config: Config,
) -> float:
    """Test accuracy of the network in the middle of the anchors: what a population of one network can reach."""
    centre = torch.from_numpy(anchors.embeddings.mean(axis=0, keepdims=True))
    weights = centre if autoencoder is None else in_batches(autoencoder.decode, centre)
    with Networks(arch, weights, rows.head(1), images, config.engine) as networks:
        return float(networks.scores(images.test).accuracy[0])


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances of all of [n, P] to all of [m, P]: float64 [n, m]; 0 for those that are one but for rounding."""
    size, rows = max(1, NUMBERS_AT_ONCE // first.shape[1]), []
    for part in first.split(size):
        values = part.double()
        found = torch.cat([torch.cdist(values, others.double()) for others in second.split(size)], dim=1)
        rows.append(found.masked_fill(found <= SAME * values.norm(dim=1, keepdim=True), 0))
    return torch.cat(rows)


def nearest_distance(weights: Tensor, others: Tensor, same: Tensor | None = None) -> float:
    """Euclidean distance to the nearest of `others`, mean over networks.

    Args:
        weights: [n, P].
        others: [m, P], aligned as `weights`: in another order of neurons, the distance of a network to itself would not
            be 0.
        same: bool [n, m]: which of the others do not count for which network.
    """
    apart = distances(weights, others)
    if same is not None:
        apart[same] = torch.inf
    return float(apart.min(dim=1).values.mean())


def copies(weights: Tensor, others: Tensor, models: np.ndarray) -> np.ndarray:
    """Which networks [n, P] are copies of one of `others` [m, P], states of `models` int [m], by Euclid's distance (see
    `zoo.networks.copies`): bool [n]."""
    apart = distances(weights, others).numpy()
    return copied(apart, models, lambda places: distances(others[torch.from_numpy(places)], others).numpy())


def matched(weights: Tensor, states: Tensor, arch: Architecture, mode: str) -> Tensor:
    """Networks [n, P] in the order of neurons in which each resembles the mean of aligned states [m, P] most.

    Draws of a sampler need not come in the states' order. Networks that are not finite stay as they are, and so do all where
    the states are in no common order (`mode` of `align` is "none").
    """
    finite = weights.isfinite().all(dim=1)
    if mode == "none" or not finite.any():
        return weights
    mean = states.mean(0, keepdim=True)
    ordered, _ = align(torch.cat([mean, weights[finite]]), arch, "weights", mean_over=[0])
    weights = weights.clone()
    weights[finite] = ordered[1:]
    return weights


def reconstruction_distance(weights: Tensor, decoded: Tensor | None, models: np.ndarray) -> float | None:
    """How far networks lie from reconstructions of training states, beside how far those of different models lie apart.

    Args:
        weights: [n, P].
        decoded: the reconstructions [m, P]; None without an autoencoder.
        models: int [m], whose states these are.

    Returns:
        Mean distance of `weights` to the nearest reconstruction, over the mean distance of a reconstruction to the nearest one
        of another model: 0 for reconstructions, about 1 for what is as new as another model. None without an autoencoder or
        another model.
    """
    if decoded is None or len(set(models)) == 1:
        return None
    ids = torch.tensor(models)
    few = torch.arange(0, len(decoded), math.ceil(len(decoded) / COMPARED_STATES))
    between = nearest_distance(decoded[few], decoded, ids[few, None] == ids)
    return nearest_distance(weights, decoded) / max(between, 1e-12)  # which a decoder has that knows one network only


def describe_population(config: Config, zoo: Zoo, kind: type[Sampler], folder: Path) -> dict[str, Any]:
    """What zoo.json says of a population; `folder` is that of the autoencoder."""
    in_latent = kind.space == "latent"
    uses_images = config.autoencoder.uses_images if in_latent else config.autoencoder.align == "activations"
    spec: dict[str, Any] = {
        "kind": "sampled", "models": config.population.models, "zoo": {"name": zoo.name, "identity": zoo.identity},
        "sampler": asdict(config.sampler), "draws": kind.kind, "space": kind.space, "uses_images": uses_images,
        "population_seed": config.population.seed, "states": config.autoencoder.states, "align": config.autoencoder.align,
    }  # fmt: skip
    if in_latent:
        spec["autoencoder"] = trained_description(folder)["autoencoder"]
        spec["autoencoder_file"] = autoencoder_hash(folder)
    return described(config, zoo, config.population.name, about(config, zoo, kind, uses_images), spec)


def described(config: Config, source: Zoo, name: str, about: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The description, as `store_population` wants it, of a population that comes of a zoo and is of its kind.

    Args:
        config: whose command made it.
        source: the zoo.
        name: of the population.
        about: what it is, in words.
        spec: what it is, to the last option.
    """
    return {
        "name": name,
        "published": None,
        "license": source.description.get("license"),
        "about": about,
        "spec": spec,
        **{key: source.description[key] for key in ("protocol", "arch", "dataset", "engine")},
        "epochs": 0,
        "versions": versions(),
        "command": command(config),
        "measured": {},
    }


def stored_population(config: Config, description: dict[str, Any]) -> Zoo | None:
    """The population of a description if it is there, finished, undamaged, and was made as its `spec` says."""
    path = Path(config.paths.root) / "zoos" / description["name"]
    drop_damaged_manifest(path)
    if not (path / "manifest.json").exists():
        return None
    population = Zoo.open(path, config.arch.module)
    if population.description["spec"] != json.loads(json.dumps(description["spec"])):
        return None
    if damages := population.damages():
        log.warning("%s: population %s is drawn again", "; ".join(damages), population.name)
        return None
    return population


def store_population(
    config: Config,
    description: dict[str, Any],
    arch: Architecture,
    weights: Tensor | np.ndarray,
    rows: pd.DataFrame,
    images: ImageData,
) -> Zoo:
    """Write networks as a zoo of one epoch, 0, with their scores.

    Args:
        config: whose engine evaluates them, and whose folder they go to.
        description: of the zoo, as for `zoo.store.writer.create_zoo`, but for the names of its metrics.
        arch: their architecture.
        weights: [n, P].
        rows: one row a network, as for `zoo.store.writer.create_zoo`.
        images: that they are scored on.

    Raises:
        UserError: if the name is taken by another one.
    """
    description = description | {"metrics": [*SCORES, *(f"{CLASS_ACCURACY}{c}" for c in range(images.classes))]}
    population = create_zoo(Path(config.paths.root) / "zoos" / description["name"], description, rows)
    values = np.ascontiguousarray(weights, np.float32)
    with Progress("scoring networks", len(rows), "networks") as progress:
        for block in population.blocks(100):
            with block:
                if block.pending:
                    part, these = values[block.first : block.last + 1], rows.iloc[block.first : block.last + 1]
                    with Networks(arch, part, these, images, config.engine) as networks:
                        metrics = epoch_metrics(
                            *(networks.scores(getattr(images, s)) for s in ("train", "val", "test"))
                        )
                    fresh = untrained(part)
                    optimizer = {
                        "first_moment": fresh.first_moment,
                        "second_moment": fresh.second_moment,
                        "step": fresh.step,
                    }
                    block.commit(0, {"weights": part}, metrics, optimizer)
            progress.advance(len(block.models))
    finalise(population)
    console.print(description["about"], highlight=False)
    return Zoo.open(population.path, config.arch.module)


def about(config: Config, zoo: Zoo, kind: type[Sampler], uses_images: bool) -> str:
    """What a population is, in words that go wherever it goes."""
    chosen = config.sampler
    learnt = f"the embeddings of autoencoder {config.autoencoder.name}" if kind.space == "latent" else "weights"
    anchors = anchors_in_words(chosen.top, chosen.top_by)
    words = f"Networks drawn by sampler {chosen.label} ({kind.kind}) from {learnt} of zoo {zoo.name}, {anchors}."
    if chosen.best_of > 1:
        by = "accuracy and variety" if chosen.variety > 0 else "accuracy"
        words += f" One in {chosen.best_of} draws is kept, chosen for {by} on validation images."
    return words + (
        " Images were used in learning the weights." if uses_images else " No image was used in learning the weights."
    )
