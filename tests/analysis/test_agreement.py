"""Agreement against a loop over pairs."""

import numpy as np
import pandas as pd
import pytest

from analysis.agreement import disagreement, pairwise_disagreement
from analysis.novelty import equally_accurate, nearest_other, verdict


def test_disagreement_is_that_of_each_pair():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 4, (5, 37)), random.integers(0, 4, (3, 37))
    expected = [[(a != b).mean() for b in second] for a in first]
    np.testing.assert_allclose(disagreement(first, second, 4), expected, atol=1e-6)
    pairs = [(first[i] != first[j]).mean() for i in range(5) for j in range(i + 1, 5)]
    np.testing.assert_allclose(pairwise_disagreement(first, 4), pairs, atol=1e-6)
    assert len(pairwise_disagreement(first[:1], 4)) == 0


def test_only_models_about_as_accurate_are_a_populations_equals():
    metrics = pd.DataFrame(
        [(0, 0, 0.1, 1), (0, 1, 0.72, 1), (0, 2, 0.9, 1), (1, 0, 0.1, 1), (1, 1, 0.11, 1), (2, 2, 0.7, np.nan), (2, 0, 0.66, 1),
         (3, 1, 0.7, 1)],
        columns=["model_id", "epoch", "test_acc", "weight_max_abs"],
    )  # fmt: skip
    assert equally_accurate(metrics, np.array([0, 1, 2]), 0.7, 0.05) == {0: 1, 2: 0}
    assert equally_accurate(metrics, np.array([0, 1, 2]), 0.7, 0.03) == {0: 1}
    assert equally_accurate(metrics, np.array([1]), 0.7, 0.05) == {}


def test_nearest_other():
    random = np.random.default_rng(1)
    apart = random.random((2, 12)) + 0.1
    models, others = np.array([5, 2]), np.array([5, 5, 1, 1, 1, 2, 2, 3, 3, 3, 9, 9])
    apart[0, 1], apart[1, 6] = 0, 0  # themselves, at another epoch
    expected = [min(row[k] for k in range(12) if others[k] != model) for row, model in zip(apart, models)]
    assert nearest_other(apart, models, others) == pytest.approx(np.mean(expected))
    assert nearest_other(np.zeros((1, 3)), np.array([1]), np.array([1, 1, 1])) == 0


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ((0.05, 0.1, 0.2, 0.2, 1), "copies"),
        ((0, 0, 0.2, 0.2, 1), "copies"),
        ((0.06, 0.1, 0.05, 0.2, 0.5), "reconstructions"),
        ((0.06, 0.1, 0.09, 0.2, 0.6), "collapsed"),
        ((0.06, 0.1, 0.19, 0.2, 0.6), "narrow"),
        ((0.06, 0.1, 0.2, 0.2, np.nan), "new"),
        ((0.06, 0.1, np.nan, 0.2, 1), "unknown"),
        ((0.06, 0.1, 0.2, np.nan, 1), "unknown"),
        ((0.0, 0.0, np.nan, np.nan, 1), "copies"),
    ],
)
def test_verdicts(numbers, word):
    assert verdict(*numbers) == word
