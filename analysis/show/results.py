"""Results of comparisons as tables to read: ours beside the published numbers, with n, spread and statistics."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from rich.table import Table

from analysis.measures.statistics import ALPHA, QUANTILES, Comparison, adjust, compare, summarise
from zoo.base.console import console
from zoo.base.files import reading, write_file
from zoo.base.names import is_command
from zoo.base.text import escaped
from zoo.config.sections import PathsConfig
from zoo.store.manifest import read_listed
from zoo.store.schema import check_about, check_columns, parse_json, read_table

PUBLISHED = Path(__file__).with_name(
    "published.csv"
)  # Hyper-Representations as Generative Models (2022), Tables 1 to 4
MOST_ROWS = 8  # values of x that a table shows
MOST_RESULTS = 10**8  # rows of a comparison
PAIR = ["source", "dataset", "epoch", "first", "second"]  # two methods at an epoch on the same images
MEASURED = "test accuracy in %, mean ± standard deviation (n)"


class Chosen(Protocol):
    """`downstream=`: which comparison, and the epochs that tables show of it."""

    name: str

    @property
    def shown(self) -> list[int]:
        """The epochs."""


class Compared(Protocol):
    """What is needed of a configuration: the package hyperrep makes comparisons, of which this one knows the tables alone."""

    @property
    def paths(self) -> PathsConfig:
        """Where results are."""

    @property
    def downstream(self) -> Chosen:
        """What was compared."""


def show_results(config: Compared) -> None:
    """Print the tables of a comparison over all that is stored of it, and keep them as Markdown beside the results.

    Beside them: summaries.csv, every sample with its quantiles and bootstrap intervals (none of distributions of weights);
    where networks are followed over epochs, comparisons.csv, every pair. Elsewhere samples are of the same networks (ensembles
    share members, noise goes on the same embeddings), to which a test of independent samples does not apply.
    """
    comparison, epochs = config.downstream.name, config.downstream.shown
    folder = Path(config.paths.root) / "results" / comparison
    results, text = read_results(folder), []
    if len(found := summaries(results, epochs)):
        write_file(folder / "summaries.csv", found.to_csv(index=False).encode())
    if by_epoch(results):
        write_file(folder / "comparisons.csv", comparisons(results, epochs).to_csv(index=False).encode())
    for title, table in tables(results, comparison, epochs).items():
        shown = f"{comparison}. {title}"
        console.print(rich_table(shown, table), highlight=False)
        text += [f"## {shown}", "", markdown(table), ""]
    write_file(folder / f"{comparison}.md", "\n".join(text).encode())
    console.print(f"Tables: {folder / f'{comparison}.md'}", highlight=False, soft_wrap=True)


def tables(results: pd.DataFrame, comparison: str, epochs: list[int]) -> dict[str, pd.DataFrame]:
    """The tables that show a comparison, by title.

    Args:
        results: as `read_results` gives them.
        comparison: its name.
        epochs: that are shown, where it goes over epochs.
    """
    if comparison == "weight_distribution":
        return {"overlap of the distributions of weights, in %": overlap_table(results)}
    if comparison == "unseen_zoo":
        return {"test accuracy in %, mean / highest (n)": highest_table(results)}
    if not by_epoch(results):
        return {MEASURED: x_table(results)}
    found = {f"{MEASURED}, by epoch": accuracy_table(results, comparison, epochs)}
    if comparison == "reconstruction":
        title = "distance of each original and its reconstruction, mean ± standard deviation"
        found[title] = distance_table(results, epochs)
    return found | {"which methods differ": differences_table(comparisons(results, epochs))}


def read_results(folder: Path) -> pd.DataFrame:
    """All tables of a comparison, one under another, with the column `source`, the zoo that was learnt.

    Raises:
        UserError: naming one that is damaged.
    """
    tables = []
    for file, about in zip(sorted(folder.glob("*.parquet")), abouts(folder), strict=True):
        with reading(
            file, f"make it again with `{about['command']}`" if is_command(about["command"]) else "make it again"
        ):
            table = read_table(read_listed(file), 0, MOST_RESULTS)
            check_columns(table, ("epoch", "model", "x", "value"), ("method", "dataset", "metric"))
            tables.append(table.assign(source=about["zoo"]))
    return pd.concat(tables, ignore_index=True)


def abouts(folder: Path) -> list[dict[str, Any]]:
    """What each table of a comparison was made from, in the order of the files."""
    return [read_about(file.with_suffix(".json")) for file in sorted(folder.glob("*.parquet"))]


def read_about(file: Path) -> dict[str, Any]:
    """What lies beside a table or an analysis: `command`, `made_from`, and of a comparison `zoo` and `reported`.

    Raises:
        UserError: if it is missing or damaged.
    """
    with reading(file, "make the table beside it again"):
        about = parse_json(read_listed(file))
        check_about(about)
        return {"reported": [], "made_from": {}, "zoo": file.stem, **about}


def by_epoch(results: pd.DataFrame) -> bool:
    """Whether a comparison goes over epochs, and not over x."""
    return bool(results["x"].isna().all())


def accuracy_table(results: pd.DataFrame, comparison: str, epochs: list[int]) -> pd.DataFrame:
    """Test accuracy by epoch and method (rows), for each pair of source and images: ours, and what was published."""
    rows = results[(results["metric"] == "test_acc") & results["epoch"].isin(epochs)]
    published = pd.read_csv(PUBLISHED)
    groups = rows.groupby(["epoch", "method", "source", "dataset"], sort=False)["value"]
    cells: dict[tuple[int, str], dict[str, str]] = {}
    for keys, values in groups:
        epoch, (method, source, dataset) = int(str(keys[0])), map(str, keys[1:])
        finite = 100 * values[np.isfinite(values)]
        name = source if source.split("_")[0] == dataset else f"{source} → {dataset}"
        row = cells.setdefault((epoch, method), {})
        row[name] = f"{finite.mean():.1f} ± {finite.std(ddof=0):.1f} ({len(finite)})"
        same = _published(published, comparison, source, dataset, method, epoch=epoch)
        row[f"{name}, published"] = _with_spread(same) if len(same) else "–"
    order = {method: i for i, method in enumerate(results["method"].unique())}
    lines = sorted(cells, key=lambda key: (key[0], order[key[1]]))
    table = pd.DataFrame([{"epoch": str(epoch), "method": method, **cells[epoch, method]} for epoch, method in lines])
    empty = [name for name in table.columns if name.endswith("published") and (table[name].fillna("–") == "–").all()]
    return table.drop(columns=empty).fillna("–")


def _with_spread(same: pd.DataFrame) -> str:
    """A published mean and its standard deviation; "≈" where the paper gives none, and only about."""
    mean, std = same["mean"].iloc[0], same["std"].iloc[0]
    return f"≈ {mean:.0f}" if np.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def _published(
    published: pd.DataFrame, comparison: str, source: str, dataset: str, method: str, **place: float
) -> pd.DataFrame:
    """The row of what was published at a `place`, epoch=… or x=…; no row if there is none.

    The paper learnt the Seed zoos of CNN-s, and no others.
    """
    if not source.endswith("_seed"):
        return published.iloc[:0]
    learnt = source.removesuffix("_seed")
    wanted = {"comparison": comparison, "source": learnt, "dataset": dataset, "method": method, **place}
    return published[(published[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def x_table(results: pd.DataFrame) -> pd.DataFrame:
    """Means and standard deviations over models, by what is varied (rows, some of it) and method (columns)."""
    values = np.unique(results["x"].dropna())
    shown = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_ROWS)).round().astype(int))]
    lines = []
    for keys, rows in results.groupby(["source", "dataset", "metric"], sort=False):
        source, dataset, metric = map(str, keys)
        unit, digits = (1, 2) if metric == "r2" else (100, 1)
        for x in shown:
            line = {"zoo → images": f"{source} → {dataset}", "of": metric, "x": f"{x:g}"}
            for method, some in rows[rows["x"].isna() | (rows["x"] == x)].groupby("method", sort=False)["value"]:
                line[str(method)] = (
                    f"{unit * some.mean():.{digits}f} ± {unit * some.std(ddof=0):.{digits}f} ({some.count()})"
                )
            lines.append(line)
    return pd.DataFrame(lines).fillna("–")


def highest_table(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and highest accuracy of single models and ensembles, ours and published."""
    published, lines = pd.read_csv(PUBLISHED), []
    for keys, rows in results.groupby(["source", "dataset", "method", "x"], sort=False):
        source, dataset, method, size = str(keys[0]), str(keys[1]), str(keys[2]), float(str(keys[3]))
        values = 100 * rows["value"]
        same = _published(published, "unseen_zoo", source, dataset, method, x=size)
        lines.append(
            {
                "zoo → images": f"{source} → {dataset}",
                "method": method,
                "of": "single models" if size == 1 else f"ensembles of {size:g}",
                "ours": f"{values.mean():.1f} / {values.max():.1f} ({values.count()})",
                "published": f"{same['mean'].iloc[0]:.1f} / {same['max'].iloc[0]:.1f}" if len(same) else "–",
            }
        )
    return pd.DataFrame(lines)


def distance_table(results: pd.DataFrame, epochs: list[int]) -> pd.DataFrame:
    """How far originals and reconstructions are apart, by epoch: l2 relative to the original's norm, and the cosine."""
    rows = results[results["metric"].isin(["l2", "cosine"]) & results["epoch"].isin(epochs)]
    lines = []
    for keys, own in rows.groupby(["source", "method", "epoch"], sort=False):
        line = {"zoo": str(keys[0]), "method": str(keys[1]), "epoch": str(keys[2])}
        for metric, values in own.groupby("metric", sort=False)["value"]:
            line[str(metric)] = f"{values.mean():.3f} ± {values.std(ddof=0):.3f} ({values.count()})"
        lines.append(line)
    return pd.DataFrame(lines)


def overlap_table(results: pd.DataFrame) -> pd.DataFrame:
    """How much of a method's distribution of weights lies within the originals', layer by layer: 100 is the same one."""
    lines = []
    for keys, rows in results.groupby(["source", "dataset", "metric"], sort=False):
        densities = rows.pivot(index="x", columns="method", values="value")
        shares = densities / densities.sum()
        line = {"zoo → images": f"{keys[0]} → {keys[1]}", "layer": str(keys[2])}
        for method in rows["method"].unique():
            line[str(method)] = f"{100 * np.minimum(shares[method], shares['originals']).sum():.1f}"
        lines.append(line)
    return pd.DataFrame(lines)


def summaries(results: pd.DataFrame, epochs: list[int]) -> pd.DataFrame:
    """Every sample of test accuracies: source, dataset, epoch, x, method, and the fields of `Summary`.

    Where a comparison goes over epochs, those of `epochs`.
    """
    rows = results[results["metric"] == "test_acc"]
    rows = rows[rows["epoch"].isin(epochs)] if by_epoch(results) else rows
    found, keys = [], ["source", "dataset", "epoch", "x", "method"]
    for place, values in rows.groupby(keys, sort=False, dropna=False)["value"]:
        summary = dict(vars(summarise(values.to_numpy())))
        quantiles = {f"quantile_{q:g}": value for q, value in zip(QUANTILES, summary.pop("quantiles"), strict=True)}
        found.append(dict(zip(keys, place, strict=True)) | summary | quantiles)
    return pd.DataFrame(found)


def comparisons(results: pd.DataFrame, epochs: list[int]) -> pd.DataFrame:
    """All pairs of methods at the same epoch and on the same images: Mann-Whitney U, adjusted after Holm over all of them.

    Columns: source, dataset, epoch, first, second, and the fields of `Comparison`, with `p_adjusted`.
    """
    rows = results[(results["metric"] == "test_acc") & results["epoch"].isin(epochs)]
    found = []
    for (source, dataset, epoch), part in rows.groupby(["source", "dataset", "epoch"], sort=False):
        samples = {method: values["value"].to_numpy() for method, values in part.groupby("method", sort=False)}
        for first, second in itertools.combinations(samples, 2):
            if np.isfinite(samples[first]).any() and np.isfinite(samples[second]).any():
                pair = {"source": source, "dataset": dataset, "epoch": epoch, "first": second, "second": first}
                found.append(pair | vars(compare(samples[second], samples[first])))
    table = pd.DataFrame(found, columns=[*PAIR, *(field.name for field in dataclasses.fields(Comparison))])
    return table.assign(p_adjusted=adjust(table["p"].to_numpy()) if len(table) else [])


def differences_table(tested: pd.DataFrame) -> pd.DataFrame:
    """`comparisons` in words."""
    lines = [
        {
            "images": f"{row['source']} → {row['dataset']}",
            "epoch": str(row["epoch"]),
            "methods": f"{row['first']} (n = {row['n_first']}) – {row['second']} (n = {row['n_second']})",
            "median difference": f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]",
            "chance to be better": f"{100 * row['effect']:.0f} %",
            "p, adjusted": _p(row["p_adjusted"]),
        }
        for row in tested.to_dict("records")
    ]
    return pd.DataFrame(
        lines, columns=["images", "epoch", "methods", "median difference", "chance to be better", "p, adjusted"]
    )


def _p(value: float) -> str:
    text = "< 0.0001" if value < 1e-4 else f"{value:.2g}"
    return text if value < ALPHA else f"{text}, no difference shown"


def rich_table(title: str, table: pd.DataFrame) -> Table:
    """A table for the console."""
    shown = Table(title=title, title_justify="left")
    for column in table.columns:
        shown.add_column(str(column), overflow="fold")  # rather than to lose the end of a name
    for row in table.to_numpy().tolist():
        shown.add_row(*map(str, row))
    return shown


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    lines: list[list[Any]] = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines)
