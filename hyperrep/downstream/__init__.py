"""`task=downstream`: what sampled networks are good for, compared with others, as tidy tables.

Every comparison is a function of a configuration that makes what it needs first (zoo, autoencoder, populations,
fine-tuned zoos; what is there already is used as it is) and returns one table. Tables are kept as Parquet under
results/<comparison>/, each beside a JSON file that says what it was made from.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pandas as pd

from hyperrep.checks import hyperrep_problems
from hyperrep.config import COMPARISONS, Config
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.base.versions import version_of
from zoo.config.combinations import folder_problems
from zoo.config.command_line import derived_problems
from zoo.config.recorded import command
from zoo.config.typed import did_you_mean
from zoo.store.manifest import write_listed

# One row a measured number. x: what a comparison varies beside epochs (ensemble size, noise, place on a path), else NaN.
COLUMNS = ["method", "dataset", "epoch", "model", "x", "metric", "value"]


def downstream_problems(config: Config) -> list[str]:
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


def run_downstream(config: Config) -> pd.DataFrame:
    """Make the comparison of a config, and keep its table in results/<comparison>/<zoo>.parquet.

    Raises:
        UserError: as the tasks that it calls on.
    """
    compare = import_module(f"{__name__}.{COMPARISONS[config.downstream.name][0]}").compare
    table = compare(config)[COLUMNS]
    if not len(table):
        raise UserError(f"downstream={config.downstream.name}: nothing was measured; give downstream.methods")
    file, zoos = result_file(config), Path(config.paths.root) / "zoos"
    sources = {name: zoos / name for name in (config.zoo.name, config.downstream.target) if name}
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "command": command(config), "zoo": config.zoo.name,
        "made_from": {name: Zoo.open(path).content for name, path in sources.items() if path.exists()},
        "methods": config.downstream.populations, "reported": config.downstream.shown,
        "versions": {name: version_of(name) for name in ("hyperzoo", "torch", "numpy", "scipy")},
    }  # fmt: skip
    write_listed(file.with_suffix(".json"), json.dumps(about, indent=1).encode())
    write_listed(file, table.to_parquet(index=False))  # the last: a table always has its description
    return table


def result_file(config: Config) -> Path:
    """Where the table of a config is kept."""
    target = f"_to_{config.downstream.target}" if config.downstream.target else ""
    return Path(config.paths.root) / "results" / config.downstream.name / f"{config.zoo.name}{target}.parquet"
