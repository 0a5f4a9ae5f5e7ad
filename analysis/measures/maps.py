"""Maps of weights: where models lie at all epochs, in two dimensions (Model Zoos, Schürholt et al., 2022, Figure 3).

UMAP with the only settings on record (25 neighbours, minimal distance 0.001, Euclidean, seed 42). A map can show clusters
that are none, so a number goes with it: how often the nearest models share a factor.
"""

from __future__ import annotations

import itertools
import warnings

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial.distance import squareform

from analysis.show.figures import COLOURS, STYLE
from zoo import Zoo
from zoo.base.console import console
from zoo.base.names import FACTORS

EPOCHS = 12  # at most, evenly spaced, the last among them
COLUMNS = 4  # of panels
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
    square = squareform(distances)[np.ix_(known, known)]
    np.fill_diagonal(square, np.inf)  # nobody is its own neighbour
    count = min(NEIGHBOURS, n - 1)
    nearest = np.argpartition(square, count - 1, axis=1)[:, :count]
    _, counts = np.unique(labels, return_counts=True)
    chance = (counts * (counts - 1)).sum() / (n * (n - 1))
    return float((labels[nearest] == labels[:, None]).mean()), float(chance)


def map_figure(table: pd.DataFrame, name: str, clusters: pd.DataFrame) -> Figure:
    """The map, a panel for the epoch and for each factor that varies.

    Args:
        table: as `weights_map` gives it.
        name: of the zoo.
        clusters: a row a factor: factor, alike and chance, see `alike`.
    """
    factors = factors_of(table)
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        rows = -(-(1 + len(factors)) // COLUMNS)
        figure = Figure(figsize=(2.6 * COLUMNS, 3 * rows + 0.2))
        panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    draw_map(figure, panels, table, factors)
    figure.suptitle(f"{name}, UMAP of weights: {clustering(clusters)}", x=0.01, ha="left")
    figure.tight_layout()
    return figure


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


def draw_map(figure: Figure, panels: list[Axes], table: pd.DataFrame, factors: list[str]) -> None:
    """Draw a map into panels: the epoch, then each of the factors; those of factors that do not vary stay empty, as do
    further ones."""
    shown = panels[0].scatter(table["x"], table["y"], c=table["epoch"], s=4, cmap="viridis", linewidths=0)
    figure.colorbar(shown, ax=panels[0], orientation="horizontal", pad=0.03, aspect=30, label="epoch")
    drawn = {0}
    for i, factor in enumerate(factors, 1):
        if table[factor].nunique() < 2:
            continue
        unknown = table[table[factor].isna()]  # of imported models
        if len(unknown):
            panels[i].scatter(unknown["x"], unknown["y"], s=4, color="lightgrey", label="not known", linewidths=0)
        for (label, rows), colour in zip(table.groupby(factor), itertools.cycle(COLOURS)):
            panels[i].scatter(rows["x"], rows["y"], s=4, color=colour, label=str(label), linewidths=0)
        panels[i].set(title=factor.replace("_", " "))
        panels[i].legend(
            fontsize=7, markerscale=2, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, handletextpad=0.2
        )
        drawn.add(i)
    for i, axes in enumerate(panels):
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        if i not in drawn:
            axes.set_axis_off()
