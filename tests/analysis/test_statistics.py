import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.measures.statistics import adjust, compare, summarise


def test_a_summary_is_what_numpy_says_of_the_finite_values():
    values = np.random.default_rng(0).normal(5, 2, 40)
    found = summarise(np.append(values, [np.nan, np.inf]))
    assert (found.n, found.mean, found.std) == (40, pytest.approx(values.mean()), pytest.approx(values.std(ddof=0)))
    assert found.quantiles[0] == values.min()
    assert found.quantiles[-1] == values.max()
    assert found.quantiles[3] == found.median == np.median(values)


def test_the_interval_of_the_mean_holds_it_nineteen_times_of_twenty():
    random = np.random.default_rng(1)
    found = [summarise(random.gamma(2, 1, 30)) for _ in range(60)]
    covered = np.mean([s.mean_low <= 2 <= s.mean_high for s in found])
    assert stats.binomtest(round(60 * covered), 60, 0.93).pvalue > 0.01  # a little under 95 %, at n = 30
    assert np.mean([s.median_low <= stats.gamma.median(2) <= s.median_high for s in found]) > 0.85


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0], [1.0, 3.0, 3.0, 3.0]])
def test_few_or_equal_values_have_an_interval_too(values):
    found = summarise(np.array(values))
    assert found.mean_low <= found.mean <= found.mean_high
    assert found.median_low <= found.median <= found.median_high


def test_of_nothing_nothing_is_known():
    assert summarise(np.array([np.nan])).n == 0
    assert np.isnan(summarise(np.array([])).mean)
    with pytest.raises(ValueError, match="0 and 2 finite values"):
        compare(np.array([np.nan]), np.array([1.0, 2.0]))


def test_a_comparison_by_counting_pairs():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 9, 15).astype(float), random.integers(2, 11, 12).astype(float)
    found = compare(np.append(first, np.nan), second)
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(first, second)]
    assert (found.n_first, found.n_second) == (15, 12)
    assert found.effect == pytest.approx(np.mean(pairs))
    assert found.p == stats.mannwhitneyu(first, second, alternative="two-sided").pvalue
    assert found.difference == np.median([a - b for a, b in itertools.product(first, second)])
    assert found.low <= found.difference <= found.high


def test_the_interval_of_the_difference_holds_it_nineteen_times_of_twenty():
    random = np.random.default_rng(2)
    found = [compare(random.normal(1.5, 1, 25), random.normal(1, 1, 20)) for _ in range(400)]
    covered = sum(c.low <= 0.5 <= c.high for c in found)
    assert stats.binomtest(covered, 400, 0.95).pvalue > 0.01


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_by_its_definition(p):
    """A hypothesis is rejected at level α if it and all smaller ones pass α / (how many are left)."""
    adjusted = adjust(np.array(p))
    for alpha in (0.01, 0.05, 0.3, 0.9):
        rejected, left = set(), len(p)
        for i in sorted(range(len(p)), key=lambda i: p[i]):
            if p[i] * left > alpha:
                break
            rejected.add(i)
            left -= 1
        assert set(np.flatnonzero(adjusted <= alpha)) == rejected
