"""What tasks of this package check before they start."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hyperrep.config import AutoencoderConfig, Config
from hyperrep.samplers import sampler_class, sampler_problems
from hyperrep.tokens import Tokens, weights_and_biases
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.config.combinations import architecture, folder_problems


def autoencoder_problems(config: AutoencoderConfig, tokens: Tokens) -> list[str]:
    """What the values of a config forbid together; a sentence each."""
    problems = []
    if config.d_model < tokens.longest:
        problems.append(
            f"autoencoder.d_model: got {config.d_model}, but the longest token has {tokens.longest} values, which a "
            f"narrower model cannot pass on; give at least {tokens.longest}"
        )
    if config.d_model % config.heads:
        problems.append(
            f"autoencoder.heads: got {config.heads}, which does not divide autoencoder.d_model={config.d_model}"
        )
    if config.loss.between > 0 and config.loss.behaviour == 0:
        problems.append(
            f"autoencoder.loss.between: got {config.loss.between}, but it is a part of the behavioural term, and "
            "autoencoder.loss.behaviour is 0"
        )
    if config.loss.behaviour_full < config.loss.behaviour_from:
        problems.append(
            f"autoencoder.loss.behaviour_full: got {config.loss.behaviour_full}, but it cannot be before "
            f"autoencoder.loss.behaviour_from={config.loss.behaviour_from}"
        )
    return problems


def hyperrep_problems(config: Config) -> list[str]:
    """What forbids task=hyperrep, a sentence each."""
    problems = folder_problems("autoencoder.name", config.autoencoder.name) + states_problems(config)
    try:
        return problems + autoencoder_problems(config.autoencoder, Tokens(architecture(config)))
    except UserError as error:
        return [*problems, str(error)]


def states_problems(config: Config) -> list[str]:
    """What is wrong with the epochs whose states are learnt: those of the zoo that is there or, if it is to be trained, will be."""
    states, path = config.autoencoder.states, Path(config.paths.root) / "zoos" / config.zoo.name
    if not states or min(states) < 0 or len(set(states)) < len(states):
        return [f"autoencoder.states: got {states}, but it needs at least one epoch of the zoo, and none twice"]
    last = config.zoo.epochs
    with suppress(UserError):  # there is none yet, or it is damaged, which is told when it is needed
        last = max(last, Zoo.open(path).epochs[-1])
    if max(states) <= last:
        return []
    return [
        f"autoencoder.states: got {states}, but zoo {config.zoo.name} has the epochs 0 to {last}; give some of these, e.g. "
        f"autoencoder.states=[{last}], or more epochs (zoo.epochs={max(states)})"
    ]


def _network_problems(config: Config) -> list[str]:
    """Why networks of this architecture cannot be drawn as weights, a sentence each."""
    try:
        built = architecture(config)
        if built.n_buffers:
            return [
                f"arch={built.name}: has {built.n_buffers} values that are no weights (running statistics of batch norm), and "
                "samplers draw weights alone; sample networks without such layers, such as arch=cnn_s"
            ]
    except UserError as error:
        return [str(error)]
    if config.autoencoder.align == "none":
        return []
    try:
        weights_and_biases(built)
    except UserError as error:
        return [f"{error}, or draw from weights in the order they come in (autoencoder.align=none)"]
    return []


def sample_problems(config: Config) -> list[str]:
    """What forbids task=sample, a sentence each."""
    problems = sampler_problems(config.sampler)
    try:
        in_latent = sampler_class(config.sampler.name).space == "latent"
    except UserError:
        in_latent = False  # which is among the problems
    of_zoo = hyperrep_problems(config) if in_latent else states_problems(config) + _network_problems(config)
    problems = of_zoo + problems
    validation = config.dataset.protocols[config.arch.protocol].val
    if config.sampler.best_of > 1 and not validation:
        problems.append(
            f"sampler.best_of: got {config.sampler.best_of}, but dataset={config.dataset.name} has no validation images to "
            "choose by; set it to 1"
        )
    problems += folder_problems("population.name", config.population.name)
    return problems
