"""`task=analysis`: a zoo in numbers, beside the published ones (Model Zoos, Schürholt et al., 2022, Tables 2 and 3, Figure 2).

Written to <root>/analysis/<zoo>/: measures.csv (Table 2), pairs.csv (how the measures of pairs are distributed),
performance.csv (Figure 2), map.csv (Figure 3), neighbours.csv (whether weights cluster by factor), probes.csv (Table 3),
early.csv and across.csv (see `analysis.benchmark.prediction`),
sparsity.csv (of sparsified twins, by epoch), about.json (which state of
the zoo was measured, by which command), and the zoo's card with all of it, card.html; measures and figures go on the card in
the zoo's own folder, too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.benchmark.prediction import PUBLISHED, across_table, check, early_table, probes_table
from analysis.config import Config
from analysis.measures.maps import FEWEST_STATES, NEIGHBOURS, alike, map_figure, weights_map
from analysis.measures.summary import WORDS, Measures, measure, performance, sparsity
from analysis.show.card import pairs_figure, performance_figure, write_cards
from analysis.show.results import rich_table
from zoo import Zoo
from zoo.base.console import console
from zoo.base.errors import UserError
from zoo.base.names import FACTORS
from zoo.images.data import ImageData
from zoo.store.manifest import write_listed
from zoo.training.description import command
from zoo.training.opening import open_zoo, zoo_images

BINS = 100  # of distributions over pairs
SPARSITY_EPOCHS = 4  # that are shown: as many as a console of 80 columns has room for


def analyse_zoo(config: Config) -> None:
    """Measure the zoo of a config, write and show what is found.

    Raises:
        UserError: if there is no such zoo, it is unfinished, was trained on other images, or no model is viable.
    """
    zoo, images = _open(config)
    check(config, zoo)
    sources = [zoo, *(Zoo.open(zoo.path.with_name(name), config.arch.module) for name in config.analysis.others)]
    about = {"command": command(config), "made_from": {source.name: source.content for source in sources}}
    folder = Path(config.paths.root) / "analysis" / config.zoo.name
    folder.mkdir(parents=True, exist_ok=True)
    found = measure(zoo, images, config)
    written = {
        "pairs": distributions(found),
        "performance": performance(zoo, found.models),
        "probes": probes_table(config, zoo),
        "early": early_table(config, zoo),
        "across": across_table(config, zoo),
        "neighbours": neighbours_table(zoo, found),
        "sparsity": sparsity(zoo, found.models),
        "measures": measures_table(found, zoo.name),  # the last of the tables: where it is, all are
    }
    for name, table in written.items():
        write_listed(folder / f"{name}.csv", table.to_csv(index=False).encode())
    shown = {_measures_title(found, zoo): shown_measures(written["measures"])}
    if len(written["sparsity"]):
        shown[f"Sparsity of {zoo.name} and its layers; in %, mean ± standard deviation"] = shown_sparsity(
            written["sparsity"]
        )
    if len(written["probes"]):
        shown[_probes_title(written["probes"], zoo)] = shown_probes(written["probes"])
    if len(written["early"]):
        shown[f"How {zoo.name} will end: R² (Kendall's τ) of the final test accuracy, in %"] = shown_early(
            written["early"]
        )
    if len(written["neighbours"]):
        title = f"How often the {NEIGHBOURS} nearest models of {zoo.name} share a factor, at epoch {found.epoch}; in %"
        shown[title] = shown_neighbours(written["neighbours"])
    if len(written["across"]):
        shown[f"Fitted on another zoo, on test models of {zoo.name}; in %"] = shown_across(written["across"])
    for title, table in shown.items():
        console.print(rich_table(title, table), highlight=False)
    figures = {
        "performance": performance_figure(written["performance"], zoo.name),
        "pairs": pairs_figure(found, zoo.name),
    }
    (folder / "map.csv").unlink(missing_ok=True)
    if min(config.analysis.map_states, len(found.models) * len(zoo.epochs)) >= FEWEST_STATES and len(found.models) > 3:
        table = weights_map(zoo, found.models, config.analysis.map_states)
        write_listed(folder / "map.csv", table.to_csv(index=False).encode())
        figures["map"] = map_figure(table, zoo.name, written["neighbours"])
    card = write_cards(folder, zoo, found, figures, shown)
    write_listed(
        folder / "about.json", json.dumps(about, indent=1).encode()
    )  # the last: what is older has an older one
    console.print(f"Tables and card: {card}", highlight=False, soft_wrap=True)


def _open(config: Config) -> tuple[Zoo, ImageData]:
    zoo = open_zoo(config)
    if zoo.description["arch"].get("variational"):
        raise UserError(
            f"zoo {zoo.name!r} holds variances beside its weights: analyse {zoo.name}_masked, its kept weights"
        )
    return zoo, zoo_images(config, zoo)


def measures_table(found: Measures, zoo: str) -> pd.DataFrame:
    """Table 2's row: measure, mean, std, n (models, or pairs), and published_mean, published_std (all in %), published_unclear."""
    published = pd.read_csv(PUBLISHED)
    published = published[(published["zoo"] == zoo) & (published["table"] == 2)].set_index("column")
    n = {name: len(values) for name, values in found.pairs.items()}
    n["accuracy"] = int(np.isfinite(found.accuracy).sum())
    lines = []
    for name, (mean, std) in found.row().items():
        theirs = published.loc[name] if name in published.index else {"value": np.nan, "std": np.nan, "unclear": False}
        line = {"measure": name, "mean": mean, "std": std, "n": n.get(name, len(found.models))}
        line |= {"published_mean": theirs["value"], "published_std": theirs["std"]}
        lines.append(line | {"published_unclear": bool(theirs["unclear"])})
    return pd.DataFrame(lines)


def distributions(found: Measures) -> pd.DataFrame:
    """How the measures of pairs are distributed: measure, low, high (of a bin) and share of the pairs."""
    parts = []
    for name, values in found.pairs.items():
        counts, edges = np.histogram(values, BINS, (0, max(1, float(values.max(initial=0)))))
        shares = counts / max(1, len(values))
        parts.append(pd.DataFrame({"measure": name, "low": edges[:-1], "high": edges[1:], "share": shares}))
    return pd.concat(parts, ignore_index=True)


def neighbours_table(zoo: Zoo, found: Measures) -> pd.DataFrame:
    """Whether weights cluster by factor: factor, alike and chance (see `analysis.measures.maps.alike`)."""
    rows, lines = zoo.models.set_index("model_id").loc[found.models], []
    for factor in [factor for factor in FACTORS if rows[factor].nunique() > 1]:
        near, chance = alike(found.pairs["l2"], rows[factor].to_numpy())
        lines.append({"factor": factor, "alike": near, "chance": chance, "n": int(rows[factor].notna().sum())})
    return pd.DataFrame(lines)


def _measures_title(found: Measures, zoo: Zoo) -> str:
    left = f", {found.not_viable} left out" if found.left_out else ""
    return f"{zoo.name} at epoch {found.epoch}: {len(found.models)} models{left}; in %, mean ± standard deviation"


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


def _probes_title(probes: pd.DataFrame, zoo: Zoo) -> str:
    first = probes.iloc[0]
    return (
        f"What weights of {zoo.name} tell, on {first['models']} test models ({first['n']} states): R² of numbers, share of "
        "names that are right, in %, with 95 % interval over models; published in brackets"
    )


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
