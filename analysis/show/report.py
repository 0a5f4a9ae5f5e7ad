"""`task=report`: all results under a root as one self-contained HTML page: analysed zoos side by side, and comparisons."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader

from analysis.audit.findings import VERDICTS, read_audit
from analysis.show import side_by_side
from analysis.show.figures import figures, svg
from analysis.show.results import abouts, read_about, read_results, tables
from analysis.show.side_by_side import analysed, check_analysis
from zoo import Zoo
from zoo.base.console import console
from zoo.base.errors import UserError
from zoo.base.files import write_file
from zoo.base.names import is_name
from zoo.base.versions import version_of
from zoo.config.sections import Config

SECTIONS = {
    "init": ("Sampled networks as initialisations", "Test accuracy at epoch 0 and while networks are fine-tuned, beside models "
             "trained from scratch (B_T, the zoo's test split)."),
    "transfer": ("Transfer to other images", "Networks of one zoo, fine-tuned on the images of another. B_T: from scratch; "
                 "B_F: trained models of the source."),
    "ensemble": ("Ensembles", "Networks that vote together, without fine-tuning. Rows are sizes."),
    "reconstruction": ("Originals and reconstructions", "Test models and their reconstructions, both fine-tuned."),
    "unseen_zoo": ("Models of an unseen zoo", "Through the autoencoder of another zoo, on their own images."),
    "unseen_arch": ("Unseen architectures", "Weights sampled for one architecture start the training of others."),
    "robustness": ("Robustness", "Noise on the embeddings of test models, in standard deviations of each dimension, decoded."),
    "smoothness": ("Smoothness", "Straight lines between embeddings: of one model along its training, and across two models."),
    "weight_distribution": ("Distribution of weights", "Of originals, reconstructions and samples, layer by layer."),
}  # fmt: skip
VERSIONS = ("hyperzoo", "torch", "numpy", "scipy", "pandas", "scikit-learn", "pytorch-lightning")


def write_report(config: Config) -> None:
    """Write <root>/report.html: tables, figures, novelty audits, zoos, configuration and versions.

    What cannot be read, a damaged zoo for one, is left out and told; all else is on the page.

    Raises:
        UserError: if there are no results yet; after the report is written, if something is left out.
    """
    root = Path(config.paths.root)
    found, folders = [name for name in SECTIONS if list((root / "results" / name).glob("*.parquet"))], analysed(root)
    if not found and not folders:
        raise UserError(
            f"there are no results under {root}: make some with python run.py task=analysis or task=downstream"
        )
    left_out = LeftOut()
    zoos = {path.parent.name: path.parent for path in sorted((root / "zoos").glob("*/zoo.json"))}
    opened = left_out.without(zoos, _opened)
    analyses = left_out.without({folder.name: folder for folder in folders}, check_analysis)
    shown = left_out.without({name: root / "results" / name for name in found}, _section)
    side = [_zoos_side_by_side([folder for folder in folders if folder.name in analyses])] if analyses else []
    changed = _changed(root, opened, left_out)
    lines = left_out.without({name: zoo for name, zoo in opened.items() if zoo.finished}, _zoo_line)
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = environment.get_template("report.html.j2").render(
        title="Model zoos and hyper-representations",
        subtitle=f"{len(analyses)} analysed zoos and {len(shown)} comparisons under {root.name}/, made by hyperzoo "
        f"{version_of('hyperzoo')} on {platform.machine()}, {platform.system()}. ± is one standard deviation over networks, n "
        "in brackets.",
        sections=[*side, *shown.values()],
        changed=changed,
        audits=_html(audits) if len(audits := _audits(root, left_out)) else None,
        zoos=_html(pd.DataFrame(list(lines.values()))),
        commands=sorted({about["command"] for name in shown for about in abouts(root / "results" / name)}),
        left_out=left_out.told,
        versions=", ".join(f"{name} {version_of(name)}" for name in VERSIONS) + f", Python {platform.python_version()}",
        config=yaml.safe_dump(asdict(config), sort_keys=False),
    )
    file = root / "report.html"
    write_file(file, page.encode())
    for what, command in changed.items():
        console.print(f"{what}; it was made by {command}", style="yellow", highlight=False, soft_wrap=True)
    console.print(f"Report: {file}", highlight=False, soft_wrap=True)
    if left_out.told:
        raise UserError("\n".join(["The report is written, but without what cannot be read:", *left_out.told]))


class LeftOut:
    """What a report goes on without: `told` has a sentence each."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """What cannot be read within is told, and ends only what is within."""
        try:
            yield
        except UserError as error:
            self.told += [] if str(error) in self.told else [str(error)]

    def without(self, things: dict[str, Any], function: Callable[[Any], Any]) -> dict[str, Any]:
        """What a function gives for each of some things, by name, without those that cannot be read."""
        found = {}
        for name, thing in things.items():
            with self.going_on():
                found[name] = function(thing)
        return found


def _opened(path: Path) -> Zoo:
    """A zoo whose tables can be read."""
    if not is_name(path.name):
        raise UserError(f"{path}: the folder of a zoo has a name of letters, digits, '.', '_' and '-'; rename it")
    zoo = Zoo.open(path)
    if zoo.finished:
        _ = zoo.models, zoo.metrics
    return zoo


def _changed(root: Path, zoos: dict[str, Zoo], left_out: LeftOut) -> dict[str, str]:
    """What was made from zoos that have changed since (more models, say), a sentence each, with the command that made it."""
    made = {f"The analysis of {file.parent.name}": file for file in sorted((root / "analysis").glob("*/about.json"))}
    made |= {
        f"The comparison {file.parent.name} of {file.stem}": file
        for file in (table.with_suffix(".json") for table in sorted((root / "results").glob("*/*.parquet")))
    }
    changed = {}
    for what, about in left_out.without(made, read_about).items():
        for name, content in about["made_from"].items():  # not on record in older ones
            if name in zoos and zoos[name].content != content:
                changed[f"{what} is of an earlier state of zoo {name}"] = about["command"]
    for population in zoos.values():
        source = population.description["spec"].get("zoo")
        if isinstance(source, dict) and source["name"] in zoos and zoos[source["name"]].identity != source["identity"]:
            words = f"The population {population.name} is of an earlier state of zoo {source['name']}"
            changed[words] = population.description.get("command", "not recorded")
    for tuned in zoos.values():
        spec = tuned.description["spec"]
        source = zoos.get(spec["start"]["zoo"]) if spec.get("kind") == "fine_tuned" else None
        with left_out.going_on():
            if source and tuned.finished and source.finished and not _began_there(tuned, source):
                words = f"The zoo {tuned.name} began as models of an earlier state of zoo {source.name}"
                changed[words] = tuned.description.get("command", "not recorded")
    return changed


def _began_there(tuned: Zoo, source: Zoo) -> bool:
    """Whether the models of a fine-tuned zoo began, as their first layers say, as what the zoo they started from holds now."""
    if "start_model" not in tuned.models:
        raise UserError(f"{tuned.path / 'models.parquet'} is damaged (it has no column start_model): {tuned.redo}")
    models, epoch, first = (
        tuned.models["start_model"],
        tuned.description["spec"]["start"]["epoch"],
        tuned.layout[0]["name"],
    )
    if models.max() >= source.n_models or epoch not in source.epochs or tuned.layout[0] != source.layout[0]:
        return False
    there = source.weights(models=models, epochs=[epoch], layers=[first])
    return np.array_equal(tuned.weights(epochs=[0], layers=[first]), there, equal_nan=True)


def _zoos_side_by_side(folders: list[Path]) -> dict[str, Any]:
    return {
        "name": "analysis", "title": "Zoos side by side", "words": "What task=analysis found.",
        "figures": {key: svg(figure) for key, figure in side_by_side.figures(folders).items()},
        "tables": {caption: _html(table) for caption, table in side_by_side.tables(folders).items()},
    }  # fmt: skip


def _section(folder: Path) -> dict[str, Any]:
    name, results = folder.name, read_results(folder)
    epochs = sorted({epoch for about in abouts(folder) for epoch in about["reported"]})
    title, words = SECTIONS[name]
    return {
        "name": name, "title": title, "words": words,
        "figures": {key: svg(figure) for key, figure in figures(results, name, epochs).items()},
        "tables": {caption[0].upper() + caption[1:]: _html(table) for caption, table in tables(results, name, epochs).items()},
    }  # fmt: skip


SHARES = ("copies", "reconstructions", "nearest", "zoo_nearest", "within", "zoo_within", "iou", "zoo_iou", "ensemble",
          "centroid")  # fmt: skip


def _audits(root: Path, left_out: LeftOut) -> pd.DataFrame:
    """One row a population."""
    files = {file.stem: file for file in sorted((root / "audits").glob("*.csv"))}
    rows = left_out.without(files, read_audit)
    return pd.DataFrame(
        {
            "population": name,
            "the audit finds": VERDICTS[row["verdict"]],
            "accuracy": f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_std']:.1f} ({row['models']})",
            **{share.replace("_", " "): _share(row.get(share)) for share in SHARES},
            "draws": row["kind"],
            "what these are": row["about"],
        }
        for name, row in rows.items()
    )


def _share(value: float | None) -> str:
    """In %; older audits lack some, and networks without autoencoder have no reconstructions."""
    return "not measured" if value is None else "" if np.isnan(value) else f"{100 * value:.1f}"


def _zoo_line(zoo: Zoo) -> dict[str, str]:
    """A row of the table of zoos and populations."""
    metrics, dataset = zoo.metrics, zoo.description["dataset"]
    sizes = dataset.get("sizes")  # unknown of an imported zoo
    last = 100 * metrics[metrics["epoch"] == zoo.epochs[-1]]["test_acc"]
    return {
        "name": zoo.name,
        "models": str(zoo.n_models),
        "diverged": str((zoo.models["status"] == "diverged").sum()),
        "partial": str((zoo.models["status"] == "partial").sum()),
        "epochs": str(zoo.epochs[-1]),
        "test accuracy, last epoch": f"{last.mean():.1f} ± {last.std(ddof=0):.1f}",
        "images": dataset.get("title", dataset["name"]) + (f", {sizes['train']} for training" if sizes else ""),
        "fingerprint of the images": (dataset["fingerprint"] or "not known")[:16],
        "made by": zoo.description.get("command", "not recorded"),
    }


def _html(table: pd.DataFrame) -> str:
    text = table.to_html(index=False, border=0, escape=True, na_rep="–")
    return text.replace("<td>Networks drawn", '<td class="words">Networks drawn')
