"""The tables of an analysed zoo to read: their titles, and which columns and words they show."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.measures.maps import NEIGHBOURS
from analysis.measures.table import WORDS, Measures

SPARSITY_EPOCHS = 4  # that are shown: as many as a console of 80 columns has room for


def tables_to_read(tables: dict[str, pd.DataFrame], found: Measures, zoo: str) -> dict[str, pd.DataFrame]:
    """The tables that are shown of an analysed zoo, by title; of those that are empty, none.

    Args:
        tables: as they are stored, by name.
        found: what was measured.
        zoo: its name.
    """
    return {
        _title(name, tables[name], found, zoo): to_read(tables[name])
        for name, to_read in SHOWN.items()
        if len(tables[name])
    }


def _title(name: str, table: pd.DataFrame, found: Measures, zoo: str) -> str:
    match name:
        case "measures":
            left = f", {found.not_viable} left out" if found.left_out else ""
            return f"{zoo} at epoch {found.epoch}: {len(found.models)} models{left}; in %, mean ± standard deviation"
        case "sparsity":
            return f"Sparsity of {zoo} and its layers; in %, mean ± standard deviation"
        case "probes":
            first = table.iloc[0]
            return (
                f"What weights of {zoo} tell, on {first['models']} test models ({first['n']} states): R² of numbers, share of "
                "names that are right, in %, with 95 % interval over models; published in brackets"
            )
        case "early":
            return f"How {zoo} will end: R² (Kendall's τ) of the final test accuracy, in %"
        case "neighbours":
            return f"How often the {NEIGHBOURS} nearest models of {zoo} share a factor, at epoch {found.epoch}; in %"
        case _:
            return f"Fitted on another zoo, on test models of {zoo}; in %"


def shown_measures(measures: pd.DataFrame) -> pd.DataFrame:
    """`measures_table` to read: the columns of Table 2."""
    lines = []
    for row in measures[measures["measure"].isin(list(WORDS))].to_dict("records"):
        theirs = (
            f"{row['published_mean']:.1f} ± {row['published_std']:.1f}{'?' * bool(row.get('published_unclear'))}"
            if np.isfinite(row["published_mean"])
            else "–"
        )
        ours = f"{row['mean']:.1f} ± {row['std']:.1f}"
        lines.append({"measure": WORDS[row["measure"]], "ours": ours, "n": str(row["n"]), "published": theirs})
    return pd.DataFrame(lines)


def shown_sparsity(table: pd.DataFrame) -> pd.DataFrame:
    """`summary.sparsity` to read: a column an epoch, for some of them, the last among these. Layers are rows: there
    may be more of them than a console has room for side by side."""
    rows = table.iloc[np.unique(np.linspace(0, len(table) - 1, SPARSITY_EPOCHS).round().astype(int))]
    layers = table.columns[6:]  # see there
    shown = {"": ["n", "test accuracy", "sparsity", *layers]}
    for row in rows.to_dict("records"):
        shown[f"epoch {row['epoch']}"] = [
            str(row["n"]),
            f"{row['accuracy']:.1f} ± {row['accuracy_std']:.1f}",
            f"{row['sparsity']:.1f} ± {row['sparsity_std']:.1f}",
            *(f"{row[layer]:.1f}" for layer in layers),
        ]
    return pd.DataFrame(shown)


def shown_probes(probes: pd.DataFrame) -> pd.DataFrame:
    """`probes_table` to read: a row a target, a column a feature and probe."""
    columns = list(dict.fromkeys(zip(probes["feature"], probes["probe"], strict=True)))
    lines = []
    for target, rows in probes.groupby("target", sort=False):
        cells = rows.set_index(["feature", "probe"])
        cell = {f"{f}, {p}": _cell(cells.loc[(f, p)]) if (f, p) in cells.index else "–" for f, p in columns}
        lines.append({"target": str(target), **cell})
    return pd.DataFrame(lines)


def shown_early(early: pd.DataFrame) -> pd.DataFrame:
    """`early_table` to read: a row an epoch and probe, a column a feature."""
    lines = []
    for (epoch, probe), rows in early.groupby(["epoch", "probe"], sort=False):
        scores = {str(row["feature"]): f"{_cell(row)} ({100 * row['tau']:.1f})" for _, row in rows.iterrows()}
        lines.append({"from epoch": str(epoch), "probe": str(probe), **scores})
    return pd.DataFrame(lines).fillna("–")


def shown_neighbours(neighbours: pd.DataFrame) -> pd.DataFrame:
    """`neighbours_table` to read."""
    return pd.DataFrame(
        {
            "factor": row["factor"].replace("_", " "),
            "nearest share it": f"{100 * row['alike']:.1f}",
            "any two": f"{100 * row['chance']:.1f}",
            "n": str(row["n"]),
        }
        for row in neighbours.to_dict("records")
    )


def shown_across(across: pd.DataFrame) -> pd.DataFrame:
    """`across_table` to read: a row another zoo and target, a column a feature and probe."""
    lines = []
    for (source, target), rows in across.groupby(["source", "target"], sort=False):
        scores = {f"{row['feature']}, {row['probe']}": _cell(row) for _, row in rows.iterrows()}
        lines.append({"fitted on": str(source), "target": str(target), **scores})
    return pd.DataFrame(lines).fillna("–")


def _cell(row: pd.Series) -> str:
    known = np.isfinite(row.get("published", np.nan))
    theirs = f" ({100 * row['published']:.1f}{'?' if row['unclear'] else ''})" if known else ""
    return f"{100 * row['value']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]{theirs}"


SHOWN = {
    "measures": shown_measures, "sparsity": shown_sparsity, "probes": shown_probes, "early": shown_early,
    "neighbours": shown_neighbours, "across": shown_across,
}  # fmt: skip
