"""Samplers draw new networks: as embeddings to be decoded, or as weights."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from hyperrep.samplers.sampler import Anchors, Sampler, top
from zoo.errors import UserError

__all__ = ["SAMPLERS", "Anchors", "Sampler", "SamplerConfig", "fit_sampler", "sampler_class", "sampler_problems", "top"]

# Module in this folder -> class. By name, because some bring Lightning, which a command line that is refused can do without.
SAMPLERS = {
    "uniform": "UniformSampler",
    "kde": "KDESampler",
    "kde_joint": "KDEJointSampler",
    "kde_anchor": "KDEAnchorSampler",
    "counterfactual": "CounterfactualSampler",
    "neighbour": "NeighbourSampler",
    "gan": "GANSampler",
    "gaussian": "GaussianSampler",
    "flow": "FlowSampler",
    "noise": "NoiseSampler",
    "soup": "SoupSampler",
    "pca": "PCASampler",
    "nearest": "NearestSampler",
}


@dataclass
class SamplerConfig:
    """`sampler=`: how new networks are drawn. A preset has the options of its sampler and no others."""

    name: str = field(metadata={"choices": tuple(SAMPLERS)})
    label: str  # how folders and tables call it
    top: float | None = field(metadata={"above": 0.0, "max": 1.0})  # only this share of the anchors; null: all
    top_by: str = field(metadata={"choices": ("validation", "test")})  # test, as released, looks at the test images
    best_of: int = field(metadata={"min": 1})  # networks drawn for one kept: the best on validation images

    # Options: see the class of the sampler that has them.
    bandwidth: float | None = field(default=None, metadata={"above": 0.0})  # in standard deviations of the anchors
    bandwidth_absolute: bool | None = None  # take bandwidth as it is
    density_quantile: float | None = field(default=None, metadata={"above": 0.0, "below": 1.0})
    cube: str | None = field(default=None, metadata={"choices": ("per_axis", "global")})
    rotate: bool | None = None  # draw along the anchors' principal axes
    shrinkage: float | None = field(default=None, metadata={"min": 0.0, "max": 1.0})  # of the covariance
    spread: float | None = field(default=None, metadata={"above": 0.0})  # times the anchors' standard deviations
    members: int | None = field(default=None, metadata={"min": 2})  # of a soup; null: all anchors
    components: int | None = field(default=None, metadata={"min": 1})
    steps: int | None = field(default=None, metadata={"min": 1})  # of training
    fit_seed: int | None = field(default=None, metadata={"min": 0})  # of what is random in fitting
    condition: dict[str, Any] | None = None  # property -> value of the draws; null: as the anchors have it


COMMON = ("name", "label", "top", "top_by", "best_of")


def sampler_class(name: str) -> type[Sampler]:
    """The class of a sampler of `SAMPLERS`."""
    return getattr(import_module(f"{__name__}.{name}"), SAMPLERS[name])


def sampler_problems(config: SamplerConfig) -> list[str]:
    """Options that the sampler lacks or does not have, a sentence each."""
    kind = sampler_class(config.name)
    hints = typing.get_type_hints(kind)
    options = {option.name for option in dataclasses.fields(kind)}
    problems = []
    for option in dataclasses.fields(config):
        value = getattr(config, option.name)
        if option.name in options:
            if value is None and type(None) not in typing.get_args(hints[option.name]):
                problems.append(f"sampler.{option.name}: is missing, and sampler={config.name} needs it")
        elif option.name not in COMMON and value is not None:
            has = ", ".join(sorted(options)) or "none"
            problems.append(f"sampler.{option.name}: sampler={config.name} has no such option; it has: {has}")
    return problems


def fit_sampler(config: SamplerConfig, anchors: Anchors, accelerator: str = "cpu") -> Sampler:
    """The sampler of a config, fitted to the anchors that `config.top` selects.

    `config.best_of` is not seen to here: whoever decodes and evaluates draws `best_of` times as many, and keeps the best.

    Args:
        config: which sampler, and its options.
        anchors: embeddings or, for a sampler with `space = "weights"`, weights.
        accelerator: "cpu" or "gpu", for samplers that are networks.

    Raises:
        UserError: if options are wrong (all at once), or the anchors cannot be selected or are too few.
    """
    if problems := sampler_problems(config):
        raise UserError("\n".join(problems))
    kind = sampler_class(config.name)
    sampler = kind(**{option.name: getattr(config, option.name) for option in dataclasses.fields(kind)})
    if config.top is not None:
        anchors = top(anchors, config.top, "test_accuracy" if config.top_by == "test" else "val_accuracy")
    sampler.fit(anchors, accelerator)
    return sampler
