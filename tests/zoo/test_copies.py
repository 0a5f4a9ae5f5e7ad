"""What is called a copy: against the definition, slowly, and where it must not accuse."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from zoo.networks.copies import copied


def found(points, states, models, own=None) -> np.ndarray:
    return copied(cdist(points, states), np.array(models), lambda places: cdist(states[places], states), own)


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 3), st.booleans())
def test_the_definition(seed, n_states, n_models, coarse):
    """On a grid, states fall together."""
    random = np.random.default_rng(seed)
    states, points = random.normal(size=(n_states, 2)), random.normal(size=(6, 2))
    if coarse:
        states, points = states.round(), points.round()
    models = random.integers(0, n_models, n_states)
    own = random.integers(0, n_models, 6) if seed % 2 else None
    result = found(points, states, models, own)
    for i, point in enumerate(points):
        known = [j for j in range(n_states) if own is None or models[j] != own[i]]
        expected = False
        if known:
            nearest = min(known, key=lambda j: (np.linalg.norm(point - states[j]), j))
            others = [
                gap
                for j in known
                if models[j] != models[nearest] and (gap := np.linalg.norm(states[j] - states[nearest])) > 0
            ]
            expected = bool(others) and np.linalg.norm(point - states[nearest]) < min(others) / 2
        assert result[i] == expected


@given(st.integers(0, 10**6))
def test_a_copy_is_nearer_to_one_model_than_to_any_other(seed):
    random = np.random.default_rng(seed)
    states, points = random.normal(size=(8, 2)), random.normal(size=(20, 2))
    models = np.repeat(range(4), 2)
    for point in points[found(points, states, models)]:
        to_model = np.sort([np.linalg.norm(states[models == m] - point, axis=1).min() for m in range(4)])
        assert to_model[0] < to_model[1]


def test_independent_points_are_none_and_copies_are_all():
    """In many dimensions the means of two are none, either."""
    random = np.random.default_rng(0)
    states, models = random.normal(size=(100, 50)), np.arange(100)
    assert not found(random.normal(size=(200, 50)), states, models).any()
    assert found(states + 0.2 * random.normal(size=states.shape), states, models).all()
    halves = (states[:50] + states[50:]) / 2
    assert not found(halves, states, models).any()
    assert not found(states, states, models, own=models).any(), "each compared with the others"


def test_nothing_is_said_where_models_are_not_told_apart():
    same = np.ones((5, 3))
    assert not found(same, same, range(5)).any()
    assert not found(same, same, [1] * 5).any()
    twins = np.array([[0.0, 0], [0, 0], [4, 0]])
    assert found(np.array([[0.0, 1], [0, 3], [np.nan, 0]]), twins, [0, 1, 2]).tolist() == [True, False, False]
