"""Centred kernel alignment against its definition, and on networks made by hand."""

import numpy as np
import pytest
import torch

from analysis.measures.cka import grams, layer_outputs, pairwise_cka
from tests.populations import architecture, model_rows
from zoo.engines.engine import initial_population
from zoo.networks.architecture import Architecture
from zoo.networks.initialization import initial_module


def by_definition(x, y):
    """Linear CKA of two feature matrices [images, features]: HSIC with H K H, trace by trace."""
    centre = np.eye(len(x)) - 1 / len(x)

    def hsic(a, b):
        return np.trace(a @ a.T @ centre @ b @ b.T @ centre)

    below = np.sqrt(hsic(x, x) * hsic(y, y))
    return hsic(x, y) / below if below > 0 else 0.0


def outputs_of_module(arch, weights, row, images):
    """What the activations of a plain module give, and its logits."""
    module, found = arch.module(row["activation"]).eval(), []
    module.load_state_dict(arch.state_dict(weights))
    for name, layer in module.named_modules():
        if name.split(".")[-1].startswith("act"):
            layer.register_forward_hook(lambda _, __, out: found.append(out.flatten(1).double().detach().numpy()))
    logits = module(images).double().detach().numpy()
    return [*found, logits]


@pytest.mark.parametrize("name", ["cnn_s", "cnn_m", "cnn_s_res"])
def test_every_layer_of_every_pair(name):
    arch = architecture(name)
    rows = model_rows(activation=["tanh", "relu", "gelu"], init=["kaiming_uniform", "kaiming_normal"])
    weights = torch.tensor(initial_population(arch, rows).weights)
    images = torch.randn(12, *arch.image, generator=torch.Generator().manual_seed(0))
    exact = [outputs_of_module(arch, weights[i], rows.iloc[i], images) for i in range(len(rows))]
    found = pairwise_cka(grams(arch, weights, rows, images), block=4)
    assert len(found) == len(exact[0]) == 5
    for layer, values in enumerate(found):
        pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
        expected = [by_definition(exact[i][layer], exact[j][layer]) for i, j in pairs]
        np.testing.assert_allclose(values, expected, atol=1e-4)


def test_cka_does_not_change_with_the_order_of_neurons_their_sign_and_size():
    arch = Architecture("two", (1, 4, 4), 3, ["flatten", {"linear": 5}, "activation", {"linear": 3}])
    rows = model_rows(activation=["tanh"], init=["normal"])
    rows = rows.loc[[0, 0]].reset_index(drop=True)
    weights = torch.tensor(initial_population(arch, rows).weights)
    state = arch.state_dict(weights[1])
    order = torch.randperm(5)
    state["fc1.weight"], state["fc1.bias"] = -state["fc1.weight"][order], -state["fc1.bias"][order]
    state["fc2.weight"] = -7 * state["fc2.weight"][:, order]
    weights[1] = torch.cat([value.flatten() for value in state.values()])
    found = pairwise_cka(grams(arch, weights, rows, torch.randn(9, 1, 4, 4)))
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_cka_is_at_most_1():
    """Also where the norms of like kernels are rounded up."""
    kernel = np.random.default_rng(0).normal(size=(20, 1, 2500)).astype(np.float32)
    kernel /= np.linalg.norm(kernel, axis=2, keepdims=True)
    twice = np.concatenate([kernel, kernel], axis=1)
    assert max(float(a @ b) for a, b in twice) > 1
    assert pairwise_cka(twice).max() == 1


def test_a_dead_layer_is_like_none():
    arch = Architecture("two", (1, 4, 4), 3, ["flatten", {"linear": 5}, "activation", {"linear": 3}])
    rows = model_rows(activation=["relu"], init=["normal"])
    rows = rows.loc[[0] * 3].reset_index(drop=True)
    weights = torch.tensor(initial_population(arch, rows).weights)
    dead = arch.state_dict(weights[0])
    dead["fc1.bias"] -= 100  # no neuron fires: all outputs 0, all logits the bias
    weights[0] = weights[1] = torch.cat([value.flatten() for value in dead.values()])
    found = pairwise_cka(grams(arch, weights, rows, torch.rand(9, 1, 4, 4)))
    assert (found == 0).all()
    saturated = arch.state_dict(weights[2])
    saturated["fc1.bias"] += 1000  # outputs differ by rounding
    saturated["fc1.weight"] *= 1e-9
    weights[0] = torch.cat([value.flatten() for value in saturated.values()])
    assert (grams(arch, weights, rows, torch.rand(9, 1, 4, 4))[:, 0] == 0).all()


def test_layers_in_order():
    arch = architecture("cnn_s")
    weights = torch.stack([arch.weights(initial_module(arch, seed, "normal", "tanh", 0.0)) for seed in range(2)])
    shapes = [tuple(outputs.shape) for outputs in layer_outputs(arch, weights, torch.randn(3, 1, 28, 28), "tanh")]
    assert shapes == [(2, 3, 8 * 144), (2, 3, 6 * 16), (2, 3, 36), (2, 3, 20), (2, 3, 10)]
