"""Each loss against the formula, written out slowly in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hyperrep.models.losses import (
    Mixture,
    behavioural_loss,
    layer_of_parameter,
    layer_sigmas,
    nt_xent,
    outputs,
    r_squared,
    reconstruction_loss,
)
from tests.populations import architecture
from zoo.networks.initialization import initial_module


def test_layers_of_parameters_pool_weights_and_biases():
    arch = architecture("cnn_s")
    layer = layer_of_parameter(arch)
    assert layer.bincount().tolist() == [208, 1206, 100, 740, 210]  # kernels and biases of CNN-s
    assert (layer.diff() >= 0).all()


def test_sigmas_are_those_of_each_layer():
    arch = architecture("cnn_s")
    weights = torch.randn(7, arch.n_parameters) * torch.linspace(0.1, 3, arch.n_parameters)
    sigmas, layer = layer_sigmas(weights, arch), layer_of_parameter(arch)
    for i in range(5):
        values = weights[:, layer == i].numpy().astype(np.float64)
        np.testing.assert_allclose(sigmas[layer == i], values.std(ddof=1), rtol=1e-5)
    assert layer_sigmas(torch.ones(3, arch.n_parameters), arch).min() == pytest.approx(1e-4)


def test_reconstruction_loss_in_units_of_sigma():
    target, reconstructed, sigmas = torch.randn(4, 9), torch.randn(4, 9), torch.rand(9) + 0.1
    expected = np.mean(
        [[(reconstructed[i, j] - target[i, j]) ** 2 / sigmas[j] ** 2 for j in range(9)] for i in range(4)]
    )
    assert reconstruction_loss(reconstructed, target, sigmas).item() == pytest.approx(expected, rel=1e-5)
    assert reconstruction_loss(reconstructed, target, None).item() == pytest.approx(
        F.mse_loss(reconstructed, target).item()
    )


def test_nt_xent_is_the_published_formula():
    first, second, t = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64), 0.1
    views = torch.cat([first, second])
    total = 0.0
    for i in range(10):
        similar = [np.exp(F.cosine_similarity(views[i], views[j], dim=0).item() / t) for j in range(10)]
        partner = (i + 5) % 10
        total -= np.log(similar[partner] / sum(similar[j] for j in range(10) if j != i))
    assert nt_xent(first, second, t).item() == pytest.approx(total / 10)


@pytest.mark.parametrize("activations", [["tanh", "tanh", "tanh"], ["relu", "tanh", "relu"]])
def test_behaviour_is_the_divergence_of_the_outputs(activations):
    arch = architecture("cnn_s")
    modules = [initial_module(arch, seed, "kaiming_uniform", a, 0.0).eval() for seed, a in enumerate(activations, 1)]
    original = torch.stack([arch.weights(module) for module in modules])
    other = (original + 0.05 * torch.randn_like(original)).requires_grad_()
    images = torch.randn(6, *arch.image)
    wanted = outputs(arch, original, images, activations)
    loss = behavioural_loss(outputs(arch, other, images, activations), wanted)
    expected = 0.0
    with torch.no_grad():
        for module, weights in zip(modules, other):
            p = F.softmax(module(images).double(), 1)
            module.load_state_dict(arch.state_dict(weights))
            expected += (p * (p.log() - F.log_softmax(module(images).double(), 1))).sum().item()
    assert loss.item() == pytest.approx(expected / 18, rel=1e-4)
    loss.backward()
    assert (other.grad.abs().sum(1) > 0).all()
    assert behavioural_loss(wanted, wanted).item() == pytest.approx(0, abs=1e-6)


def test_mixtures_are_those_of_the_members_and_as_spread_as_they_are():
    values = torch.randn(400, 2, 3, dtype=torch.float64) + 5
    mixture = Mixture(400, torch.Generator().manual_seed(0))
    mixed = mixture(values)
    angles = torch.atan2(mixture.others, mixture.own).double()
    assert 0 <= angles.min() < 0.1 < 1.4 < angles.max() <= np.pi / 2
    mean, i = values.mean(0), 17
    own, other = values[i] - mean, values[mixture.partners[i]] - mean
    torch.testing.assert_close(mixed[i], mean + angles[i].cos() * own + angles[i].sin() * other, rtol=1e-6, atol=1e-6)
    assert mixture.partners.sort().values.tolist() == list(range(400))
    assert mixed.std(0).mean().item() == pytest.approx(values.std(0).mean().item(), rel=0.05)


def test_r_squared_is_relative_to_the_centre():
    target = torch.randn(20, 5)
    centre = target.mean(0)
    assert r_squared(target, target, centre).item() == 1
    assert r_squared(centre.expand(20, 5), target, centre).item() == pytest.approx(0, abs=1e-6)
