"""Maps of weights, drawn (Model Zoos, Schürholt et al., 2022, Figure 3)."""

from __future__ import annotations

import itertools

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.measures.maps import clustering, factors_of
from analysis.show.figures import COLOURS, STYLE

COLUMNS = 4  # of panels


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
