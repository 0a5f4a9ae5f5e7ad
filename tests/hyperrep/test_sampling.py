"""Which of many draws are kept."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from analysis.measures.agreement import disagreement
from hyperrep.sampling import choose, nearest_distance

LABELS = np.arange(60) % 3


def draws(seed: int, n: int = 12) -> np.ndarray:
    """Networks of all accuracies: int16 [n, 60]."""
    random = np.random.default_rng(seed)
    wrong = random.random((n, 60)) < random.uniform(0.1, 0.9, (n, 1))
    return np.where(wrong, random.integers(0, 3, (n, 60)), LABELS).astype(np.int16)


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0, 3))
def test_each_is_the_best_beside_those_that_are_kept_already(seed, n, variety):
    """The slow and obvious way: all scores anew for every network kept."""
    predicted = draws(seed)
    accuracy, apart = (predicted == LABELS).mean(1), disagreement(predicted, predicted, 3)
    kept: list[int] = []
    for i in choose(predicted, LABELS, n, variety):
        scores = accuracy + variety * (apart[:, kept].mean(1) if kept else 0)
        left = [j for j in range(12) if j not in kept]
        assert i in left
        assert scores[i] == pytest.approx(scores[left].max(), abs=1e-6)
        kept.append(i)


def test_without_variety_the_most_accurate_are_kept():
    predicted = draws(0)
    accuracy = (predicted == LABELS).mean(1)
    kept = choose(predicted, LABELS, 5, 0)
    assert len(set(kept)) == 5
    assert accuracy[kept].tolist() == sorted(accuracy, reverse=True)[:5]  # among equals, any


def test_a_copy_is_kept_last():
    predicted = draws(1, 4)
    twice = np.concatenate([predicted, predicted[:1]])
    assert set(choose(twice, LABELS, 4, 100)) != {0, 4, 1, 2}
    assert {0, 4} - set(choose(twice, LABELS, 4, 100))


def test_nearest_distance():
    random = torch.Generator().manual_seed(0)
    weights, others = torch.randn(7, 5, generator=random), torch.randn(9, 5, generator=random)
    apart = cdist(weights, others)
    assert nearest_distance(weights, others) == pytest.approx(apart.min(1).mean())
    same = torch.rand(7, 9, generator=random) < 0.5
    apart[same.numpy()] = np.inf
    assert nearest_distance(weights, others, same) == pytest.approx(apart.min(1).mean())
