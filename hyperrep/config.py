"""What tasks of this package check before they start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hyperrep.autoencoder import autoencoder_problems
from hyperrep.samplers import sampler_class, sampler_problems
from hyperrep.tokens import Tokens
from zoo.architecture import Architecture
from zoo.config import folder_problems
from zoo.errors import UserError
from zoo.images import plan_shape


@dataclass
class PopulationConfig:
    """`population.…`: the networks that task=sample draws."""

    name: str  # the folder under <paths.root>/zoos that they are stored in
    models: int = field(metadata={"min": 1})
    seed: int = field(metadata={"min": 0})  # of the draws


def hyperrep_problems(config: Any) -> list[str]:
    """What forbids task=hyperrep, a sentence each."""
    dataset, arch = config.dataset, config.arch
    problems = folder_problems("autoencoder.name", config.autoencoder.name)
    try:
        built = Architecture.from_config(arch, plan_shape(dataset, arch.protocol, arch.image_size), dataset.classes)
        return problems + autoencoder_problems(config.autoencoder, Tokens(built))
    except UserError as error:
        return [*problems, str(error)]


def sample_problems(config: Any) -> list[str]:
    """What forbids task=sample, a sentence each."""
    problems = sampler_problems(config.sampler)
    try:
        in_latent = sampler_class(config.sampler.name).space == "latent"
    except UserError:
        in_latent = False  # which is among the problems
    if in_latent:
        problems = hyperrep_problems(config) + problems
    problems += folder_problems("population.name", config.population.name)
    return problems
