"""Architectures as descriptions: layout, modules and the forward pass of many models, against plain PyTorch."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.populations import architecture
from zoo.base.errors import UserError
from zoo.engines.choice import refusal
from zoo.networks import layers
from zoo.networks.architecture import Architecture
from zoo.networks.initialization import METHODS, initial_module
from zoo.networks.layers import ACTIVATIONS
from zoo.networks.modules import Cut
from zoo.store import schema


class TinyNet(nn.Module):
    """A user's own module."""

    def __init__(self, image, classes, activation="relu", dropout=0.0, width=3):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(image[0] * image[1] * image[2], width), nn.BatchNorm1d(width))
        self.head = nn.Sequential(
            getattr(nn, ACTIVATIONS[activation])(), nn.Dropout(dropout), nn.Linear(width, classes)
        )

    def forward(self, x):
        return self.head(self.body(x))


def tiny_net() -> Architecture:
    return Architecture("tiny", (1, 4, 4), 5, module="tests.zoo.test_architecture.TinyNet", module_args={"width": 4})


@pytest.mark.parametrize(
    ("name", "channels", "parameters", "offsets"),
    [
        ("cnn_s", 1, 2464, [0, 208, 1414, 1514, 2254]),
        ("cnn_s", 3, 2864, [0, 608, 1814, 1914, 2654]),
        ("cnn_m", 3, 10853, [0, 448, 5088, 9423, 10643]),
    ],
)
def test_published_parameter_counts_and_offsets(name, channels, parameters, offsets):
    arch = architecture(name, channels)
    assert arch.n_parameters == parameters
    assert [slot.offset for slot in arch.layout if slot.name.endswith("weight")] == offsets
    assert [slot.name for slot in arch.layout][::2] == [
        "conv1.weight",
        "conv2.weight",
        "conv3.weight",
        "fc1.weight",
        "fc2.weight",
    ]


@pytest.mark.parametrize(("classes", "parameters"), [(10, 11_173_962), (100, 11_220_132), (200, 11_271_432)])
def test_resnet18_parameter_counts(classes, parameters):
    arch = Architecture("resnet18", (3, 32, 32), classes, module="zoo.resnet.ResNet18")
    assert arch.n_parameters == parameters
    assert arch.n_buffers == 9620  # 4800 channels x (mean, variance) + 20 counters


def test_resnet18_halves_the_map_three_times():
    module = architecture("resnet18").module()
    x = torch.zeros(2, 3, 32, 32)
    stem = module.relu(module.bn1(module.conv1(x)))
    assert stem.shape[2:] == (32, 32)
    assert module.layer4(module.layer3(module.layer2(module.layer1(stem)))).shape == (2, 512, 4, 4)
    assert module(x).shape == (2, 10)
    keys = list(module.state_dict())
    assert keys[:2] == ["conv1.weight", "bn1.weight"]
    assert "layer2.0.downsample.0.weight" in keys
    assert keys[-2:] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("make", [lambda: architecture("cnn_s"), lambda: architecture("cnn_m"), tiny_net])
def test_weights_go_into_a_module_and_back(make):
    arch = make()
    weights, buffers = torch.randn(arch.n_parameters), torch.randn(arch.n_buffers).round()
    module = arch.module("tanh", 0.5)
    module.load_state_dict(arch.state_dict(weights, buffers))
    assert torch.equal(arch.weights(module), weights)
    assert torch.equal(arch.buffers(module), buffers)
    again = Architecture.from_dict(json.loads(json.dumps(arch.to_dict())), arch.module_path)
    assert again.layout == arch.layout
    assert again.buffer_layout == arch.buffer_layout


@pytest.mark.parametrize("name", ["cnn_s", "cnn_m"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_many_models_at_once_equal_each_module(name, activation):
    arch = architecture(name)
    modules = [initial_module(arch, seed, "kaiming_normal", activation, 0.5).eval() for seed in range(3)]
    weights = torch.stack([arch.weights(module) for module in modules]).double()
    images = torch.randn(3, 6, *arch.image, dtype=torch.float64)
    outputs = arch.forward(weights, images, activation)
    for module, x, y in zip(modules, images, outputs):
        assert torch.allclose(module.double()(x), y, atol=1e-12)


@settings(max_examples=30)
@given(st.data())
def test_any_list_of_layers_that_fits(data):
    """Random descriptions: forward of two models equals the two modules; the layout is that of the module."""
    size, channels = data.draw(st.integers(6, 12)), data.draw(st.integers(1, 3))
    side, layers = size, []
    for _ in range(data.draw(st.integers(0, 2))):
        kernel = data.draw(st.integers(1, min(3, side)))
        layers.append({"conv": data.draw(st.integers(1, 4)), "kernel": kernel})
        side -= kernel - 1
        if side >= 2 and data.draw(st.booleans()):
            layers.append({"pool": 2})
            side //= 2
        layers += data.draw(st.sampled_from([[], ["activation"], ["activation", "dropout"]]))
    layers += ["flatten", *data.draw(st.sampled_from([[], [{"linear": 5}, "activation", "dropout"]])), {"linear": 3}]
    arch = Architecture("random", (channels, size, size), 3, layers)
    modules = [arch.module("gelu", 0.0).double() for _ in range(2)]
    assert [(n, tuple(p.shape)) for n, p in modules[0].named_parameters()] == [(s.name, s.shape) for s in arch.layout]
    weights = torch.stack([arch.weights(module) for module in modules])
    images = torch.randn(2, 3, *arch.image, dtype=torch.float64)
    outputs = arch.forward(weights, images, "gelu")
    for module, x, y in zip(modules, images, outputs):
        assert torch.allclose(module(x), y, atol=1e-12)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([{"conv": 8, "kernel": 9}, "flatten", {"linear": 10}], "leaves nothing"),
        ([{"linear": 10}], "flatten"),
        (["flatten", {"pool": 2}, {"linear": 10}], "feature map"),
        (["flatten", {"linear": 9}], "10 classes"),
        (["flatten", {"linaer": 10}], "no layer"),
        (["flatten", {"linear": 0}], "no layer"),
        (["droput"], "no layer"),
    ],
)
def test_what_does_not_fit_is_refused(layers, words):
    with pytest.raises(UserError, match=words):
        Architecture("odd", (1, 8, 8), 10, layers)


@pytest.mark.parametrize("path", ["os.system", "nothing.here", "zoo.resnet.ResNet19", "plainname"])
def test_only_module_classes_are_called(path):
    with pytest.raises(UserError, match=r"arch\.module"):
        Architecture("odd", (1, 8, 8), 10, module=path)


class OddNet(TinyNet):
    """What a module may do wrong."""

    def __init__(self, image, classes, fault):
        super().__init__(image, classes)
        self.fault = fault
        if fault == "tied":
            self.twin = self.head[2]
        if fault == "buffer":
            self.register_buffer("unsaved", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.fault == "noise":
            x = x + torch.randn_like(x)
        if self.fault == "functional dropout":
            x = nn.functional.dropout(x, 0.5, self.training)
        return super().forward(x)[:, : 3 if self.fault == "outputs" else None]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("noise", "random numbers"), ("functional dropout", "random numbers"), ("tied", "shares weights"),
        ("buffer", "not saved"), ("outputs", r"\(2, 3\)"),
    ],
)  # fmt: skip
def test_modules_that_a_zoo_could_not_repeat_or_hold_are_refused(fault, words):
    path = "tests.zoo.test_architecture.OddNet"
    with pytest.raises(UserError, match=words):
        Architecture("odd", (1, 4, 4), 5, module=path, module_args={"fault": fault})
    with pytest.raises(UserError, match="does not work when called with"):
        Architecture("odd", (1, 4, 4), 5, module=path, module_args={"unknown": 1})
    Architecture("odd", (1, 4, 4), 5, module=path, module_args={"fault": None})


def test_initial_weights_are_the_published_recipe():
    """Written out as the published code has it: seed, build the layers in order, draw again layer by layer."""
    for name in ("cnn_s", "cnn_m"):
        arch = architecture(name)
        for method in METHODS:
            torch.manual_seed(123)
            shapes = {slot.name: slot.shape for slot in arch.layout}
            layers = [
                nn.Conv2d(s[1], s[0], s[2]) if len(s) == 4 else nn.Linear(s[1], s[0])
                for n, s in shapes.items() if n.endswith("weight")
            ]  # fmt: skip
            for layer in layers:
                getattr(nn.init, f"{method}_")(layer.weight)
                nn.init.constant_(layer.bias, 0.01)
            expected = torch.cat([p.detach().flatten() for layer in layers for p in (layer.weight, layer.bias)])
            assert torch.equal(arch.weights(initial_module(arch, 123, method, "tanh", 0.5)), expected)


def test_initialisation_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    architecture("cnn_s")
    tiny_net()
    initial_module(architecture("cnn_s"), 1, "uniform", "tanh", 0.0)
    assert torch.equal(torch.rand(3), expected)


def test_initial_distributions():
    arch = architecture("cnn_m")
    slot = next(s for s in arch.layout if s.name == "conv2.weight")
    fan_in = 16 * 9

    def draw(method):
        weights = arch.weights(initial_module(arch, 3, method, "relu", 0.0))
        return weights[slot.offset : slot.offset + slot.size]

    assert 0 <= draw("uniform").min() < 0.01
    assert 0.99 < draw("uniform").max() <= 1
    assert draw("normal").std() == pytest.approx(1, rel=0.05)
    assert draw("kaiming_uniform").abs().max() == pytest.approx((6 / fan_in) ** 0.5, rel=0.01)
    assert draw("kaiming_normal").std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)


@dataclass(frozen=True)
class Scale(layers.Layer):
    """A feature map times a number: `{scale: factor}`."""

    factor: float

    word, form, name = "scale", "{scale: factor}", "scale"

    def shape(self, given):
        return given

    def module(self, given, activation, dropout, branches=()):
        return Cut(lambda x: self.factor * x)

    def forward(self, h, run):
        return self.factor * h


def test_a_new_kind_of_layer_is_one_class(monkeypatch):
    """It is trained, stored and read like the others; what does not know it says so."""
    monkeypatch.setattr(layers, "LAYERS", (*layers.LAYERS, Scale))
    arch = Architecture(
        "scaled", (1, 9, 9), 3, [{"conv": 2, "kernel": 3}, {"scale": 0.5}, "activation", "flatten", {"linear": 3}]
    )
    modules = [initial_module(arch, seed, "kaiming_uniform", "tanh", 0.0) for seed in (1, 2)]
    images = torch.randn(2, 5, 1, 9, 9)
    together = arch.forward(torch.stack([arch.weights(module) for module in modules]), images, "tanh")
    assert torch.allclose(together, torch.stack([module(x) for module, x in zip(modules, images)]), atol=1e-6)
    schema._layers(arch.to_dict()["layers"], "arch.layers")
    assert refusal("torch", arch, "cpu", False) is None
    assert "it has {scale: factor}, which it does not know" in refusal("fused", arch, "cpu", False)
    assert not arch.is_chain
    for wrong in ("half", math.nan, None, [1]):
        with pytest.raises(UserError, match="is no layer"):
            layers.parse_layer({"scale": wrong})
