"""The novelty audit of a sampled population: are these new networks, copies of training models, or all the same one?

Accuracy alone deceives: near-copies of training models and a population collapsed to one network score best of all. So
beside it stand the disagreement with the nearest training model and within the population, each beside that of models of
the zoo at the same accuracy, the distances in weights, and what the ensemble and the centroid do. What is copied is
judged as by Meehan, Chaudhuri and Dasgupta (2020): is a draw nearer to the training data than new data would be?
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.table import Table

from analysis.agreement import disagreement, pairwise_disagreement
from zoo import Zoo
from zoo.errors import UserError
from zoo.files import read_file, reading, write_file
from zoo.images import ImageData, Images
from zoo.networks import outputs_by_part, predictions
from zoo.schema import check_columns
from zoo.training import console, read_images

PEERS = 100  # models of the zoo that its own disagreement is measured on
APART = 0.05  # how far their accuracy may be from the population's, or as far as its standard deviation
COMPARED_IMAGES = 2000  # test images that disagreement is measured on


@dataclass(frozen=True)
class Audit:
    """What the audit finds; shares and accuracies in [0, 1], on the test images (which nothing but `top_by=test` selects by).

    Attributes:
        models: n.
        accuracy, accuracy_std: mean and standard deviation over the population (ddof 0).
        nearest: disagreement with the training state that a network agrees with most, mean over the population.
        zoo_nearest: the same of training models at the population's accuracy with the states of the others.
        within: disagreement of two networks of the population, mean over pairs.
        zoo_within: the same of training models at the population's accuracy: each at the epoch at which it comes nearest.
        distance: Euclidean distance to the nearest training state's weights over the training states' mean norm, mean;
            measured when the population was drawn, in the anchors' order of neurons.
        reconstruction: Euclidean distance to the nearest reconstruction of a training state, mean, over that of a
            reconstruction to the nearest one of another model, mean; nan for weight-space samplers, which have none.
        ensemble: accuracy of the mean of the softmax outputs of all networks.
        centroid: accuracy of the network that lies in the middle of the anchors.
        kind: what the sampler declares: independent or anchored.
        best_of: how many were drawn for one that was kept, by its accuracy on validation images.
        variety: what disagreement with the others counted in that choice, beside accuracy.
        about: which sampler, anchors, choice and images these come of, in words.
        verdict: "copies", "reconstructions", "unknown", "collapsed", "narrow" or "new", see `verdict`.
    """

    models: int
    accuracy: float
    accuracy_std: float
    nearest: float
    zoo_nearest: float
    within: float
    zoo_within: float
    distance: float
    reconstruction: float
    ensemble: float
    centroid: float
    kind: str
    best_of: int
    variety: float
    about: str
    verdict: str


def verdict(nearest: float, zoo_nearest: float, within: float, zoo_within: float, reconstruction: float) -> str:
    """In a word what a population is; the arguments as in `Audit`.

    copies: its networks disagree with a training state less than half as much as equally accurate models of the zoo do.
    reconstructions: they lie less than half as far from the reconstruction of a training state as those lie apart.
    unknown: there is but one network, or one model of the zoo, so that nothing can be said of their variety.
    collapsed: they disagree with each other less than half as much as equally accurate models of the zoo do.
    narrow: not that little, but still less than those.
    new: none of this.
    """
    if nearest <= 0.5 * zoo_nearest:
        return "copies"
    if reconstruction <= 0.5:
        return "reconstructions"
    if np.isnan(within) or np.isnan(zoo_within):
        return "unknown"
    if within < 0.5 * zoo_within:
        return "collapsed"
    return "narrow" if within < zoo_within else "new"


def audit_population(config: Any) -> Audit:
    """Audit the population that the config's task=sample stored, unless it is done, keep it in audits/, and print it."""
    root = Path(config.paths.root)
    population = Zoo.open(root / "zoos" / config.population.name, config.arch.module)
    zoo = Zoo.open(root / "zoos" / config.zoo.name, config.arch.module)
    file = root / "audits" / f"{config.population.name}.csv"
    lacks = {"centroid_accuracy", "anchor_distance", "reconstruction_distance"} - set(
        population.description.get("measured", {})
    )
    if lacks:
        raise UserError(f"population {population.name!r} lacks what an audit needs (measured has no {', '.join(sorted(lacks))}): "
                        f"delete {population.path} and draw it again")  # fmt: skip
    found = _stored_audit(file, population)
    if found is None:
        found = audit(population, zoo, read_images(config), config)
        file.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame([{**vars(found), "population": population.identity}])
        write_file(file, table.to_csv(index=False).encode())
    print_audit(population.name, found)
    return found


def _stored_audit(file: Path, population: Zoo) -> Audit | None:
    """The audit in a file, if it is of this population and has all that an audit has."""
    try:
        row = read_audit(file)
    except UserError:  # it is not there, damaged, or of an earlier version
        return None
    if row.pop("population", None) != population.identity or set(row) != {item.name for item in fields(Audit)}:
        return None
    return Audit(**row)


def read_audit(file: Path) -> dict[str, Any]:
    """An audit that is kept: the fields of `Audit`, and `population`, the identity of its population.

    Raises:
        UserError: if the file is missing or damaged.
    """
    texts = ("kind", "about", "verdict")
    with reading(file, "run task=sample of the population again"):
        table = pd.read_csv(io.BytesIO(read_file(file)))
        check_columns(table, [item.name for item in fields(Audit) if item.name not in texts], ("kind", "verdict"))
        if len(table) != 1 or table["verdict"].iloc[0] not in VERDICTS or "about" not in table:
            raise ValueError("it is not one row with a verdict")
        return {str(name): value for name, value in table.iloc[0].items()}


def audit(population: Zoo, zoo: Zoo, images: ImageData, config: Any) -> Audit:
    """Compare a population with the zoo it came from.

    Args:
        population: a zoo of one epoch, whose `spec` says which sampler drew it.
        zoo: where its anchors came from; its train split is what may have been copied.
        images: of both.
        config: its engine evaluates the networks.
    """
    classes, epochs = images.classes, sorted(population.description["spec"]["states"])
    drawn = population.weights(epochs=[0])[:, 0]
    arch = zoo.architecture
    labels = images.test.labels.numpy()
    probabilities, parts = torch.zeros(len(labels), classes), []
    for outputs in outputs_by_part(arch, drawn, population.models, images.test, images, config.engine):
        probabilities += torch.softmax(outputs, 2).sum(0)
        parts.append(outputs.argmax(2).to(torch.int16).numpy())
    predicted = np.concatenate(parts)
    accuracy = (predicted == labels).mean(axis=1)
    ensemble = (probabilities.argmax(1).numpy() == labels).mean()
    predicted = predicted[:, :COMPARED_IMAGES]

    trained = zoo.dataset("train", epochs, ("activation",))
    theirs = _predictions(zoo, trained.table, trained.weights.numpy(), images, config)
    ids = trained.table["model_id"].to_numpy()
    epoch_of = equally_accurate(zoo.metrics, np.unique(ids), float(accuracy.mean()), max(APART, float(accuracy.std())))
    few = zoo.models.set_index("model_id", drop=False).loc[list(epoch_of)]
    at_epoch = [zoo.weights(models=[model], epochs=[epoch])[0, 0] for model, epoch in epoch_of.items()]
    peers = _predictions(zoo, few, np.stack(at_epoch), images, config) if len(few) else predicted[:0]

    nearest = disagreement(predicted, theirs, classes).min(axis=1).mean()
    zoo_nearest = nearest_other(disagreement(peers, theirs, classes), few["model_id"].to_numpy(), ids)
    within = pairwise_disagreement(predicted, classes).mean() if len(predicted) > 1 else np.nan
    zoo_within = pairwise_disagreement(peers, classes).mean() if len(peers) > 1 else np.nan
    description = population.description
    spec, measured = description["spec"], description["measured"]
    sampler, reconstruction = spec["sampler"], measured["reconstruction_distance"]
    reconstruction = np.nan if reconstruction is None else reconstruction
    return Audit(
        len(predicted), float(accuracy.mean()), float(accuracy.std()), float(nearest), zoo_nearest, float(within),
        float(zoo_within), measured["anchor_distance"], reconstruction, float(ensemble), measured["centroid_accuracy"],
        spec["draws"], sampler["best_of"], sampler["variety"], description["about"],
        verdict(nearest, zoo_nearest, within, zoo_within, reconstruction),
    )  # fmt: skip


def nearest_other(disagreement: np.ndarray, models: np.ndarray, others: np.ndarray) -> float:
    """Disagreement of a model with the nearest state of another one, mean over models; 0 if there is no other.

    Args:
        disagreement: [n, states].
        models: int [n], which model a row is.
        others: int [states], which model a column is a state of.
    """
    apart = np.where(models[:, None] == others, np.inf, disagreement).min(axis=1)
    return float(apart.mean()) if len(apart) and np.isfinite(apart).all() else 0.0


def equally_accurate(metrics: pd.DataFrame, models: np.ndarray, accuracy: float, apart: float) -> dict[int, int]:
    """The first `PEERS` of some models that are about as accurate at some epoch, and at which epoch they are nearest to it.

    Args:
        metrics: of the zoo.
        models: ids.
        accuracy: on test images, in [0, 1].
        apart: how far from it an accuracy may be.
    """
    finite = metrics[metrics["model_id"].isin(models) & np.isfinite(metrics["weight_max_abs"])]
    distance = (finite["test_acc"] - accuracy).abs()
    nearest = finite.loc[distance.groupby(finite["model_id"]).idxmin()]
    known = nearest[distance[nearest.index] <= apart].head(PEERS)
    return dict(zip(known["model_id"].tolist(), known["epoch"].tolist()))


def _predictions(zoo: Zoo, rows: pd.DataFrame, weights: np.ndarray, images: ImageData, config: Any) -> np.ndarray:
    """Predicted classes on the first test images: int16 [n, images]."""
    few = Images(images.test.pixels[:COMPARED_IMAGES], images.test.labels[:COMPARED_IMAGES])
    return predictions(zoo.architecture, weights, rows, few, images, config.engine)


WORDS = {
    "models": "networks",
    "accuracy": "test accuracy",
    "nearest": "disagreement with the nearest training model",
    "zoo_nearest": "… of models of the zoo at the same accuracy with the others",
    "within": "disagreement within the population",
    "zoo_within": "… within the zoo at the same accuracy",
    "distance": "distance to the nearest training model, of their mean norm",
    "reconstruction": "distance to the nearest reconstruction of a training model, of that between those",
    "ensemble": "ensemble of all, test accuracy",
    "centroid": "centroid of the anchors, test accuracy",
    "kind": "draws are",
    "best_of": "drawn for one kept, by accuracy on validation images",
    "variety": "weight of disagreement in that choice (accuracy: 1)",
    "about": "what these are",
    "verdict": "the audit finds",
}
VERDICTS = {
    "unknown": "too few networks to tell how various they are",
    "copies": "COPIES of training models",
    "reconstructions": "RECONSTRUCTIONS of training models",
    "collapsed": "COLLAPSED: variations of one network",
    "narrow": "new networks, less various than the zoo's",
    "new": "new networks, as various as the zoo's",
}


def print_audit(name: str, found: Audit) -> None:
    """The audit as a table."""
    table = Table(title=f"Novelty audit of {name}", show_header=False, title_justify="left")
    for item in fields(found):
        value = getattr(found, item.name)
        if item.name == "accuracy_std" or (isinstance(value, float) and np.isnan(value)):
            continue
        text = _in_words(value)
        if item.name == "variety":
            text = f"{value:g}"
        if item.name == "accuracy":
            text = f"{text[:-2]} ± {100 * found.accuracy_std:.1f} %"
        table.add_row(WORDS[item.name], text)
    console.print(table, highlight=False)


def _in_words(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{100 * value:.1f} %"
    return VERDICTS.get(str(value), str(value))
