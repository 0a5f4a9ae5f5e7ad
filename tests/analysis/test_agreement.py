"""Agreement against a loop over pairs."""

import numpy as np
import pytest

from analysis.agreement import disagreement, pairwise_disagreement
from analysis.novelty import nearest_other, verdict


def test_disagreement_is_that_of_each_pair():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 4, (5, 37)), random.integers(0, 4, (3, 37))
    expected = [[(a != b).mean() for b in second] for a in first]
    np.testing.assert_allclose(disagreement(first, second, 4), expected, atol=1e-6)
    pairs = [(first[i] != first[j]).mean() for i in range(5) for j in range(i + 1, 5)]
    np.testing.assert_allclose(pairwise_disagreement(first, 4), pairs, atol=1e-6)
    assert len(pairwise_disagreement(first[:1], 4)) == 0


def test_nearest_other():
    random = np.random.default_rng(1)
    apart = random.random((2, 3 * 4)) + 0.1  # 2 models beside 3 epochs of 4 models
    apart[0, 4], apart[1, 9] = 0, 0  # themselves, at another epoch
    expected = [min(row[k] for k in range(12) if k % 4 != i) for i, row in enumerate(apart)]
    assert nearest_other(apart, 4) == pytest.approx(np.mean(expected))
    assert nearest_other(np.zeros((1, 3)), 1) == 0


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ((0.05, 0.1, 0.2, 0.2, 1), "copies"),
        ((0, 0, 0.2, 0.2, 1), "copies"),
        ((0.06, 0.1, 0.05, 0.2, 0.5), "reconstructions"),
        ((0.06, 0.1, 0.09, 0.2, 0.6), "collapsed"),
        ((0.06, 0.1, 0.19, 0.2, 0.6), "narrow"),
        ((0.06, 0.1, 0.2, 0.2, np.nan), "new"),
    ],
)
def test_verdicts(numbers, word):
    assert verdict(*numbers) == word
