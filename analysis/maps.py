"""Maps of weights: where models lie at all epochs, in two dimensions (Model Zoos, Schürholt et al., 2022, Figure 3).

UMAP with the only settings on record (25 neighbours, minimal distance 0.001, Euclidean, seed 42). A map can show clusters
that are none, so a number goes with it: how often the nearest states of other models share a factor.
"""

from __future__ import annotations

import warnings

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.neighbors import NearestNeighbors

from analysis.figures import COLOURS, STYLE
from zoo import Zoo
from zoo.spec import FACTORS

EPOCHS = 12  # at most, evenly spaced, the last among them
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # it misses TensorFlow, which is for something else
        import umap  # takes about 15 s the first time

    epochs = [zoo.epochs[i] for i in np.unique(np.linspace(0, len(zoo.epochs) - 1, EPOCHS).round().astype(int))]
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


def alike(values: np.ndarray, models: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """How often the nearest states of other models have a state's own label, and how often any two of different models do.

    Args:
        values: float [n, F], e.g. weights.
        models: [n], whose state it is.
        labels: [n], e.g. the initialisation.

    Returns:
        Two shares; the second is what chance gives. nan if there is but one model.
    """
    if len(np.unique(models)) < 2:
        return float("nan"), float("nan")
    most = int(pd.Series(models).value_counts().iloc[0])  # states of a model: all of them may be nearer than any other
    _, near = NearestNeighbors(n_neighbors=min(len(values), most + NEIGHBOURS)).fit(values).kneighbors(values)
    same, every = [], []
    for i, row in enumerate(near):
        others = row[models[row] != models[i]][:NEIGHBOURS]
        same.append(np.mean(labels[others] == labels[i]))
        every.append(np.mean(labels[models != models[i]] == labels[i]))
    return float(np.mean(same)), float(np.mean(every))


def map_figure(table: pd.DataFrame, name: str) -> Figure:
    """The map, a panel for the epoch and for each factor that varies.

    Args:
        table: as `weights_map` gives it.
        name: of the zoo.
    """
    factors = [factor for factor in FACTORS if table[factor].nunique() > 1]
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(3.1 * (1 + len(factors)), 3.2))
        panels = np.atleast_1d(figure.subplots(1, 1 + len(factors)))
    shown = panels[0].scatter(table["x"], table["y"], c=table["epoch"], s=4, cmap="viridis", linewidths=0)
    figure.colorbar(shown, ax=panels[0], label="epoch")
    for axes, factor in zip(panels[1:], factors):
        for i, (label, rows) in enumerate(table.groupby(factor)):
            axes.scatter(rows["x"], rows["y"], s=4, color=COLOURS[i % len(COLOURS)], label=str(label), linewidths=0)
        axes.set(title=factor.replace("_", " "))
        axes.legend(fontsize=7, markerscale=2, loc="best")
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    of = table["model_id"].nunique()
    figure.suptitle(
        f"{name}: UMAP of the weights of {of} models at {table['epoch'].nunique()} epochs", x=0.01, ha="left"
    )
    figure.tight_layout()
    return figure
