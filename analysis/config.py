"""`analysis=`: what is measured of a zoo."""

from __future__ import annotations

from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

PROBES = ("linear", "trees")


@dataclass
class AnalysisConfig:
    """`analysis.…`, see conf/analysis/default.yaml."""

    weight_threshold: float | None = field(metadata={"above": 0.0})
    cka_images: int = field(metadata={"min": 2})
    map_states: int = field(metadata={"min": 0})
    targets: list[str]
    probe_epochs: list[int] | None = field(metadata={"min": 0})
    early_epochs: list[int] = field(metadata={"min": 0})
    others: list[str]
    probes: list[str] = field(metadata={"choices": PROBES})
    features: dict[str, str]


def analysis_problems(config: Any) -> list[str]:
    """What forbids task=analysis, a sentence each."""
    problems = []
    for name, path in config.analysis.features.items():
        try:
            found = resolve_name(path)
        except (ImportError, AttributeError, ValueError) as error:
            problems.append(f"analysis.features.{name}: {path} cannot be imported ({error})")
            continue
        if not callable(found):
            problems.append(f"analysis.features.{name}: {path} is no function")
    return problems
