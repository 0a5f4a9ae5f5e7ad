"""Magnitude pruning: which weights, and that engines keep them 0."""

import numpy as np
import pytest
import torch

from tests.populations import architecture, image_data, model_rows
from zoo.engines.engine import Protocol, initial_population
from zoo.engines.make import engine_class
from zoo.networks.pruning import places, prune, schedule, zero_shares


def test_the_smallest_weights_go_and_biases_stay():
    arch = architecture("cnn_s")
    weights = initial_population(arch, model_rows(init=["kaiming_normal", "uniform"])).weights
    pruned, at = prune(weights, arch, 0.8), places(arch)
    assert len(at) == 2416
    biases = np.setdiff1d(np.arange(2464), at)
    np.testing.assert_array_equal(pruned[:, biases], weights[:, biases])
    for before, after in zip(weights[:, at], pruned[:, at]):
        gone = after == 0
        assert gone.sum() == int(0.8 * 2416)
        assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()
        np.testing.assert_array_equal(after[~gone], before[~gone])
    np.testing.assert_array_equal(prune(pruned, arch, 0.5), pruned)
    shares = zero_shares(pruned, arch)
    np.testing.assert_allclose(shares["sparsity"], 1932 / 2416)
    conv2 = next(slot for slot in arch.layout if slot.name == "conv2.weight")
    expected = (pruned[:, conv2.offset : conv2.offset + conv2.size] == 0).mean(1)
    np.testing.assert_allclose(shares["sparsity_conv2"], expected)


def test_a_model_that_diverged_stays_as_it_is():
    arch = architecture("cnn_s")
    weights = initial_population(arch, model_rows(init=["normal", "uniform"])).weights.copy()
    weights[1, 5] = np.nan
    pruned = prune(weights, arch, 0.5)
    np.testing.assert_array_equal(pruned[1], weights[1])
    assert (pruned[0] == 0).sum() == 1208


def test_schedule():
    assert schedule(0.8, 1) == (0.8,)
    steps = schedule(0.8, 4)
    assert steps == pytest.approx([0.8 * (1 - f**3) for f in (0.75, 0.5, 0.25, 0.0)])
    protocol = Protocol(10, 9, "constant", pruned=steps)
    assert [protocol.pruned_share(epoch) for epoch in (1, 4, 9)] == [steps[0], 0.8, 0.8]
    assert Protocol(10, 9, "constant").pruned_share(3) == 0


def run(name, arch, rows, data, protocol, start, epochs):
    engine = engine_class(name)(arch, rows, data, protocol)
    engine.load(start)
    found = []
    for epoch in epochs:
        engine.prune(epoch)
        engine.start_epoch(epoch)
        engine.train(0, engine.steps_per_epoch)
        engine.finish_epoch()
        found.append(engine.population())
    engine.close()
    return found


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_engines_keep_what_is_pruned_at_0_and_train_the_rest_alike(optimizer):
    arch, data = architecture("cnn_s"), image_data()
    rows = model_rows(activation=["tanh", "relu"], optimizer=[optimizer], lr=[1e-3], weight_decay=[1e-2])
    protocol, start = Protocol(10, 3, "constant", pruned=schedule(0.7, 2)), initial_population(arch, rows)
    found = {name: run(name, arch, rows, data, protocol, start, (1, 2, 3)) for name in ("fused", "torch", "loop")}
    at = places(arch)
    for name, states in found.items():
        zeros = [population.weights[:, at] == 0 for population in states]
        assert (zeros[0].sum(1) == int(0.7 * (1 - 0.5**3) * 2416)).all()
        assert (zeros[1].sum(1) == int(0.7 * 2416)).all()
        assert (zeros[1] >= zeros[0]).all()
        np.testing.assert_array_equal(zeros[1], zeros[2])
        assert (states[2].first_moment[:, at][zeros[2]] == 0).all()
        moved = np.abs(states[2].weights - start.weights)[:, at][~zeros[2]]
        assert np.median(moved) > 1e-4
        np.testing.assert_allclose(states[0].weights, found["loop"][0].weights, atol=2e-3, err_msg=name)
    resumed = run("fused", arch, rows, data, protocol, found["fused"][1], (3,))
    np.testing.assert_array_equal(resumed[0].weights, found["fused"][2].weights)


def test_nothing_is_pruned_unless_asked():
    arch, data, rows = architecture("cnn_s"), image_data(), model_rows()
    engine = engine_class("fused")(arch, rows, data, Protocol(10, 1, "constant"))
    zeros = initial_population(arch, rows)
    zeros.weights[:, 0] = 0
    engine.load(zeros)
    engine.prune(1)
    engine.start_epoch(1)
    engine.train(0, 2)
    assert (engine.population().weights[:, 0] != 0).all()
    assert torch.is_tensor(engine.outputs(data.val))
    engine.close()
