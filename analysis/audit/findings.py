"""What an audit finds: as a table, in words, on disk."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from zoo.base.console import console
from zoo.base.files import reading
from zoo.store.manifest import read_listed
from zoo.store.schema import check_columns

QUANTILES = (0.05, 0.5, 0.95)  # of the overlap
APART = 0.05  # how far their accuracy may be from the population's, or as far as its standard deviation


@dataclass(frozen=True)
class Audit:
    """What the audit finds; shares and accuracies in [0, 1], on the test images (which nothing but `top_by=test` selects by).

    Models of the zoo at the population's accuracy: `PEERS` at most, those of the val and test splits first, each at the epoch at
    which it comes nearest to the population's median accuracy. They are compared with training states of other models.

    Attributes:
        models: n.
        accuracy, accuracy_std: mean and standard deviation over the population (ddof 0).
        copies: share of networks that are copies of a training state, by their predictions, their errors, or their weights
            (in the anchors' order of neurons, and matched to it).
        zoo_copies: the same of models of the zoo at the population's accuracy, by predictions and errors: what the rule calls
            a copy by chance.
        reconstructions: share of networks that are copies of the reconstruction of a training state, by their weights; nan for
            weight-space samplers, which have none, and where it was not measured.
        repeats: share of networks that disagree with another one of the population less than half as much as models of the zoo
            at its accuracy do with the nearest training state (`zoo_nearest`).
        nearest: disagreement with the training state that a network agrees with most, mean over the population.
        zoo_nearest: the same of models of the zoo at the population's accuracy.
        within: disagreement of two networks of the population, median over pairs.
        zoo_within: the same of models of the zoo at the population's accuracy.
        iou, iou_q05, iou_q50, iou_q95: largest intersection over union of a network's error set with that of any training state:
            mean and quantiles over the population.
        zoo_iou, zoo_iou_q05, zoo_iou_q50, zoo_iou_q95: the same of models of the zoo at the population's accuracy.
        distance: Euclidean distance to the nearest training state's weights over the training states' mean norm, mean;
            measured when the population was drawn, in the anchors' order of neurons.
        reconstruction: Euclidean distance to the nearest reconstruction of a training state, mean, over that of a
            reconstruction to the nearest one of another model, mean; nan for weight-space samplers, which have none.
        ensemble: accuracy of the mean of the softmax outputs of all networks.
        centroid: accuracy of the network that lies in the middle of the anchors.
        kind: independent or anchored: what the sampler declares, unless the verdict says otherwise.
        best_of: how many were drawn for one that was kept, by its accuracy on validation images.
        variety: what disagreement with the others counted in that choice, beside accuracy.
        about: which sampler, anchors, choice and images these come of, in words.
        verdict: "copies", "reconstructions", "partly", "unknown", "collapsed", "narrow" or "new", see `verdict`.
    """

    models: int
    accuracy: float
    accuracy_std: float
    copies: float
    zoo_copies: float
    reconstructions: float
    repeats: float
    nearest: float
    zoo_nearest: float
    within: float
    zoo_within: float
    iou: float
    iou_q05: float
    iou_q50: float
    iou_q95: float
    zoo_iou: float
    zoo_iou_q05: float
    zoo_iou_q50: float
    zoo_iou_q95: float
    distance: float
    reconstruction: float
    ensemble: float
    centroid: float
    kind: str
    best_of: int
    variety: float
    about: str
    verdict: str


def verdict(
    copies: float, reconstructions: float, tied: float, chance: float, repeats: float, within: float, zoo_within: float
) -> str:
    """In a word what a population is.

    copies, reconstructions: at least half of its networks are one or the other, and more than by chance; the word is that of
        the larger share.
    partly: fewer than half, but more than by chance.
    unknown: there is but one network, or one model of the zoo, so that nothing can be said of their variety.
    collapsed: at least half of its networks have a near-twin in it, or two of them disagree less than half as much as equally
        accurate models of the zoo do.
    narrow: not that little, but still less than those.
    new: none of this.

    Args:
        copies, reconstructions, repeats, within, zoo_within: as in `Audit`.
        tied: share of networks that are a copy or a reconstruction.
        chance: as `zoo_copies` in `Audit`.
    """
    if tied > chance:
        if tied < 0.5:
            return "partly"
        return "reconstructions" if reconstructions > copies else "copies"
    if np.isnan(within) or np.isnan(zoo_within):
        return "unknown"
    if repeats >= 0.5 or within < 0.5 * zoo_within:
        return "collapsed"
    return "narrow" if within < zoo_within else "new"


def read_audit(file: Path) -> dict[str, Any]:
    """An audit that is kept: the fields of `Audit`, and `population`, the identity of its population.

    Raises:
        UserError: if the file is missing or damaged.
    """
    texts = ("kind", "about", "verdict")
    older = (
        "copies",
        "zoo_copies",
        "reconstructions",
        "repeats",
        "iou",
        "zoo_iou",
    )  # an older audit lacks what begins so
    with reading(file, "run task=sample of the population again"):
        table = pd.read_csv(io.BytesIO(read_listed(file)))
        names = [item.name for item in fields(Audit) if item.name not in texts]
        names = [name for name in names if name in table or not name.startswith(older)]
        check_columns(table, names, ("kind", "verdict"))
        if len(table) != 1 or table["verdict"].iloc[0] not in VERDICTS or "about" not in table:
            raise ValueError("it is not one row with a verdict")
        return {str(name): value for name, value in table.iloc[0].items()}


WORDS = {
    "models": "networks",
    "accuracy": "test accuracy",
    "copies": "copies of a training model",
    "zoo_copies": "… among models of the zoo at the same accuracy, each compared with the others",
    "reconstructions": "reconstructions of a training model",
    "repeats": "near-twins of another one of the population",
    "nearest": "disagreement with the nearest training model",
    "zoo_nearest": "… of models of the zoo at the same accuracy with the others",
    "within": "disagreement within the population",
    "zoo_within": "… within the zoo at the same accuracy",
    "iou": "largest overlap of errors with a training model (IoU; 5, 50, 95 %)",
    "zoo_iou": "… of models of the zoo at the same accuracy with the others",
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
    "partly": "IN PART COPIES or reconstructions of training models",
    "collapsed": "COLLAPSED: variations of one or a few networks",
    "narrow": "new networks, less various than the zoo's",
    "new": "new networks, as various as the zoo's",
}
TIED = ("copies", "reconstructions", "partly")  # to training models: whatever the sampler declares, not independent


def print_audit(name: str, found: Audit) -> None:
    """The audit as a table."""
    table = Table(title=f"Novelty audit of {name}", show_header=False, title_justify="left")
    for name, words in WORDS.items():
        value = getattr(found, name)
        if isinstance(value, float) and np.isnan(value):
            continue
        text = _in_words(value)
        if name == "variety":
            text = f"{value:g}"
        if name == "accuracy":
            text = f"{text[:-2]} ± {100 * found.accuracy_std:.1f} %"
        if name in ("iou", "zoo_iou"):
            quantiles = (getattr(found, f"{name}_q{100 * q:02.0f}") for q in QUANTILES)
            text = f"{value:.3f} ({', '.join(f'{q:.3f}' for q in quantiles)})"
        table.add_row(words, text)
    console.print(table, highlight=False)


def _in_words(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{100 * value:.1f} %"
    return VERDICTS.get(str(value), str(value))
