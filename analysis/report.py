"""`task=report`: all results under a root as one self-contained HTML page: analysed zoos side by side, and comparisons."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader

from analysis import side_by_side
from analysis.figures import figures, svg
from analysis.novelty import VERDICTS
from analysis.results import abouts, read_results, tables
from analysis.side_by_side import analysed
from zoo import Zoo
from zoo.errors import UserError
from zoo.files import write_file
from zoo.training import console

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


def write_report(config: Any) -> None:
    """Write <root>/report.html: tables, figures, novelty audits, zoos, configuration and versions.

    Raises:
        UserError: if there are no results yet.
    """
    root = Path(config.paths.root)
    found, zoos = [name for name in SECTIONS if list((root / "results" / name).glob("*.parquet"))], analysed(root)
    if not found and not zoos:
        raise UserError(
            f"there are no results under {root}: make some with python run.py task=analysis or task=downstream"
        )
    changed = _changed(root)
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = environment.get_template("report.html.j2").render(
        title="Model zoos and hyper-representations",
        subtitle=f"{len(zoos)} analysed zoos and {len(found)} comparisons under {root.name}/, made by hyperzoo "
        f"{version('hyperzoo')} on {platform.machine()}, {platform.system()}. ± is one standard deviation over networks, n "
        "in brackets.",
        sections=[
            *([_zoos_side_by_side(zoos)] if zoos else []),
            *(_section(root / "results" / name, name) for name in found),
        ],
        changed=changed,
        audits=_html(audits) if len(audits := _audits(root)) else None,
        zoos=_html(_zoos(root)),
        commands=sorted({about["command"] for name in found for about in abouts(root / "results" / name)}),
        versions=", ".join(f"{name} {version(name)}" for name in VERSIONS) + f", Python {platform.python_version()}",
        config=yaml.safe_dump(asdict(config), sort_keys=False),
    )
    file = root / "report.html"
    write_file(file, page.encode())
    for what, command in changed.items():
        console.print(
            f"{what}; it was made by {command}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )
    console.print(f"Report: {file}", highlight=False, soft_wrap=True)


def _changed(root: Path) -> dict[str, str]:
    """What was made from zoos that have changed since (more models, say), a sentence each, with the command that made it."""
    zoos = {path.parent.name: Zoo.open(path.parent) for path in sorted((root / "zoos").glob("*/zoo.json"))}
    made = {f"The analysis of {file.parent.name}": file for file in sorted((root / "analysis").glob("*/about.json"))}
    made |= {
        f"The comparison {file.parent.name} of {file.stem}": file
        for file in sorted((root / "results").glob("*/*.json"))
    }
    changed = {}
    for what, file in made.items():
        about = json.loads(file.read_bytes())
        for name, content in about.get("made_from", {}).items():  # not on record in older ones
            if name in zoos and zoos[name].content != content:
                changed[f"{what} is of an earlier state of zoo {name}"] = about["command"]
    for population in zoos.values():
        source = population.description["spec"].get("zoo")
        if isinstance(source, dict) and source["name"] in zoos and zoos[source["name"]].identity != source["identity"]:
            words = f"The population {population.name} is of an earlier state of zoo {source['name']}"
            changed[words] = population.description["command"]
    for tuned in zoos.values():
        spec = tuned.description["spec"]
        source = zoos.get(spec["start"]["zoo"]) if spec.get("kind") == "fine_tuned" else None
        if source and tuned.finished and source.finished and not _began_there(tuned, source):
            words = f"The zoo {tuned.name} began as models of an earlier state of zoo {source.name}"
            changed[words] = tuned.description["command"]
    return changed


def _began_there(tuned: Zoo, source: Zoo) -> bool:
    """Whether the models of a fine-tuned zoo began, as their first layers say, as what the zoo they started from holds now."""
    models, epoch, first = (
        tuned.models["start_model"],
        tuned.description["spec"]["start"]["epoch"],
        tuned.layout[0]["name"],
    )
    if models.max() >= source.n_models or epoch not in source.epochs:
        return False
    there = source.weights(models=models, epochs=[epoch], layers=[first])
    return np.array_equal(tuned.weights(epochs=[0], layers=[first]), there, equal_nan=True)


def _zoos_side_by_side(folders: list[Path]) -> dict[str, Any]:
    return {
        "name": "analysis", "title": "Zoos side by side", "words": "What task=analysis found.",
        "figures": {key: svg(figure) for key, figure in side_by_side.figures(folders).items()},
        "tables": {caption: _html(table) for caption, table in side_by_side.tables(folders).items()},
    }  # fmt: skip


def _section(folder: Path, name: str) -> dict[str, Any]:
    results = read_results(folder)
    epochs = sorted({epoch for about in abouts(folder) for epoch in about["reported"]})
    title, words = SECTIONS[name]
    return {
        "name": name, "title": title, "words": words,
        "figures": {key: svg(figure) for key, figure in figures(results, name).items()},
        "tables": {caption[0].upper() + caption[1:]: _html(table) for caption, table in tables(results, name, epochs).items()},
    }  # fmt: skip


def _audits(root: Path) -> pd.DataFrame:
    """One row a population."""
    lines = []
    for file in sorted((root / "audits").glob("*.csv")):
        row = pd.read_csv(file).iloc[0]
        shares = ("copies", "reconstructions", "nearest", "zoo_nearest", "within", "zoo_within", "iou", "zoo_iou", "ensemble",
                  "centroid")  # fmt: skip
        lines.append(
            {
                "population": file.stem,
                "the audit finds": VERDICTS[row["verdict"]],
                "accuracy": f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_std']:.1f} ({row['models']})",
                **{name.replace("_", " "): _share(row.get(name)) for name in shares},
                "draws": row["kind"],
                "what these are": row["about"],
            }
        )
    return pd.DataFrame(lines)


def _share(value: float | None) -> str:
    """In %; older audits lack some, and networks without autoencoder have no reconstructions."""
    return "not measured" if value is None else "" if np.isnan(value) else f"{100 * value:.1f}"


def _zoos(root: Path) -> pd.DataFrame:
    """One row a zoo or population."""
    lines = []
    for path in sorted((root / "zoos").glob("*/manifest.json")):
        zoo = Zoo.open(path.parent)
        metrics, dataset = zoo.metrics, zoo.description["dataset"]
        sizes = dataset.get("sizes")  # unknown of an imported zoo
        last = 100 * metrics[metrics["epoch"] == zoo.epochs[-1]]["test_acc"]
        lines.append(
            {
                "name": zoo.name,
                "models": str(zoo.n_models),
                "diverged": str((zoo.models["status"] == "diverged").sum()),
                "epochs": str(zoo.epochs[-1]),
                "test accuracy, last epoch": f"{last.mean():.1f} ± {last.std(ddof=0):.1f}",
                "images": dataset["title"] + (f", {sizes['train']} for training" if sizes else ""),
                "fingerprint of the images": (dataset["fingerprint"] or "not known")[:16],
                "made by": zoo.description.get("command", "not recorded"),
            }
        )
    return pd.DataFrame(lines)


def _html(table: pd.DataFrame) -> str:
    text = table.to_html(index=False, border=0, escape=True, na_rep="–")
    return text.replace("<td>Networks drawn", '<td class="words">Networks drawn')
