"""`task=downstream`: what sampled networks are good for, compared with others, as tidy tables.

Every comparison is a function of a configuration that makes what it needs first (zoo, autoencoder, populations,
fine-tuned zoos; what is there already is used as it is) and returns one table. Tables are kept as Parquet under
results/<comparison>/, each beside a JSON file that says what it was made from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from hyperrep.config import hyperrep_problems
from zoo import Zoo
from zoo.config import derived_problems, did_you_mean, folder_problems
from zoo.errors import UserError
from zoo.manifest import write_listed
from zoo.training import command, version_of

# One row a measured number. x: what a comparison varies beside epochs (ensemble size, noise, place on a path), else NaN.
COLUMNS = ["method", "dataset", "epoch", "model", "x", "metric", "value"]

# Name -> module in this folder, and the options that it has.
COMPARISONS = {
    "init": ("initialisation", {"epochs"}),
    "transfer": ("transfer", {"epochs", "target", "target_words"}),
    "ensemble": ("ensemble", {"sizes", "repeats", "combine"}),
    "reconstruction": ("reconstruction", {"epochs"}),
    "unseen_zoo": ("unseen_zoo", {"target", "target_words", "sizes", "repeats", "combine"}),
    "unseen_arch": ("unseen_arch", {"target", "target_words", "archs", "epochs"}),
    "robustness": ("robustness", {"levels"}),
    "smoothness": ("smoothness", {"points", "pairs", "from_epoch"}),
    "weight_distribution": ("weight_distribution", {"bins"}),
}


@dataclass
class DownstreamConfig:
    """`downstream=`: which comparison, and of what. A preset has the options of its comparison and no others."""

    name: str = field(metadata={"choices": tuple(COMPARISONS)})
    methods: dict[
        str, list[str] | None
    ]  # label -> words that, added to the command line, make its population; null: none
    reported: list[int]  # epochs that tables show, beside the last of the fine-tuning; others are measured too

    # Options: see the comparison that has them.
    epochs: int | None = field(default=None, metadata={"min": 0})  # of fine-tuning
    target: str | None = None  # zoo= of the images that are transferred to
    target_words: list[str] | None = None  # words of its own on the target's command line, e.g. "zoo.models=200"
    archs: list[str] | None = None  # arch= of others
    sizes: list[int] | None = field(default=None, metadata={"min": 1})  # of ensembles
    repeats: int | None = field(default=None, metadata={"min": 1})  # ensembles of a size
    combine: str | None = field(default=None, metadata={"choices": ("logits", "probabilities", "vote")})
    levels: list[float] | None = field(default=None, metadata={"min": 0.0})  # of noise, in standard deviations
    points: int | None = field(default=None, metadata={"min": 2})  # on a path
    pairs: int | None = field(default=None, metadata={"min": 1})  # of models
    from_epoch: int | None = field(default=None, metadata={"min": 0})  # where a path along the training begins
    bins: int | None = field(default=None, metadata={"min": 2})

    @property
    def shown(self) -> list[int]:
        """The epochs that tables show."""
        return sorted({*self.reported, *([] if self.epochs is None else [self.epochs])})


def downstream_problems(config: Any) -> list[str]:
    """What forbids task=downstream, a sentence each."""
    chosen, problems = config.downstream, hyperrep_problems(config)
    wanted = COMPARISONS[chosen.name][1]
    options = set().union(*(names for _, names in COMPARISONS.values()))
    for name in sorted(options):
        given = getattr(chosen, name) is not None
        if name in wanted and not given:
            problems.append(f"downstream.{name}: is missing, and downstream={chosen.name} needs it")
        if given and name not in wanted:
            problems.append(
                f"downstream.{name}: downstream={chosen.name} has no such option{did_you_mean(name, wanted)}"
            )
    for method in chosen.methods:
        problems += folder_problems("downstream.methods", method)
    words = {f"downstream.methods.{method}": ["task=sample", *(own or [])] for method, own in chosen.methods.items()}
    if chosen.target is not None:
        target = ["task=zoo", f"zoo={chosen.target}", f"zoo.name={chosen.target}"]
        words["downstream.target"] = target
        words["downstream.target_words"] = [*target, *(chosen.target_words or [])]
    for key, own in words.items():
        shape = [f"{key}: got {word!r}, which is not KEY=VALUE" for word in own if "=" not in word]
        found = shape or derived_problems(config, *own)
        known = [*problems, *(problem.partition(": ")[2] for problem in problems)]
        problems += shape or [f"{key}: {problem}" for problem in found if problem not in known]
    return problems


def run_downstream(config: Any) -> pd.DataFrame:
    """Make the comparison of a config, and keep its table in results/<comparison>/<zoo>.parquet.

    Raises:
        UserError: as the tasks that it calls on.
    """
    compare = import_module(f"{__name__}.{COMPARISONS[config.downstream.name][0]}").compare
    config.downstream.methods = {
        method: words for method, words in config.downstream.methods.items() if words is not None
    }
    table = compare(config)[COLUMNS]
    if not len(table):
        raise UserError(f"downstream={config.downstream.name}: nothing was measured; give downstream.methods")
    file, zoos = result_file(config), Path(config.paths.root) / "zoos"
    sources = {name: zoos / name for name in (config.zoo.name, config.downstream.target) if name}
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "command": command(config), "zoo": config.zoo.name,
        "made_from": {name: Zoo.open(path).content for name, path in sources.items() if path.exists()},
        "methods": config.downstream.methods, "reported": config.downstream.shown,
        "versions": {name: version_of(name) for name in ("hyperzoo", "torch", "numpy", "scipy")},
    }  # fmt: skip
    write_listed(file.with_suffix(".json"), json.dumps(about, indent=1).encode())
    write_listed(file, table.to_parquet(index=False))  # the last: a table always has its description
    return table


def result_file(config: Any) -> Path:
    """Where the table of a config is kept."""
    target = f"_to_{config.downstream.target}" if config.downstream.target else ""
    return Path(config.paths.root) / "results" / config.downstream.name / f"{config.zoo.name}{target}.parquet"
