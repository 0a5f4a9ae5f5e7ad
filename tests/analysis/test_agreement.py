"""Agreement and the overlap of errors against a loop over pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis.measures.agreement import disagreement, error_overlap, pairwise_disagreement
from analysis.measures.pairs import BLOCK


def test_disagreement_is_that_of_each_pair():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 4, (5, 37)), random.integers(0, 4, (3, 37))
    expected = [[(a != b).mean() for b in second] for a in first]
    np.testing.assert_allclose(disagreement(first, second, 4), expected, atol=1e-6)
    pairs = [(first[i] != first[j]).mean() for i in range(5) for j in range(i + 1, 5)]
    np.testing.assert_allclose(pairwise_disagreement(first, 4), pairs, atol=1e-6)
    assert len(pairwise_disagreement(first[:1], 4)) == 0


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(0, 4), st.floats(0, 1))
def test_error_overlap_is_that_of_each_pair_of_sets(seed, n, m, share):
    random = np.random.default_rng(seed)
    first, second = random.random((n, 23)) < share, random.random((m, 23)) < 0.3
    found = error_overlap(first, second)
    assert found.shape == (n, m)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            a, b = set(np.flatnonzero(one)), set(np.flatnonzero(other))
            assert found[i, j] == (len(a & b) / len(a | b) if a | b else 1)
    assert (np.diagonal(error_overlap(first, first)) == 1).all()


def test_blocks_of_networks_change_nothing():
    random = np.random.default_rng(2)
    many = random.integers(0, 3, (2 * BLOCK + 7, 11))
    expected = [(many != one).mean(1) for one in many[:3]]
    np.testing.assert_allclose(disagreement(many[:3], many, 3), expected, atol=1e-12)
    overlap = error_overlap(many[:2] > 0, many > 0)
    assert overlap[1, BLOCK + 3] == error_overlap(many[1:2] > 0, many[BLOCK + 3 : BLOCK + 4] > 0)[0, 0]
