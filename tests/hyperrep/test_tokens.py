"""Tokens against the rows of ordinary modules."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hyperrep.tokens import Tokens
from tests.hyperrep.test_symmetry import architectures, label, registered
from tests.populations import architecture
from zoo.base.errors import UserError
from zoo.networks.architecture import Architecture


def tokens_of_modules(arch: Architecture, weights: torch.Tensor) -> list[list[list[torch.Tensor]]]:
    """Layer by layer, model by model, neuron by neuron."""
    layers = []
    modules = [arch.module() for _ in weights]
    for module, vector in zip(modules, weights):
        module.load_state_dict(arch.state_dict(vector))
    for in_all in zip(*modules):
        if isinstance(in_all[0], nn.Conv2d | nn.Linear):
            layers.append(
                [
                    [torch.cat([kernel.flatten(), bias[None]]) for kernel, bias in zip(one.weight, one.bias)]
                    for one in in_all
                ]
            )
    return layers


def check(arch: Architecture, weights: torch.Tensor) -> None:
    tokens = Tokens(arch)
    parts, expected = tokens.split(weights), tokens_of_modules(arch, weights)
    for layer, part, models in zip(tokens.layers, parts, expected, strict=True):
        assert part.shape == (len(weights), layer.count, layer.length)
        assert torch.equal(part, torch.stack([torch.stack(neurons) for neurons in models]))
    assert tokens.n_tokens == sum(part.shape[1] for part in parts)
    assert tokens.longest == max(part.shape[2] for part in parts)
    assert torch.equal(tokens.join(parts).view(torch.int32), weights.view(torch.int32))  # to the bit: -0 and NaN too


@pytest.mark.parametrize("arch", registered(), ids=label)
def test_tokens_are_rows_and_biases_of_the_modules(arch):
    check(arch, torch.randn(3, arch.n_parameters))


@given(architectures(), st.integers(0, 4), st.integers(0, 2**32))
def test_tokens_of_any_list_of_layers(arch, models, seed):
    if models:
        check(arch, torch.randn(models, arch.n_parameters, generator=torch.Generator().manual_seed(seed)))
    else:
        assert Tokens(arch).join(Tokens(arch).split(torch.zeros(0, arch.n_parameters))).shape == (0, arch.n_parameters)


def test_join_keeps_every_bit():
    arch = architecture("cnn_s")
    weights = torch.randn(2, arch.n_parameters)
    weights[0, ::7], weights[1, ::5], weights[0, 1::9] = -0.0, torch.nan, torch.inf
    back = Tokens(arch).join(Tokens(arch).split(weights))
    assert torch.equal(back.view(torch.int32), weights.view(torch.int32))


@pytest.mark.parametrize(
    ("name", "channels", "counts", "lengths"),
    [
        ("cnn_s", 1, [8, 6, 4, 20, 10], [26, 201, 25, 37, 21]),
        ("cnn_s", 3, [8, 6, 4, 20, 10], [76, 201, 25, 37, 21]),
        ("cnn_m", 3, [16, 32, 15, 20, 10], [28, 145, 289, 61, 21]),
    ],
)
def test_published_tokens(name, channels, counts, lengths):
    tokens = Tokens(architecture(name, channels))
    assert [layer.name for layer in tokens.layers] == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert [layer.count for layer in tokens.layers] == counts
    assert [layer.length for layer in tokens.layers] == lengths
    assert tokens.n_tokens == {"cnn_s": 48, "cnn_m": 93}[name]
    assert tokens.longest == max(lengths)


def test_gradients_go_through():
    arch = architecture("cnn_s")
    tokens = Tokens(arch)
    weights = torch.randn(2, arch.n_parameters, requires_grad=True)
    factors = [torch.randn(2, layer.count, layer.length) for layer in tokens.layers]
    sum((part * factor).sum() for part, factor in zip(tokens.split(weights), factors)).backward()
    assert torch.equal(weights.grad, tokens.join(factors))

    parts = [factor.requires_grad_() for factor in factors]
    coefficients = torch.randn(2, arch.n_parameters)
    (tokens.join(parts) * coefficients).sum().backward()
    assert all(torch.equal(part.grad, wanted) for part, wanted in zip(parts, tokens.split(coefficients)))


def test_moving_to_a_device_leaves_the_original():
    tokens = Tokens(architecture("cnn_s"))
    moved = tokens.to("meta")
    assert moved.order.device.type == moved.inverse.device.type == "meta"
    assert tokens.order.device.type == tokens.inverse.device.type == "cpu"
    assert moved.split(torch.zeros(2, 2464, device="meta"))[1].shape == (2, 6, 201)


def test_module_classes_are_refused():
    with pytest.raises(UserError, match=r"arch=resnet18.*list of layers"):
        Tokens(architecture("resnet18"))
