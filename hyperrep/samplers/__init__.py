"""Samplers draw new networks: as embeddings to be decoded, or as weights."""

from __future__ import annotations

import dataclasses
import typing
from importlib import import_module
from typing import Any

from hyperrep.config import SamplerConfig
from hyperrep.samplers.sampler import KINDS, SPACES, Anchors, Sampler, top
from zoo.base.errors import UserError, naming
from zoo.base.plugins import find
from zoo.config.typed import did_you_mean, typed

__all__ = [
    "SAMPLERS", "Anchors", "Sampler", "anchors_in_words", "fit_sampler", "sampler_class",
    "sampler_problems", "selected", "top",
]  # fmt: skip

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


COMMON = ("name", "label", "top", "top_by", "best_of", "variety", "options")


def sampler_class(name: str) -> type[Sampler]:
    """The class that `sampler.name` names.

    Raises:
        UserError: if there is none.
    """
    if name in SAMPLERS:
        return getattr(import_module(f"{__name__}.{name}"), SAMPLERS[name])
    if "." not in name:
        raise UserError(
            f"sampler.name: got {name!r}{did_you_mean(name, SAMPLERS)}, or the dotted path of a class of yours"
        )
    with naming("sampler.name"):
        kind = find(name)
    if not (isinstance(kind, type) and issubclass(kind, Sampler) and dataclasses.is_dataclass(kind)):
        raise UserError(f"sampler.name: {name} is no dataclass derived from hyperrep.samplers.Sampler")
    if kind.__abstractmethods__ or getattr(kind, "kind", 0) not in KINDS or getattr(kind, "space", 0) not in SPACES:
        raise UserError(
            f"sampler.name: {name} needs fit and sample, kind ({' or '.join(KINDS)}) and space ({' or '.join(SPACES)})"
        )
    return kind


def given_options(config: SamplerConfig) -> dict[str, Any]:
    """The options that a config has values for."""
    options = [option.name for option in dataclasses.fields(config) if option.name not in COMMON]
    given = {name: getattr(config, name) for name in options if getattr(config, name) is not None}
    return given | (config.options or {})


def sampler_problems(config: SamplerConfig) -> list[str]:
    """A sampler that does not exist, options that it lacks or does not have; a sentence each."""
    try:
        kind = sampler_class(config.name)
    except UserError as error:
        return [str(error)]
    given, hints = given_options(config), typing.get_type_hints(kind)
    options = {option.name: option for option in dataclasses.fields(kind)}
    problems = []
    if config.variety > 0 and config.best_of == 1:
        problems.append(
            f"sampler.variety: got {config.variety}, but with sampler.best_of=1 every draw is kept: draw more, or set it to 0"
        )
    for name, option in options.items():
        if name not in given and not _has_default(option) and type(None) not in typing.get_args(hints[name]):
            problems.append(f"sampler.{name}: is missing, and sampler={config.name} needs it")
    has = ", ".join(sorted(options)) or "none"
    for name in given:
        if name not in options:
            problems.append(f"sampler.{name}: sampler={config.name} has no such option; it has: {has}")
    for name, value in (config.options or {}).items():
        if hints.get(name) in (int, float, str, bool):  # of others, the class itself may tell
            typed(value, hints[name], options[name].metadata, f"sampler.options.{name}", problems)
    return problems


def _has_default(option: dataclasses.Field[Any]) -> bool:
    return option.default is not dataclasses.MISSING or option.default_factory is not dataclasses.MISSING


def build_sampler(config: SamplerConfig) -> Sampler:
    """The sampler of a config, not fitted yet.

    Raises:
        UserError: if options are wrong; all at once.
    """
    if problems := sampler_problems(config):
        raise UserError("\n".join(problems))
    kind, given = sampler_class(config.name), given_options(config)
    absent = [o.name for o in dataclasses.fields(kind) if o.name not in given and not _has_default(o)]
    return kind(**given, **dict.fromkeys(absent))


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
    sampler = build_sampler(config)
    sampler.fit(selected(config, anchors), accelerator)
    return sampler


def anchors_in_words(share: float | None, by: str) -> str:
    """Which anchors a sampler was fitted to."""
    if share is None:
        return "all training models"
    chosen = f"the best {share:.0%} of the training models by {by} accuracy"
    return chosen + (", ON WHICH THEY ARE REPORTED" if by == "test" else "")


def selected(config: SamplerConfig, anchors: Anchors) -> Anchors:
    """The anchors that `config.top` and `config.top_by` select, without their test accuracy. Raises as `top`."""
    if config.top is not None:
        anchors = top(anchors, config.top, "test_accuracy" if config.top_by == "test" else "val_accuracy")
    return dataclasses.replace(anchors, test_accuracy=None)
