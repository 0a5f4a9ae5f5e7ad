"""Predicting a model's properties from its weights (Model Zoos, Schürholt et al., 2022, section 5, Table 3).

Numbers are predicted by ridge regression, names by one linear layer; what is fitted is fitted on models of the train
split, what is chosen (λ) on the validation split, and what is reported is measured on the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import linalg, stats
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import nn

# λ from 1000 down to 1e-5, at 1 and 3 of each decade.
LAMBDAS = (1e3, 3e2, 1e2, 3e1, 1e1, 3e0, 1e0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
SEED = 42
WIDEST = 500  # features of trees
RESAMPLES, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class Split:
    """Features [n, F], targets [n] and models [n] of one split."""

    features: np.ndarray
    target: np.ndarray
    models: np.ndarray


@dataclass(frozen=True)
class Score:
    """How well a property is predicted on the test split.

    Attributes:
        value: R² (1 - mean squared error over the variance of the test targets) of a number, or the share of names that
            are right.
        low, high: its bootstrap 95 % interval (percentiles). Models are drawn, with all their states; draws that have no
            measure (R² of numbers that are all alike) do not count.
        tau: Kendall's rank correlation of predicted and true numbers; nan for names.
        n, models: states and models it was measured on.
        chosen: λ, where one was chosen, else nan.
    """

    value: float
    low: float
    high: float
    tau: float
    n: int
    models: int
    chosen: float


def ridge(train: Split, val: Split, test: Split) -> Score | None:
    """Ridge regression in closed form, float64, with a column of ones that is penalised like the rest.

    (XᵀX + λI)⁻¹Xᵀy, features not standardised; λ is that of `LAMBDAS` with the best R² on `val`, no refit. With fewer
    samples than features the same solution comes of XXᵀ. None if a split is empty.
    """
    if not (len(train.target) and len(val.target) and len(test.target)):
        return None
    x, y = _with_ones(train.features), train.target
    if len(x) >= x.shape[1]:
        values, vectors = linalg.eigh(x.T @ x)
        projected, back = vectors.T @ (x.T @ y), vectors
    else:
        values, vectors = linalg.eigh(x @ x.T)
        projected, back = vectors.T @ y, x.T @ vectors
    values = values.clip(min=0)
    known, scores = _with_ones(val.features) @ back, []
    for strength in LAMBDAS:
        scores.append(r_squared(known @ (projected / (values + strength)), val.target))
    if not np.isfinite(scores).any():  # one state, or all alike: there is nothing to choose by
        nan = float("nan")
        return Score(nan, nan, nan, nan, len(test.target), len(np.unique(test.models)), nan)
    best = LAMBDAS[int(np.nanargmax(scores))]
    return _of_numbers(_with_ones(test.features) @ back @ (projected / (values + best)), test, best)


def boosted_trees(train: Split, val: Split, test: Split) -> Score | None:
    """scikit-learn's histogram gradient boosting with its defaults, for numbers and for names; `val` is not used.

    None for more than `WIDEST` features (trees on the weights themselves take minutes each), or if a split is empty.
    """
    if train.features.shape[1] > WIDEST or not (len(train.target) and len(test.target)):
        return None
    if train.target.dtype.kind == "f":
        trees = HistGradientBoostingRegressor(random_state=SEED).fit(train.features, train.target)
        return _of_numbers(trees.predict(test.features), test, np.nan)
    trees = HistGradientBoostingClassifier(random_state=SEED).fit(train.features, train.target)
    return _of_names(trees.predict(test.features), test)


def linear_classifier(train: Split, val: Split, test: Split) -> Score | None:
    """One linear layer with log-softmax, as published: Kaiming normal, bias 0.01; Adam (1e-4, decay 1e-6), batches of 10,
    50 epochs, seed 42, the last epoch; `val` is not used. None if a split is empty."""
    if not (len(train.target) and len(test.target)):
        return None
    names, known = np.unique(train.target, return_inverse=True)
    x, y = torch.tensor(train.features, dtype=torch.float32), torch.tensor(known)
    random = torch.Generator().manual_seed(SEED)
    layer = nn.Linear(x.shape[1], len(names))
    nn.init.kaiming_normal_(layer.weight, generator=random)
    nn.init.constant_(layer.bias, 0.01)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-4, weight_decay=1e-6, fused=True)
    for _ in range(50):
        for batch in torch.randperm(len(x), generator=random).split(10):
            optimizer.zero_grad()
            F.cross_entropy(layer(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        predicted = layer(torch.tensor(test.features, dtype=torch.float32)).argmax(1).numpy()
    return _of_names(names[predicted], test)


def published(train: Split, val: Split, test: Split) -> Score | None:
    """The probe of the paper: `ridge` for numbers, `linear_classifier` for names."""
    return (ridge if train.target.dtype.kind == "f" else linear_classifier)(train, val, test)


PROBES = {"linear": published, "trees": boosted_trees}


def split_of(features: np.ndarray, states: pd.DataFrame, target: str, split: str) -> Split:
    """The states of a split whose target is known (a number: finite).

    Args:
        features: float [n, F], a row a state.
        states: columns model_id, split and `target`.
        target: a number or a name.
        split: train, val or test.
    """
    column = states[target]
    number = pd.api.types.is_numeric_dtype(column)
    known = np.isfinite(column.to_numpy(np.float64)) if number else column.notna().to_numpy()
    rows = (states["split"] == split).to_numpy() & known
    values = column[rows].to_numpy(np.float64 if number else str)
    return Split(features[rows], values, states.loc[rows, "model_id"].to_numpy())


def r_squared(predicted: np.ndarray, true: np.ndarray) -> float:
    """1 - mean squared error / variance; nan where all are alike (their variance may be 1e-38, as means are rounded)."""
    if np.ptp(true) == 0:
        return float("nan")
    return float(1 - np.mean((predicted - true) ** 2) / true.var())


def _with_ones(features: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(features, np.float64), np.ones((len(features), 1))], axis=1)


def _of_numbers(predicted: np.ndarray, test: Split, chosen: float) -> Score:
    def measure(some: Any) -> float:
        return r_squared(predicted[some], test.target[some])

    tau = stats.kendalltau(predicted, test.target).statistic if len(predicted) > 1 else np.nan
    return _score(measure, test, float(tau), chosen)


def _of_names(predicted: np.ndarray, test: Split) -> Score:
    right = predicted == test.target
    return _score(lambda some: float(right[some].mean()), test, float("nan"), float("nan"))


def _score(measure: Any, test: Split, tau: float, chosen: float) -> Score:
    """A measure of the test split with its interval; states of a model are no independent witnesses, so models are drawn."""
    models, of = np.unique(test.models, return_inverse=True)
    states = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1])
    random = np.random.default_rng(SEED)
    drawn = [
        measure(np.concatenate([states[i] for i in random.integers(0, len(models), len(models))]))
        for _ in range(RESAMPLES)
    ]
    known = [value for value in drawn if np.isfinite(value)] if len(models) > 1 else []
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if known else (np.nan, np.nan)
    return Score(measure(slice(None)), float(low), float(high), tau, len(test.target), len(models), chosen)
