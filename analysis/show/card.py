"""The card of a zoo: one page that says what it is, how it does, and how to load and make it again."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from analysis.measures.table import WORDS, Measures
from analysis.show.figures import COLOURS, STYLE, svg
from analysis.show.results import markdown
from zoo import Zoo
from zoo.base.files import write_file
from zoo.base.text import escaped
from zoo.store.card import facts
from zoo.store.writer import write_card

log = logging.getLogger(__name__)


def write_cards(
    folder: Path, zoo: Zoo, found: Measures, figures: dict[str, Figure], tables: dict[str, pd.DataFrame]
) -> Path:
    """Write <folder>/card.html, self-contained, and the measures on the zoo's own card (README.md); the page's path.

    Args:
        folder: where.
        zoo: whose card.
        found: its measures.
        figures: that are shown, by a short name.
        tables: what is shown as tables, by title.
    """
    drawn = {name: svg(figure) for name, figure in figures.items()}
    left_out = found.not_viable + "; left out below" * bool(found.left_out)
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = environment.get_template("card.html.j2").render(
        name=zoo.name,
        about=zoo.description.get("about"),
        facts={**facts(zoo.description, zoo.models), "not viable": left_out},
        figures=drawn,
        tables={title: table.to_html(index=False, border=0, escape=True) for title, table in tables.items()},
        last=zoo.epochs[-1],
        command=zoo.description.get("command"),
        spec=json.dumps({key: zoo.description.get(key) for key in ("spec", "protocol", "arch", "versions")}, indent=1),
    )
    file = folder / "card.html"
    write_file(file, page.encode())
    measured = [f"## What task=analysis found\n\nNot viable: {left_out}."]
    measured += [f"### {escaped(title)}\n\n{markdown(table)}" for title, table in tables.items()]
    measured += [f"![{name}](card/{name}.svg)" for name in drawn]
    try:
        write_card(zoo, "\n\n".join(measured), {name: text.encode() for name, text in drawn.items()})
    except OSError as error:  # e.g. somebody else's zoo, which we may only read
        log.warning("zoo %r keeps its own card: its folder cannot be written (%s)", zoo.name, error.strerror)
    return file


def quartile_box(row: Any) -> dict[str, float]:
    """A row of `summary.performance` as matplotlib's `bxp` wants it, in %: quartiles, whiskers to the extremes."""
    parts = {"whislo": "q0", "q1": "q25", "med": "q50", "q3": "q75", "whishi": "q100"}
    return {part: 100 * float(row[quantile]) for part, quantile in parts.items()}


def performance_figure(by_epoch: pd.DataFrame, name: str) -> Figure:
    """Figure 2: test accuracy by epoch, as boxes (quartiles, whiskers to the extremes)."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(8, 3.4))
        axes = figure.subplots()
    shown = by_epoch.iloc[np.unique(np.linspace(0, len(by_epoch) - 1, 26).round().astype(int))]
    boxes = [quartile_box(row) for row in shown.to_dict("records")]
    width = 0.6 * float(np.diff(shown["epoch"]).min()) if len(shown) > 1 else 0.6
    parts = axes.bxp(
        boxes, positions=shown["epoch"].tolist(), widths=width, showfliers=False, patch_artist=True, manage_ticks=False
    )
    for box in parts["boxes"]:
        box.set(facecolor=COLOURS[0], alpha=0.5)
    for line in parts["medians"]:
        line.set(color=COLOURS[1])
    axes.set(xlabel="epoch", ylabel="test accuracy (%)")
    last = by_epoch.iloc[-1]
    axes.set_title(
        f"{name}: half of the models end between {100 * last['q25']:.1f} and {100 * last['q75']:.1f} % (n = {last['n']:.0f})"
    )
    figure.tight_layout()
    return figure


def pairs_figure(found: Measures, name: str) -> Figure:
    """How alike models are: distributions over all pairs."""
    shown = [key for key in WORDS if len(found.pairs.get(key, ()))]
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(2.6 * max(1, len(shown)), 2.8))
        panels = np.atleast_1d(figure.subplots(1, max(1, len(shown))))
    for axes, (i, key) in zip(panels, enumerate(shown)):
        values = 100 * found.pairs[key].astype(np.float64)  # float32 values that are nearly alike fill no 60 bins
        axes.hist(values, bins=60, color=COLOURS[i], alpha=0.8)
        axes.axvline(values.mean(), color="black", linestyle="--", linewidth=1)
        axes.set(xlabel=f"{WORDS[key]} (%)", yticks=[])
    mean = 100 * found.pairs["agreement"].mean() if len(found.pairs["agreement"]) else np.nan
    figure.suptitle(f"{name}: two models agree on {mean:.1f} % of the test images (dashed: means)", x=0.01, ha="left")
    figure.tight_layout()
    return figure
