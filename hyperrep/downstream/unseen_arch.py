"""downstream=unseen_arch: weights sampled for one architecture start the training of others.

Hyper-Representations as Generative Models (Schürholt et al., 2022), Table 4. How weights are poured over, which the paper does
not say: by the name of the layer where the other architecture has all layers of the learnt one (what it has beside them is
drawn as ever), else value by value in the order of the state dict where both have as many parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hyperrep.config import Config
from hyperrep.downstream.stages import ensure_fine_tuned, ensure_population, ensure_zoo, given, of_target, trajectories
from hyperrep.sampling import described, store_population, stored_population
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.config.combinations import architecture
from zoo.engines.engine import initial_population
from zoo.networks.architecture import Architecture
from zoo.training.description import describe_images
from zoo.training.opening import read_images


def compare(config: Config) -> pd.DataFrame:
    """Accuracy on the target's test images at every epoch; methods are "<arch> random" and "<arch> <method>".

    Args:
        config: of the zoo that is learnt; `downstream.target` is the `zoo=` whose images are trained on, `downstream.archs`
            the `arch=` of the other architectures, `downstream.epochs` of training.
    """
    chosen, parts = config.downstream, []
    ensure_zoo(config)
    populations = {method: ensure_population(config, words) for method, words in chosen.populations.items()}
    for name in given(chosen.archs):
        size = [f"zoo.models={config.population.models}", f"zoo.epochs={chosen.epochs}"]
        other = of_target(config, f"zoo.name={chosen.target}_{name}", f"arch={name}", "zoo.published=null", *size)
        parts.append(trajectories(f"{name} random", ensure_zoo(other)))
        for method, drawn in populations.items():
            population = _poured(drawn, other)
            parts.append(trajectories(f"{name} {method}", ensure_fine_tuned(other, population, given(chosen.epochs))))
    return pd.concat(parts, ignore_index=True)


def pour(weights: np.ndarray, arch: Architecture, other: Architecture, rows: pd.DataFrame) -> np.ndarray:
    """Weights [n, P] of networks of `arch` as weights [n, Q] of `other`.

    Args:
        weights: float32.
        arch: what they are weights of.
        other: what they become.
        rows: one row a network; seed, init, activation and dropout say how the rest is drawn.

    Raises:
        UserError: if neither names nor the number of parameters allow it.
    """
    slots = {".".join(slot.name.split(".")[-2:]): slot for slot in other.layout}
    if all(slot.name in slots and slots[slot.name].shape == slot.shape for slot in arch.layout):
        poured = initial_population(other, rows).weights.copy()
        for slot in arch.layout:
            place = slots[slot.name]
            poured[:, place.offset : place.offset + place.size] = weights[:, slot.offset : slot.offset + slot.size]
        return poured
    if arch.n_parameters == other.n_parameters:
        return weights.copy()
    raise UserError(
        f"weights of arch={arch.name} cannot be poured into arch={other.name}: it has neither all its layers nor its "
        f"{arch.n_parameters} parameters ({other.n_parameters})"
    )


def _poured(population: Zoo, other: Any) -> Zoo:
    """A population as one of another architecture, stored."""
    arch, target = population.architecture, architecture(other)
    name = f"{population.name}_as_{target.name}"
    spec = {
        "kind": "poured",
        "population": {"name": population.name, "identity": population.identity},
        "arch": target.name,
    }
    about = f"{population.description['about']} Poured into arch={target.name}."
    description = described(other, population, name, about, spec)
    stored = stored_population(other, description)
    if stored:
        return stored
    rows = population.models.drop(columns=["status", "diverged_epoch"]).assign(dropout=0.0)
    weights = pour(population.weights(epochs=[0])[:, 0], arch, target, rows.assign(init=other.zoo.grid.init[0]))
    images = read_images(other)
    description |= {"arch": target.to_dict(), "dataset": describe_images(other, images)}
    return store_population(other, description, target, weights, rows, images)
