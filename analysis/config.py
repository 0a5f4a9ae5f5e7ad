"""`analysis=`: what is measured of a zoo."""

from __future__ import annotations

from dataclasses import dataclass, field

from zoo.base.errors import UserError
from zoo.base.plugins import find
from zoo.config import sections
from zoo.config.combinations import folder_problems

PROBES = ("linear", "trees")


@dataclass
class AnalysisConfig:
    """`analysis.…`, see conf/analysis/default.yaml."""

    weight_threshold: float | None = field(metadata={"above": 0.0})
    cka_images: int = field(metadata={"min": 2, "max": 200})  # n² numbers a model and layer are held
    map_states: int = field(metadata={"min": 0})
    targets: list[str]
    probe_epochs: list[int] | None = field(metadata={"min": 0})
    early_epochs: list[int] = field(metadata={"min": 0})
    others: list[str]
    probes: list[str] = field(metadata={"choices": PROBES})
    features: dict[str, str]


@dataclass(kw_only=True)
class Config(sections.Config):
    """A zoo, and what is measured of it."""

    analysis: AnalysisConfig


def analysis_problems(config: Config) -> list[str]:
    """What forbids task=analysis, a sentence each."""
    chosen, problems = config.analysis, []
    for name in ("targets", "probe_epochs", "early_epochs", "others", "probes"):
        values = getattr(chosen, name)
        if values is not None and len(set(values)) < len(values):
            problems.append(f"analysis.{name}: got {values}, but none may be there twice")
    if chosen.probe_epochs == []:
        problems.append("analysis.probe_epochs: got [], but at least one epoch is probed; null takes three")
    for other in chosen.others:
        problems += folder_problems("analysis.others", other)
        if other == config.zoo.name:
            problems.append(f"analysis.others: got {other!r}, which is the zoo itself; name others")
    for name, path in chosen.features.items():
        try:
            problems += [] if callable(find(path)) else [f"analysis.features.{name}: {path} is no function"]
        except UserError as error:
            problems.append(f"analysis.features.{name}: {error}")
    return problems
