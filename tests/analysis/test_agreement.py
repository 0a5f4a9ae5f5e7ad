"""Agreement against a loop over pairs."""

import numpy as np
import pytest

from analysis.agreement import disagreement, pairwise_disagreement
from analysis.novelty import verdict


def test_disagreement_is_that_of_each_pair():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 4, (5, 37)), random.integers(0, 4, (3, 37))
    expected = [[(a != b).mean() for b in second] for a in first]
    np.testing.assert_allclose(disagreement(first, second, 4), expected, atol=1e-6)
    pairs = [(first[i] != first[j]).mean() for i in range(5) for j in range(i + 1, 5)]
    np.testing.assert_allclose(pairwise_disagreement(first, 4), pairs, atol=1e-6)
    assert len(pairwise_disagreement(first[:1], 4)) == 0


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ((0.03, 0.05, 0.2, 0.2), "copies"),
        ((0.1, 0.05, 0.05, 0.2), "collapsed"),
        ((0.1, 0.05, 0.19, 0.2), "narrow"),
        ((0.1, 0.05, 0.2, 0.2), "new"),
    ],
)
def test_verdicts(numbers, word):
    assert verdict(*numbers) == word
