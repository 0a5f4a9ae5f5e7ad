"""Weight statistics and distances against numpy and scipy, slot by slot and pair by pair."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from analysis.measures.weights import inner_products, layer_statistics, pairwise_cosine, pairwise_l2
from tests.populations import architecture, model_rows
from zoo.engines.engine import initial_population


@given(st.integers(2, 7), st.integers(1, 9), st.integers(1, 30), st.integers(0, 99))
def test_distances_are_scipys(n, block, columns, seed):
    weights = np.random.default_rng(seed).normal(1, 2, (n, 30))
    products = inner_products(weights[:, i : i + columns] for i in range(0, 30, columns))
    np.testing.assert_allclose(products, weights @ weights.T)
    mean_norm = np.linalg.norm(weights, axis=1).mean()
    np.testing.assert_allclose(pairwise_l2(products, block), pdist(weights) / mean_norm, rtol=1e-5)
    np.testing.assert_allclose(pairwise_cosine(products, block), pdist(weights, "cosine"), rtol=1e-4, atol=1e-6)


def test_many_columns_are_multiplied_in_pieces(monkeypatch):
    monkeypatch.setattr("analysis.measures.weights.COLUMNS", 4)
    weights = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    np.testing.assert_allclose(inner_products([weights]), weights.astype(float) @ weights.T.astype(float))


def test_distances_by_hand():
    weights = np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0], [-5.0, 0.0], [3.0, 0.0]])
    products = inner_products([weights])
    assert pairwise_l2(products).tolist() == pytest.approx(
        [5 / 3, 1, 8 / 3, 0, 4 / 3, 41**0.5 / 3, 5 / 3, 5 / 3, 1, 8 / 3]
    )
    assert pairwise_cosine(products).tolist() == pytest.approx([1, 1, 2, 0, 1, 1, 1, 1, 1, 2])


def test_models_that_are_all_0():
    products = inner_products([np.zeros((3, 5))])
    assert pairwise_l2(products).tolist() == [0, 0, 0]
    assert pairwise_cosine(products).tolist() == [1, 1, 1]


def test_on_one_sphere_l2_is_the_root_of_twice_the_cosine_distance():
    weights = np.random.default_rng(0).normal(size=(6, 40))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    products = inner_products([weights])
    np.testing.assert_allclose(pairwise_l2(products), np.sqrt(2 * pairwise_cosine(products)), rtol=1e-5)


@pytest.mark.parametrize("name", ["cnn_s", "cnn_m"])
def test_statistics_of_each_layers_weights_and_biases(name):
    arch = architecture(name)
    weights = initial_population(arch, model_rows(init=["uniform", "normal"])).weights
    found, names = layer_statistics(weights, arch)
    assert found.shape == (len(weights), 70)
    assert len(set(names)) == 70
    state = arch.state_dict(torch.from_numpy(weights[1]))
    for key, value in state.items():
        sample = np.sort(value.flatten().double().numpy())
        places = {p: (len(sample) - 1) * p / 100 for p in (1, 25, 50, 75, 99)}
        percentiles = {f"{p} %": np.interp(at, range(len(sample)), sample) for p, at in places.items()}
        expected = {"mean": sample.mean(), "variance": ((sample - sample.mean()) ** 2).mean()} | percentiles
        for what, number in expected.items():
            assert found[1, names.index(f"{key} {what}")] == pytest.approx(number, abs=1e-12)
