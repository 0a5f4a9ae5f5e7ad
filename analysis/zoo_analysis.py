"""`task=analysis`: a zoo in numbers, beside the published ones (Model Zoos, Schürholt et al., 2022, Tables 2 and 3, Figure 2).

Written to <root>/analysis/<zoo>/: measures.csv (Table 2), pairs.csv (how the measures of pairs are distributed),
performance.csv (Figure 2), map.csv (Figure 3), neighbours.csv (whether weights cluster by factor), probes.csv (Table 3),
early.csv and across.csv (see `analysis.benchmark.prediction`), sparsity.csv (of sparsified twins, by epoch), about.json
(which state of the zoo was measured, by which command), and the zoo's card with all of it, card.html; measures and figures
go on the card in the zoo's own folder, too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.benchmark.prediction import PUBLISHED, across_table, check, early_table, probes_table
from analysis.config import Config
from analysis.measures.maps import FEWEST_STATES, alike, weights_map
from analysis.measures.summary import measure, performance, sparsity
from analysis.measures.table import Measures
from analysis.show.card import pairs_figure, performance_figure, write_cards
from analysis.show.maps import map_figure
from analysis.show.results import rich_table
from analysis.show.zoo_tables import tables_to_read
from zoo import Zoo
from zoo.base.console import console
from zoo.base.errors import UserError
from zoo.base.names import FACTORS
from zoo.config.recorded import command
from zoo.images.data import ImageData
from zoo.store.manifest import write_listed
from zoo.training.opening import open_zoo, zoo_images

BINS = 100  # of distributions over pairs


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
    shown = tables_to_read(written, found, zoo.name)
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
