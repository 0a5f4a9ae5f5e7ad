"""Permutations of hidden neurons, against ordinary modules: same function, and every neuron where it should be."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from hyperrep.symmetry import Group, Permutations
from tests.populations import architecture
from zoo.base.errors import UserError
from zoo.networks.architecture import ArchConfig, Architecture
from zoo.networks.layers import ACTIVATIONS


def registered() -> list[Architecture]:
    """Every preset of conf/arch that is a list of layers, on one channel and on three."""
    found = []
    for file in sorted((Path(__file__).parents[2] / "conf/arch").glob("*.yaml")):
        config = ArchConfig(**OmegaConf.to_container(OmegaConf.load(file)))
        if config.layers is not None:
            size = config.image_size or 28
            found += [Architecture.from_config(config, (channels, size, size), 10) for channels in (1, 3)]
    assert {"cnn_s", "cnn_m", "cnn_4"} <= {arch.name for arch in found}
    return [arch for arch in found if arch.is_chain]  # the others have no tokens, and say so: test_unseen_architectures


def label(arch: Architecture) -> str:
    return f"{arch.name}-{arch.image[0]}"


@st.composite
def architectures(draw, most: int = 4) -> Architecture:
    """Any list of layers, hidden layers of at most `most` neurons; with none at all too."""
    size, channels = draw(st.integers(6, 10)), draw(st.integers(1, 3))
    side, layers = size, []
    for _ in range(draw(st.integers(0, 3))):
        kernel = draw(st.integers(1, min(3, side)))
        layers.append({"conv": draw(st.integers(1, most)), "kernel": kernel})
        side -= kernel - 1
        if side >= 2 and draw(st.booleans()):
            layers.append({"pool": 2})
            side //= 2
        layers += draw(st.sampled_from([[], ["activation"], ["activation", "dropout"]]))
    layers.append("flatten")
    for _ in range(draw(st.integers(0, 2))):
        layers += [{"linear": draw(st.integers(1, most))}, "activation", "dropout"]
    return Architecture("random", (channels, size, size), 3, [*layers, {"linear": 3}])


def outputs_of_layers(arch: Architecture, weights: torch.Tensor, images: torch.Tensor, activation: str):
    """What each layer with weights gives, by an ordinary module."""
    module = arch.module(activation, 0.0).to(weights.dtype)
    module.load_state_dict(arch.state_dict(weights))
    outputs = []
    for layer in module:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    with torch.no_grad():
        module(images)
    return outputs


@pytest.mark.parametrize("arch", registered(), ids=label)
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_function_is_preserved(arch, activation):
    """Promise 7 of the design: to 1e-5, in float32, of the module and of many models at once."""
    generator = torch.Generator().manual_seed(1)
    permutations = Permutations(arch)
    weights = torch.randn(3, arch.n_parameters, generator=generator) / 5
    images = torch.randn(4, *arch.image, generator=generator)
    permuted = permutations.apply(weights, permutations.random(3, generator))
    assert (permuted != weights).float().mean() > 0.8
    before = arch.forward(weights, images.expand(3, *images.shape), activation)
    after = arch.forward(permuted, images.expand(3, *images.shape), activation)
    assert (before - after).norm() < 1e-5 * before.norm()
    for model, logits in zip(permuted, before):
        assert (outputs_of_layers(arch, model, images, activation)[-1] - logits).norm() < 1e-5 * logits.norm()


@settings(max_examples=60)
@given(architectures(), st.integers(0, 2**32), st.sampled_from(list(ACTIVATIONS)))
def test_new_neuron_i_is_old_neuron_perm_i(arch, seed, activation):
    generator = torch.Generator().manual_seed(seed)
    permutations = Permutations(arch)
    weights = torch.randn(2, arch.n_parameters, dtype=torch.float64, generator=generator)
    images = torch.randn(3, *arch.image, dtype=torch.float64, generator=generator)
    perms = permutations.random(2, generator)
    for model, (old, new) in enumerate(zip(weights, permutations.apply(weights, perms))):
        before, after = (outputs_of_layers(arch, w, images, activation) for w in (old, new))
        for a, b, perm in zip(before[:-1], after[:-1], [perm[model] for perm in perms], strict=True):
            for i in range(len(perm)):
                torch.testing.assert_close(b[:, i], a[:, perm[i]], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(after[-1], before[-1], rtol=1e-10, atol=1e-10)


def test_groups_are_the_hidden_layers():
    named = [Group("conv1", 8), Group("conv2", 6), Group("conv3", 4), Group("fc1", 20)]
    assert Permutations(architecture("cnn_s")).groups == named
    assert [group.size for group in Permutations(architecture("cnn_m")).groups] == [16, 32, 15, 20]


@given(architectures(), st.integers(0, 2**32))
def test_permutations_are_a_group(arch, seed):
    generator = torch.Generator().manual_seed(seed)
    permutations = Permutations(arch)
    weights = torch.randn(3, arch.n_parameters, generator=generator)
    first, then = permutations.random(3, generator), permutations.random(3, generator)
    once = permutations.apply(weights, first)
    assert torch.equal(permutations.apply(weights, permutations.identity(3)), weights)
    assert torch.equal(permutations.apply(once, permutations.inverse(first)), weights)
    assert torch.equal(permutations.apply(once, then), permutations.apply(weights, permutations.compose(first, then)))
    if first:
        assert torch.equal(weights.gather(1, permutations.index(first)), once)
        assert all(torch.equal(a, b) for a, b in zip(permutations.split(torch.cat(first, 1)), first, strict=True))


def test_random_permutations_are_uniform_and_independent():
    arch = Architecture(
        "two", (1, 4, 4), 2, [{"conv": 3, "kernel": 2}, "flatten", {"linear": 3}, "activation", {"linear": 2}]
    )
    n = 36_000
    a, b = Permutations(arch).random(n, torch.Generator().manual_seed(0))
    orders = torch.cat([a, b], dim=1).unique(dim=0, return_counts=True)
    assert orders[0].shape == (36, 6)  # 3! × 3! pairs of orders
    chi2 = ((orders[1] - n / 36) ** 2 / (n / 36)).sum()
    assert chi2 < 66.6  # 35 degrees of freedom: exceeded once in a thousand seeds


def test_random_permutations_follow_the_generator():
    permutations = Permutations(architecture("cnn_s"))
    first, same = (permutations.random(5, torch.Generator().manual_seed(3)) for _ in range(2))
    other = permutations.random(5, torch.Generator().manual_seed(4))
    assert all(torch.equal(a, b) for a, b in zip(first, same))
    assert not any(torch.equal(a, b) for a, b in zip(first, other))


def test_everything_is_made_on_the_device_of_the_permutations():
    permutations = Permutations(architecture("cnn_s"))
    perms = permutations.identity(2, "meta")
    assert {perm.device.type for perm in perms} == {"meta"}
    assert permutations.index(perms).device.type == "meta"


def test_a_wrong_number_of_groups_is_refused():
    permutations = Permutations(architecture("cnn_s"))
    with pytest.raises(ValueError, match="zip"):
        permutations.index(permutations.identity(2)[:-1])


def test_module_classes_are_refused():
    with pytest.raises(UserError, match=r"arch=resnet18.*list of layers"):
        Permutations(architecture("resnet18"))
