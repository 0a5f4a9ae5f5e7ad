"""Analysed zoos side by side: Tables 2 and 3 and Figures 2 and 3 of Model Zoos (Schürholt et al., 2022) over several zoos.

What `task=analysis` wrote for each under <root>/analysis is read, nothing is measured again.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.measures.maps import clustering, factors_of
from analysis.measures.table import WORDS
from analysis.show.card import quartile_box
from analysis.show.figures import COLOURS, STYLE
from analysis.show.maps import COLUMNS, draw_map
from analysis.show.zoo_tables import shown_measures, shown_neighbours, shown_probes
from zoo.base.files import reading
from zoo.base.names import FACTORS, NAMED_FACTORS
from zoo.store.manifest import read_listed
from zoo.store.schema import NAME, check_columns

MAPPED = ("init", "activation", "optimizer")  # factors with a panel
DISTRIBUTIONS = ("agreement", "cka", "l2")  # of pairs, that are drawn


# The tables of `task=analysis` that are read: columns of numbers, and of names. Those of the second line may be missing.
QUANTILES = ("q0", "q25", "q50", "q75", "q100")
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "measures": (("mean", "std", "n", "published_mean", "published_std"), ("measure",)),
    "performance": (("epoch", "n", *QUANTILES), ()), "pairs": (("low", "high", "share"), ("measure",)),
    "map": (("epoch", "x", "y", *FACTORS[3:]), NAMED_FACTORS), "neighbours": (("alike", "chance", "n"), ("factor",)),
    "probes": (("value", "low", "high", "published"), ("feature", "probe", "target")),
}  # fmt: skip
ALWAYS = ("measures", "performance", "pairs")


def analysed(root: Path) -> list[Path]:
    """The folders of the zoos that are analysed, by name."""
    return [file.parent for file in sorted((root / "analysis").glob("*/measures.csv"))]


def check_analysis(folder: Path) -> None:
    """Raise UserError unless the tables of an analysis can be read and hold what they should."""
    remedy = "run task=analysis of the zoo again"
    with reading(folder, remedy):
        NAME(folder.name, "the folder's name")
    for name, (numbers, labels) in TABLES.items():
        file = folder / f"{name}.csv"
        if name not in ALWAYS and not (file.is_symlink() or file.exists()):
            continue
        with reading(file, remedy):
            data = read_listed(file)
            table = pd.read_csv(io.BytesIO(data)) if data.strip() else pd.DataFrame()
            if len(table) or name in ALWAYS:
                check_columns(table, numbers, labels)


def tables(folders: list[Path]) -> dict[str, pd.DataFrame]:
    """What the zoos are like, what their weights tell and whether these cluster; by title."""
    measures = {folder.name: shown_measures(pd.read_csv(folder / "measures.csv")) for folder in folders}
    lines = []
    for name, table in measures.items():
        cells = {row["measure"]: _beside(row["ours"], row["published"]) for row in table.to_dict("records")}
        lines.append({"zoo": name, "models": table["n"].iloc[0], **cells})
    columns = ["zoo", "models", *(word for word in WORDS.values() if any(word in line for line in lines))]
    found = {"Zoos at their last epoch, in %, mean ± standard deviation (published)": pd.DataFrame(lines)[columns]}
    for file, title, shown in (
        (
            "probes",
            "What weights tell, on test models: R² of numbers, share of names that are right, in % (published)",
            shown_probes,
        ),
        ("neighbours", "How often the nearest models share a factor, in %", shown_neighbours),
    ):
        parts = [(folder.name, _read(folder / f"{file}.csv")) for folder in folders]
        parts = [(name, table) for name, table in parts if len(table)]
        if parts:
            found[title] = pd.concat([shown(table).assign(zoo=name) for name, table in parts], ignore_index=True)
            found[title] = found[title][["zoo", *found[title].columns.drop("zoo")]].fillna("–")
    return found


def figures(folders: list[Path]) -> dict[str, Figure]:
    """Accuracy by epoch, distributions over pairs, and maps of the weights; by a short name."""
    drawn = {"performance": _performance(folders), "pairs": _pairs(folders)}
    mapped = [folder for folder in folders if (folder / "map.csv").exists()]
    return drawn | ({"maps": _maps(mapped)} if mapped else {})


def _performance(folders: list[Path]) -> Figure:
    """Figure 2: median and quartiles of the test accuracy by epoch, and boxes of the last epoch."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(9, 1.8 + 0.35 * max(6, len(folders))))
        left, right = figure.subplots(1, 2, width_ratios=[2, 1.4])
    boxes, last = [], {}
    for i, folder in enumerate(folders):
        table, colour = pd.read_csv(folder / "performance.csv"), COLOURS[i % len(COLOURS)]
        left.plot(table["epoch"], 100 * table["q50"], color=colour, label=folder.name)
        left.fill_between(table["epoch"], 100 * table["q25"], 100 * table["q75"], color=colour, alpha=0.18, linewidth=0)
        boxes.append(quartile_box(table.iloc[-1]))
        last[folder.name] = boxes[-1]["q3"] - boxes[-1]["q1"]
    parts = right.bxp(boxes, orientation="horizontal", showfliers=False, patch_artist=True, widths=0.6)
    for i, box in enumerate(parts["boxes"]):
        box.set(facecolor=COLOURS[i % len(COLOURS)], alpha=0.6)
    for line in parts["medians"]:
        line.set(color="black")
    right.set_yticks(range(1, len(folders) + 1), [folder.name for folder in folders])
    right.invert_yaxis()
    left.set(xlabel="epoch", ylabel="test accuracy (%), median and quartiles")
    right.set(xlabel="test accuracy (%), last epoch")
    narrow, wide = min(last, key=lambda name: last[name]), max(last, key=lambda name: last[name])
    said = f"{narrow}: half of the models end within {last[narrow]:.1f} points"
    if len(folders) > 1:
        said += f"; {wide}: within {last[wide]:.1f}"
    figure.suptitle(said, x=0.01, ha="left")
    figure.tight_layout()
    return figure


def _pairs(folders: list[Path]) -> Figure:
    """How the measures of pairs are distributed."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(3.2 * len(DISTRIBUTIONS), 3.2))
        panels = figure.subplots(1, len(DISTRIBUTIONS))
    spread = {}
    for axes, measure in zip(panels, DISTRIBUTIONS, strict=True):
        for i, folder in enumerate(folders):
            table = pd.read_csv(folder / "pairs.csv")
            rows = table[table["measure"] == measure]
            if rows["share"].sum() > 0:
                density = rows["share"] / (100 * (rows["high"] - rows["low"]))
                axes.stairs(density, 100 * np.append(rows["low"], rows["high"].iloc[-1]), color=COLOURS[i % len(COLOURS)],
                            label=folder.name, linewidth=1.4)  # fmt: skip
            if measure == "agreement":
                low = float(rows.loc[rows["high"] <= 0.3 + 1e-9, "share"].sum())
                spread[folder.name] = 100 * low
        axes.set(xlabel=f"{WORDS[measure]} (%)", yticks=[], ylabel="density of pairs")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.0, 0.02), ncols=4, frameon=False)
    said = ", ".join(f"{name} {value:.0f} %" for name, value in list(spread.items())[:4])
    figure.suptitle(f"Pairs that agree on less than 30 % of the test images: {said}", x=0.01, ha="left")
    figure.tight_layout()
    return figure


def _maps(folders: list[Path]) -> Figure:
    """Figure 3: a row a zoo, a panel for the epoch and for each of `MAPPED` that varies in any of them."""
    maps = {folder.name: pd.read_csv(folder / "map.csv") for folder in folders}
    varying = {factor for table in maps.values() for factor in factors_of(table)}
    factors = [factor for factor in MAPPED if factor in varying]
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(2.6 * COLUMNS, 2.9 * len(maps) + 0.4))
        panels = figure.subplots(len(maps), COLUMNS, squeeze=False)
    for row, (name, table) in zip(panels, maps.items(), strict=True):
        draw_map(figure, list(row), table, factors)
        row[0].set_ylabel(name)
    found = {folder.name: clustering(_read(folder / "neighbours.csv")) for folder in folders}
    said = "\n".join(f"{name}: {words}" for name, words in found.items())
    figure.suptitle(f"UMAP of weights\n{said}", x=0.01, ha="left")
    figure.tight_layout()
    return figure


def _beside(ours: str, published: str) -> str:
    return ours if published == "–" else f"{ours} ({published})"


def _read(file: Path) -> pd.DataFrame:
    """A table of `task=analysis`; empty where the zoo has nothing of the kind."""
    try:
        return pd.read_csv(file)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
