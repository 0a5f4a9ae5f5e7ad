"""Maps of weights: where models lie at all epochs, in two dimensions (Model Zoos, Schürholt et al., 2022, Figure 3).

UMAP with the only settings on record (25 neighbours, minimal distance 0.001, Euclidean, seed 42). A map can show clusters
that are none, so a number goes with it: how often the nearest models share a factor.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from zoo import Zoo
from zoo.base.console import console
from zoo.base.lazy import distance
from zoo.base.names import FACTORS

EPOCHS = 12  # at most, evenly spaced, the last among them
BYTES = 2**32  # of weights on the map at most
FEWEST_STATES = 10  # of which a map is made
NEIGHBOURS = 10  # that are asked for their factors


def weights_map(zoo: Zoo, models: np.ndarray, states: int) -> pd.DataFrame:
    """Some states of a zoo in two dimensions.

    Args:
        zoo: finished.
        models: ids of those that are viable; as many of them are shown as fit.
        states: how many are shown at most.

    Returns:
        One row a state: model_id, epoch, test_acc, the generating factors, and x, y.
    """
    console.print(
        "Mapping the weights with UMAP, which is compiled first: about 15 s.", highlight=False, soft_wrap=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # it misses TensorFlow, which is for something else
        import umap

    epochs = [zoo.epochs[i] for i in np.unique(np.linspace(0, len(zoo.epochs) - 1, EPOCHS).round().astype(int))]
    states = min(states, BYTES // (4 * zoo.n_parameters))
    # Spread over the rows: these go seed by seed.
    shown = models[np.unique(np.linspace(0, len(models) - 1, max(1, states // len(epochs))).round().astype(int))]
    data = zoo.dataset(None, epochs, ["test_acc", *FACTORS], models=shown)
    reducer = umap.UMAP(
        n_neighbors=min(25, len(data) - 1), min_dist=0.001, transform_seed=42, random_state=42, n_jobs=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few points, and of what a fixed seed forbids
        points = reducer.fit_transform(data.weights.numpy())
    return data.table.assign(x=points[:, 0], y=points[:, 1])


def alike(distances: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """How often the nearest models have a model's own label, and how often any two models do.

    Args:
        distances: of all pairs, float [n (n - 1) / 2], in the order of `numpy.triu_indices(n, 1)`.
        labels: [n], e.g. the initialisation; models whose label is not known (None or nan) are left out.

    Returns:
        Two shares; the second is what chance gives. nan if there is but one model.
    """
    known = pd.notna(labels)
    labels, n = labels[known], int(known.sum())
    if n < 2:
        return float("nan"), float("nan")
    square = distance.squareform(distances)[np.ix_(known, known)]
    np.fill_diagonal(square, np.inf)  # nobody is its own neighbour
    count = min(NEIGHBOURS, n - 1)
    nearest = np.argpartition(square, count - 1, axis=1)[:, :count]
    _, counts = np.unique(labels, return_counts=True)
    chance = (counts * (counts - 1)).sum() / (n * (n - 1))
    return float((labels[nearest] == labels[:, None]).mean()), float(chance)


def clustering(clusters: pd.DataFrame) -> str:
    """In words, the factor by which weights cluster most: a row a factor, see `alike`."""
    if not len(clusters):
        return "models differ in their seeds alone"
    most = clusters.iloc[int((clusters["alike"] - clusters["chance"]).argmax())]
    return (
        f"near models share {most['factor'].replace('_', ' ')} in {100 * most['alike']:.0f} % of cases, any two in "
        f"{100 * most['chance']:.0f} %"
    )


def factors_of(table: pd.DataFrame) -> list[str]:
    """The factors that vary on a map."""
    return [factor for factor in FACTORS if table[factor].nunique() > 1]
