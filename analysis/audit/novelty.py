"""The novelty audit of a sampled population: are these new networks, copies of training models, or all the same one?

Accuracy alone deceives: near-copies of training models and a population collapsed to one network score best of all. Means
deceive, too: a few networks of noise among many copies are far from everything. So networks are judged one by one. Which of
them are copies or reconstructions of a training model (see `zoo.networks.copies`), and which are near-twins of another one in the
population? Beside these shares stand, each beside that of models of the zoo at the same accuracy, the disagreement with the
nearest training model and within the population, and the measure of the critics, the overlap of error sets. What is copied is
judged as by Meehan, Chaudhuri and Dasgupta (2020): is a draw nearer to the training data than new data would be?
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import squareform

from analysis.audit.findings import APART, QUANTILES, TIED, Audit, print_audit, read_audit, verdict
from analysis.config import Config
from analysis.measures.agreement import disagreement, error_overlap, pairwise_disagreement
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.engines.evaluation import outputs_by_part, predictions
from zoo.images.data import ImageData, Images
from zoo.networks.copies import copied
from zoo.store.manifest import write_listed
from zoo.training.opening import read_images

PEERS = 100  # models of the zoo that its own disagreement is measured on, held-out ones first
COMPARED_IMAGES = 10_000  # test images that disagreement and overlap of errors are measured on


def audit_population(config: Config) -> Audit:
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
        write_listed(file, table.to_csv(index=False).encode())
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


def audit(population: Zoo, zoo: Zoo, images: ImageData, config: Config) -> Audit:
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
    predicted, labels = predicted[:, :COMPARED_IMAGES], labels[:COMPARED_IMAGES]

    trained = zoo.dataset("train", epochs, ("activation",))
    theirs = _predictions(zoo, trained.table, trained.weights.numpy(), images, config)
    ids = trained.table["model_id"].to_numpy()
    held_out = zoo.models[(zoo.models["split"] != "train") & arch.runs(zoo.models["activation"])]["model_id"]
    candidates = np.concatenate([held_out, np.unique(ids)])
    spread = max(APART, float(accuracy.std()))
    epoch_of = equally_accurate(zoo.metrics, candidates, float(np.median(accuracy)), spread)
    few = zoo.models.set_index("model_id", drop=False).loc[list(epoch_of)]
    at_epoch = [zoo.weights(models=[model], epochs=[epoch])[0, 0] for model, epoch in epoch_of.items()]
    peers = _predictions(zoo, few, np.stack(at_epoch), images, config) if len(few) else predicted[:0]

    ours = compare(predicted, theirs, ids, labels, classes)
    zoos = compare(peers, theirs, ids, labels, classes, few["model_id"].to_numpy())
    zoo_nearest = finite_mean(zoos.nearest)
    pairs = pairwise_disagreement(predicted, classes)
    twins = squareform(pairs) + np.diag(np.full(len(predicted), np.inf))
    repeats = float((twins.min(axis=1) < 0.5 * zoo_nearest).mean())
    within = float(np.median(pairs)) if len(pairs) else np.nan
    zoo_within = float(np.median(pairwise_disagreement(peers, classes))) if len(peers) > 1 else np.nan

    description = population.description
    spec, measured = description["spec"], description["measured"]
    copies, decoded = ours.copies.copy(), np.zeros(len(predicted), bool)
    copies[measured.get("copies_by_weights") or []] = True  # not measured of older populations
    known = measured.get("reconstructions")
    decoded[known or []] = True
    copied_share, decoded_share, tied = (float(which.mean()) for which in (copies, decoded, copies | decoded))
    chance = float(zoos.copies.mean()) if len(peers) else 0.0
    word = verdict(copied_share, decoded_share, tied, chance, repeats, within, zoo_within)
    mean_distance = measured["reconstruction_distance"]
    if known is None and mean_distance is not None and mean_distance <= 0.5:
        word = "reconstructions" if word != "copies" else word  # all that an older population tells
    iou, zoo_iou = overlaps(ours.overlap), overlaps(zoos.overlap)
    sampler, kind = spec["sampler"], spec["draws"]
    if kind == "independent" and word in TIED:
        kind = "anchored, though declared independent"
    return Audit(
        len(predicted), float(accuracy.mean()), float(accuracy.std()), copied_share, chance,
        np.nan if known is None else decoded_share, repeats, float(ours.nearest.mean()), zoo_nearest, within, zoo_within,
        iou[0], iou[1], iou[2], iou[3], zoo_iou[0], zoo_iou[1], zoo_iou[2], zoo_iou[3], measured["anchor_distance"],
        np.nan if mean_distance is None else mean_distance, float(ensemble), measured["centroid_accuracy"],
        kind, sampler["best_of"], sampler["variety"], description["about"], word,
    )  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Networks beside training states.

    Attributes:
        nearest: disagreement with the state that a network agrees with most: float [n].
        overlap: largest intersection over union of its error set with that of a state: float [n].
        copies: whether it is a copy of a state, by its predictions or by its errors: bool [n].
    """

    nearest: np.ndarray
    overlap: np.ndarray
    copies: np.ndarray


def compare(
    predicted: np.ndarray,
    states: np.ndarray,
    models: np.ndarray,
    labels: np.ndarray,
    classes: int,
    own: np.ndarray | None = None,
) -> Comparison:
    """Compare what networks predict with what training states do.

    Args:
        predicted: classes, int [n, images].
        states: classes, int [m, images].
        models: int [m], whose states these are.
        labels: int [images].
        classes: how many there are.
        own: int [n], for networks that are models of the zoo: which, so that their own states do not count; `nearest` is inf and
            `overlap` -inf where there is no other.
    """
    wrong = states != labels
    counts = np.ones((len(predicted), len(states)), bool) if own is None else own[:, None] != models
    apart = disagreement(predicted, states, classes)
    overlap = error_overlap(predicted != labels, wrong)
    copies = copied(apart, models, lambda places: disagreement(states[places], states, classes), own)
    copies |= copied(1 - overlap, models, lambda places: 1 - error_overlap(wrong[places], wrong), own)
    return Comparison(
        np.where(counts, apart, np.inf).min(axis=1), np.where(counts, overlap, -np.inf).max(axis=1), copies
    )


def finite_mean(values: np.ndarray) -> float:
    """Their mean; 0 if there are none, or one is infinite."""
    return float(values.mean()) if len(values) and np.isfinite(values).all() else 0.0


def overlaps(values: np.ndarray) -> list[float]:
    """Mean and `QUANTILES`; nan if there are none, or one is infinite."""
    if not len(values) or not np.isfinite(values).all():
        return [np.nan] * (1 + len(QUANTILES))
    return [float(values.mean()), *(float(value) for value in np.quantile(values, QUANTILES))]


def equally_accurate(metrics: pd.DataFrame, models: np.ndarray, accuracy: float, apart: float) -> dict[int, int]:
    """The first `PEERS` of some models that are about as accurate at some epoch, and at which epoch they are nearest to it.

    Args:
        metrics: of the zoo.
        models: ids, in the order of preference.
        accuracy: on test images, in [0, 1].
        apart: how far from it an accuracy may be.
    """
    finite = metrics[metrics["model_id"].isin(models) & np.isfinite(metrics["weight_max_abs"])]
    distance = (finite["test_acc"] - accuracy).abs()
    of_model = distance.groupby(finite["model_id"]).idxmin()
    nearest = finite.loc[of_model[[model for model in models if model in of_model.index]]]
    known = nearest[distance[nearest.index] <= apart].head(PEERS)
    return dict(zip(known["model_id"].tolist(), known["epoch"].tolist()))


def _predictions(zoo: Zoo, rows: pd.DataFrame, weights: np.ndarray, images: ImageData, config: Config) -> np.ndarray:
    """Predicted classes on the first test images: int16 [n, images]."""
    few = Images(images.test.pixels[:COMPARED_IMAGES], images.test.labels[:COMPARED_IMAGES])
    return predictions(zoo.architecture, weights, rows, few, images, config.engine)
