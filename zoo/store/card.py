"""The card of a zoo, README.md in its folder: what it is, how it was made, how it does, how to load and make it again.

A pure function of what is stored, so that every run of a zoo writes the same bytes. `task=analysis` adds what it measured.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from zoo.base.names import FACTORS, SPLITS
from zoo.base.text import as_code, escaped
from zoo.store.stored import width_of


def facts(description: dict[str, Any], models: pd.DataFrame) -> dict[str, str]:
    """What a zoo is, fact by fact: of zoo.json and its table of models."""
    last = description["epochs"]
    counts, counted = models["split"].value_counts(), Counter(models["status"])
    splits = ", ".join(f"{counts.get(split, 0)} {split}" for split in SPLITS)
    found = {
        "published as": description.get("published"),
        "models": f"{len(models)} ({splits}); splits are by model, column split of models.parquet",
        "states of a model": f"{last + 1} (epochs 0 to {last}; 0 is before training)",
        "architecture": _architecture(description["arch"], width_of(description["layout"])),
        "images": _images(description.get("dataset")),
        "generating factors": _factors(models),
        "training": _training(description.get("protocol"), last),
        "diverged": f"{counted['diverged']} models; they are kept, and flagged in models.parquet",
        "partial": f"{counted['partial']} models: some states or losses are not on record"
        if counted["partial"]
        else None,
        "licence": description.get("license"),
    }
    return {name: value for name, value in found.items() if value}


def _images(dataset: Any) -> str | None:
    if not (isinstance(dataset, dict) and {"title", "sizes", "fingerprint"} <= set(dataset) and dataset["fingerprint"]):
        return dataset["name"] if isinstance(dataset, dict) and "name" in dataset else None
    sizes = ", ".join(f"{dataset['sizes'][split]:,} {split}" for split in SPLITS)
    return f"{dataset['title']} ({sizes}; fingerprint {dataset['fingerprint'][:16]})"


def _architecture(arch: dict[str, Any], parameters: int) -> str:
    """A variational one has a variance for every value but biases of linear layers and BatchNorm."""
    what = "weights and log variances" if arch.get("variational") else "weights"
    return f"{arch.get('name', 'see zoo.json')}, {parameters:,} {what}"


def _training(protocol: Any, epochs: int) -> str | None:
    if not (isinstance(protocol, dict) and {"batch_size", "schedule"} <= set(protocol)):
        return None
    schedule = {"constant": "constant learning rate", "onecycle": "OneCycle learning rate"}[protocol["schedule"]]
    words = [f"{epochs} epoch{'s' * (epochs != 1)}", f"batches of {protocol['batch_size']}", schedule, "cross-entropy"]
    if "divergence_rate" in protocol:
        words.append(f"variational dropout, whose divergence weighs {protocol['divergence_rate']:g} more each epoch")
    if "pruned" in protocol:
        share, steps = protocol["pruned"]["share"], protocol["pruned"]["epochs"]
        words.append(
            f"the smallest {100 * share:g} % of the weights pruned {'at once' if steps == 1 else f'in {steps} steps'}"
        )
    return ", ".join(words)


def _factors(models: pd.DataFrame) -> str:
    """The values of each generating factor; of seeds, how many."""
    words = []
    for factor in FACTORS:
        values = models[factor].dropna().unique()
        if len(values):
            words.append(
                f"{factor.replace('_', ' ')} {', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)}"
            )
    seeds = models["seed"].nunique()
    return "; ".join([*words, f"{seeds} seed{'s' * (seeds > 1)}"])


def card(description: dict[str, Any], models: pd.DataFrame, metrics: pd.DataFrame, measured: str = "") -> str:
    """The card as Markdown.

    Args:
        description: what zoo.json holds.
        models, metrics: the tables, with every epoch of every model.
        measured: Markdown of what has been measured.
    """
    name, end = description["name"], description["epochs"]
    last = metrics[metrics["epoch"] == end]
    scores = [
        f"| {part} | {_mean_std(last[f'{part}_acc'] * 100, ' %')} | {_mean_std(last[f'{part}_loss'], '')} |"
        for part in SPLITS
    ]
    sparse = []
    if "sparsity" in last:
        sparse = [f"Sparsity, the share of weights that are dropped: {_mean_std(100 * last['sparsity'], ' %')}.", ""]
    lines = [
        f"# Zoo {name}",
        "",
        *([escaped(description["about"]), ""] if "about" in description else []),
        "| | |",
        "|---|---|",
        *(f"| {fact} | {escaped(value)} |" for fact, value in facts(description, models).items()),
        "",
        f"At epoch {end}, mean ± standard deviation over models (n = models with a finite value):",
        "",
        "| images | accuracy | loss |",
        "|---|---|---|",
        *scores,
        "",
        *sparse,
        *([measured, ""] if measured else []),
        "## Load it",
        "",
        "```python",
        "from zoo import Zoo",
        f'zoo = Zoo.open("{name}")  # the path of this folder',
        f'weights = zoo.weights(split="train", epochs=[{end}])  # float32 [models, epochs, parameters]',
        "```",
        "",
        "The files are JSON, Parquet and safetensors, readable without hyperzoo.",
        "",
        "## Make it again",
        "",
        f"{as_code(description.get('command', 'not recorded'))} (spec, protocol and versions are in zoo.json).",
        "",
    ]
    return "\n".join(lines)


def _mean_std(values: pd.Series, unit: str) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    spread = f" ± {values.std(ddof=0):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}{unit} (n = {len(values)})"
