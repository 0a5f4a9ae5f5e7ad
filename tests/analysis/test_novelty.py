"""What the audit calls a population, and by what numbers."""

import numpy as np
import pandas as pd
import pytest

from analysis.audit.findings import verdict
from analysis.audit.novelty import compare, equally_accurate, finite_mean, overlaps

IMAGES, CLASSES = 400, 10
LABELS = np.random.default_rng(0).integers(0, CLASSES, IMAGES)


def networks(seed: int, n: int, accuracy: float = 0.8, of: np.ndarray = LABELS) -> np.ndarray:
    """Predictions of independent networks that are as accurate on `of`: int16 [n, images]."""
    random = np.random.default_rng(seed)
    wrong = random.random((n, IMAGES)) >= accuracy
    return np.where(wrong, (of + random.integers(1, CLASSES, (n, IMAGES))) % CLASSES, of).astype(np.int16)


def test_only_models_about_as_accurate_are_a_populations_equals():
    metrics = pd.DataFrame(
        [(0, 0, 0.1, 1), (0, 1, 0.72, 1), (0, 2, 0.9, 1), (1, 0, 0.1, 1), (1, 1, 0.11, 1), (2, 2, 0.7, np.nan), (2, 0, 0.66, 1),
         (3, 1, 0.7, 1)],
        columns=["model_id", "epoch", "test_acc", "weight_max_abs"],
    )  # fmt: skip
    assert equally_accurate(metrics, np.array([0, 1, 2]), 0.7, 0.05) == {0: 1, 2: 0}
    assert equally_accurate(metrics, np.array([0, 1, 2]), 0.7, 0.03) == {0: 1}
    assert equally_accurate(metrics, np.array([1]), 0.7, 0.05) == {}


def test_models_that_are_preferred_come_first():
    metrics = pd.DataFrame({"model_id": [0, 1, 2], "epoch": 0, "test_acc": 0.7, "weight_max_abs": 1.0})
    assert list(equally_accurate(metrics, np.array([2, 0]), 0.7, 0.05)) == [2, 0]


def test_a_model_is_compared_with_the_others():
    states = networks(1, 6)
    states[1] = states[0]  # two states of model 0 that agree
    models = np.array([0, 0, 1, 1, 2, 2])
    found = compare(states[[0, 2]], states, models, LABELS, CLASSES, np.array([0, 1]))
    assert found.nearest[0] == pytest.approx(min((states[0] != other).mean() for other in states[2:]))
    assert found.nearest[1] == pytest.approx(min((states[2] != other).mean() for other in states[[0, 1, 4, 5]]))
    assert not found.copies.any()
    assert compare(states[[0, 2]], states, models, LABELS, CLASSES).copies.all()
    alone = compare(states[:1], states[:2], models[:2], LABELS, CLASSES, np.array([0]))
    assert finite_mean(alone.nearest) == 0
    assert np.isnan(overlaps(alone.overlap)).all()
    assert not alone.copies.any()


def test_the_largest_overlap_of_errors():
    states, drawn = networks(1, 5), networks(2, 3)
    found = compare(drawn, states, np.arange(5), LABELS, CLASSES).overlap
    for one, largest in zip(drawn, found):
        wrong = set(np.flatnonzero(one != LABELS))
        theirs = [set(np.flatnonzero(state != LABELS)) for state in states]
        assert largest == max(len(wrong & other) / len(wrong | other) for other in theirs)
    mean, low, median, high = overlaps(found)
    assert (mean, median) == (found.mean(), np.median(found))
    assert (low, high) == (np.quantile(found, 0.05), np.quantile(found, 0.95))


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 0.85, 1.0])
@pytest.mark.parametrize("rest", ["noise", "new", "of another accuracy"])
def test_the_share_of_copies_is_found_whatever_the_others_are(share, rest):
    """Copies that err anew on one image in fifty; noise guesses."""
    states, n = networks(1, 40), 100
    near = networks(2, n, accuracy=0.98, of=states[np.random.default_rng(3).integers(40, size=n)])
    others = networks(4, n, accuracy={"noise": 0.1, "new": 0.8, "of another accuracy": 0.93}[rest])
    count = round(share * n)
    population = np.concatenate([near[:count], others[count:]])
    found = compare(population, states, np.arange(40), LABELS, CLASSES)
    assert found.copies.mean() == share
    assert compare(networks(5, n), states, np.arange(40), LABELS, CLASSES).copies.mean() == 0, "nor by chance"


@pytest.mark.parametrize(
    ("numbers", "word"),
    [  # copies, reconstructions, tied, chance, repeats, within, zoo_within
        ((0.0, 0.0, 0.0, 0.0, 0, 0.2, 0.2), "new"),
        ((0.15, 0.0, 0.15, 0.0, 0, 0.3, 0.2), "partly"),
        ((0.01, 0.0, 0.01, 0.0, 0, 0.3, 0.2), "partly"),
        ((0.01, 0.0, 0.01, 0.01, 0, 0.3, 0.2), "new"),
        ((0.5, 0.0, 0.5, 0.0, 0, 0.3, 0.2), "copies"),
        ((0.85, 0.0, 0.85, 0.02, 0, 0.3, 0.2), "copies"),
        ((1.0, 1.0, 1.0, 0.0, 1, 0.1, 0.2), "copies"),
        ((0.3, 0.9, 0.9, 0.0, 0, 0.3, 0.2), "reconstructions"),
        ((0.3, 0.3, 0.6, 0.0, 0, 0.3, 0.2), "copies"),
        ((0.1, 0.3, 0.4, 0.0, 0, 0.3, 0.2), "partly"),
        ((0.6, 0.0, 0.6, 0.7, 0, 0.2, 0.2), "new"),  # a zoo whose models do alike: nothing is shown
        ((0.0, 0.0, 0.0, 0.0, 0.5, 0.3, 0.2), "collapsed"),
        ((0.0, 0.0, 0.0, 0.0, 0, 0.09, 0.2), "collapsed"),
        ((0.0, 0.0, 0.0, 0.0, 0.4, 0.19, 0.2), "narrow"),
        ((0.0, 0.0, 0.0, 0.0, 0, np.nan, 0.2), "unknown"),
        ((0.0, 0.0, 0.0, 0.0, 0, 0.2, np.nan), "unknown"),
        ((1.0, 0.0, 1.0, 0.0, 0, np.nan, 0.2), "copies"),
    ],
)
def test_verdicts(numbers, word):
    assert verdict(*numbers) == word
