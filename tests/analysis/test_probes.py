"""Property probes against scikit-learn and plain PyTorch, and on targets made by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from analysis.benchmark.probes import (
    LAMBDAS,
    Split,
    boosted_trees,
    linear_classifier,
    published,
    r_squared,
    ridge,
    split_of,
)


def splits(target, features=6, seed=0, per_model=3, models=(40, 12, 14)):
    """Three splits of models with some states each; `target` makes a target of the features."""
    random = np.random.default_rng(seed)
    first, found = 0, []
    for n in models:
        x = random.normal(size=(n * per_model, features))
        found.append(Split(x, target(x, random), np.repeat(np.arange(first, first + n), per_model)))
        first += n
    return found


@pytest.mark.parametrize("features", [6, 200])  # fewer and more than the 120 samples
def test_ridge_is_scikit_learns_with_the_lambda_that_validates_best(features):
    train, val, test = splits(lambda x, random: x[:, 0] - 2 * x[:, 1] + 3 + random.normal(size=len(x)), features)

    def ones(x):
        return np.concatenate([x, np.ones((len(x), 1))], axis=1)

    fits = {
        a: Ridge(alpha=a, fit_intercept=False, solver="cholesky").fit(ones(train.features), train.target)
        for a in LAMBDAS
    }
    validated = {a: r2_score(val.target, fit.predict(ones(val.features))) for a, fit in fits.items()}
    best = max(validated, key=lambda a: validated[a])
    score = ridge(train, val, test)
    assert score.chosen == best
    assert features < 120 or LAMBDAS[0] > best > LAMBDAS[-1]
    predicted = fits[best].predict(ones(test.features))
    assert score.value == pytest.approx(r2_score(test.target, predicted), abs=1e-6)
    assert score.tau == pytest.approx(stats.kendalltau(predicted, test.target).statistic)
    assert (score.n, score.models) == (42, 14)
    assert score.low < score.value < score.high


def test_the_test_split_decides_nothing():
    train, val, test = splits(lambda x, random: x[:, 0] + random.normal(size=len(x)))
    other = Split(test.features * 100, -test.target, test.models)
    assert ridge(train, val, test).chosen == ridge(train, val, other).chosen
    assert ridge(train, val, other).value < -100


def test_without_anything_to_choose_by_there_is_no_score():
    train, val, test = splits(lambda x, random: x[:, 0])
    alone = Split(val.features[:1], val.target[:1], val.models[:1])
    score = ridge(train, alone, test)
    assert np.isnan([score.value, score.low, score.tau, score.chosen]).all()
    assert (score.n, score.models) == (42, 14)


def test_a_split_without_known_targets_gives_no_score():
    train, val, test = splits(lambda x, random: x[:, 0])
    none = Split(test.features[:0], test.target[:0], test.models[:0])
    names = [Split(s.features, np.where(s.target > 0, "a", "b"), s.models) for s in (train, val)]
    for probe in (ridge, boosted_trees):
        assert probe(train, val, none) is None
        assert probe(none, val, test) is None
    assert ridge(train, none, test) is None
    assert linear_classifier(*names, Split(none.features, none.target.astype(str), none.models)) is None


def test_the_interval_is_wider_where_states_of_a_model_are_alike():
    """Ten states of a model that are one and the same tell no more than one."""
    train, val, once = splits(lambda x, random: x[:, 0] + random.normal(size=len(x)), per_model=1)
    often = Split(*(np.repeat(values, 10, axis=0) for values in (once.features, once.target, once.models)))
    one, ten = ridge(train, val, once), ridge(train, val, often)
    assert ten.value == pytest.approx(one.value)
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high), abs=1e-9)


def by_hand(train, test):
    """The published classifier, step by step in plain PyTorch."""
    names = sorted(set(train.target))
    x, y = torch.tensor(train.features).float(), torch.tensor([names.index(name) for name in train.target])
    random = torch.Generator().manual_seed(42)
    weight = torch.empty(len(names), x.shape[1]).normal_(0, (2 / x.shape[1]) ** 0.5, generator=random).requires_grad_()
    bias = torch.full((len(names),), 0.01, requires_grad=True)
    adam = torch.optim.Adam([weight, bias], lr=1e-4, weight_decay=1e-6)
    for _ in range(50):
        order = torch.randperm(len(x), generator=random)
        for first in range(0, len(x), 10):
            some = order[first : first + 10]
            loss = -torch.log_softmax(x[some] @ weight.T + bias, 1)[range(len(some)), y[some]].mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    predicted = (torch.tensor(test.features).float() @ weight.T + bias).argmax(1)
    return np.mean([names[i] == name for i, name in zip(predicted, test.target)])


def test_numbers_that_are_all_alike_have_no_r_squared():
    """The variance of a constant column is seldom 0: means are rounded."""
    for value, n in ((1e-3, 12), (1e-4, 7), (0.1, 3), (1.0, 5)):
        alike = np.full(n, value)
        assert np.isnan(r_squared(alike + 0.1, alike))
    train, val, test = splits(lambda x, _: np.where(x[:, 0] > 0, 1e-3, 1e-4))
    of_four_models = np.repeat([1e-3, 1e-4], [9, 3])
    few = Split(test.features[:12], of_four_models, test.models[:12])
    score = ridge(train, val, few)
    assert -1e4 < score.low <= score.value <= score.high <= 1
    alike = Split(test.features, np.full(len(test.target), 1e-3), test.models)
    assert np.isnan([ridge(train, val, alike).value, ridge(train, val, alike).low]).all()
    assert np.isnan(ridge(train, alike, test).chosen), "there is nothing to choose by"


def test_the_classifier_is_the_published_one():
    def third(x, _):
        return np.array(["relu", "tanh", "gelu"])[np.digitize(x.mean(1) * x.shape[1] ** 0.5, [-0.4, 0.4])]

    train, val, test = splits(third, features=300, models=(60, 3, 20))
    score = linear_classifier(train, val, test)
    assert score.value == by_hand(train, test)
    assert 0.4 < score.value < 1
    assert np.isnan(score.tau)
    assert score.low <= score.value <= score.high


def test_trees_find_what_is_not_linear():
    train, val, test = splits(lambda x, _: x[:, 0] * x[:, 1], models=(400, 10, 60))
    assert boosted_trees(train, val, test).value > 0.7 > 0.2 > ridge(train, val, test).value
    train, val, test = splits(lambda x, _: np.where(x[:, 0] * x[:, 1] > 0, "same", "other"), models=(400, 10, 60))
    assert boosted_trees(train, val, test).value > 0.85 > 0.7 > linear_classifier(train, val, test).value


def test_trees_are_not_of_raw_weights():
    assert boosted_trees(*splits(lambda x, _: x[:, 0], features=501)) is None


def test_kinds_and_splits():
    states = pd.DataFrame({"model_id": [0, 0, 1, 2], "split": ["train", "train", "val", "test"], "lr": [1, 1, 2, 3],
                           "init": ["a", "a", "b", "a"]})  # fmt: skip
    features = np.arange(8.0).reshape(4, 2)
    train = split_of(features, states, "lr", "train")
    assert (train.features.tolist(), train.target.tolist(), train.models.tolist()) == ([[0, 1], [2, 3]], [1, 1], [0, 0])
    assert train.target.dtype == np.float64
    assert split_of(features, states, "init", "test").target.tolist() == ["a"]
    states = states.assign(lr=[1, np.nan, np.inf, 3], init=["abc", None, "b", "a"])
    assert split_of(features, states, "lr", "train").features.tolist() == [[0, 1]], "what is missing is left out"
    assert split_of(features, states, "lr", "val").models.tolist() == []
    assert split_of(features, states, "init", "train").target.tolist() == ["abc"]
    numbers, names = splits(lambda x, _: x[:, 0]), splits(lambda x, _: np.where(x[:, 0] > 0, "a", "b"))
    assert published(*numbers) == ridge(*numbers)
    assert published(*names).value == linear_classifier(*names).value


def test_r_squared_by_hand():
    assert r_squared(np.array([1.0, 2.0]), np.array([1.0, 3.0])) == 0.5
    assert np.isnan(r_squared(np.ones(2), np.ones(2)))
