"""The architectures of Table 4 as descriptions, against modules written by hand as the paper's code has them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hyperrep.alignment import align
from hyperrep.downstream.unseen_arch import pour
from hyperrep.symmetry import Permutations
from hyperrep.tokens import Tokens
from tests.populations import architecture, model_rows
from zoo.base.errors import UserError
from zoo.engines.choice import choose, refusal
from zoo.engines.engine import initial_population
from zoo.networks.architecture import Architecture
from zoo.networks.initialization import initial_module


class ResidualByHand(nn.Module):
    """3-conv + res-skip."""

    def __init__(self):
        super().__init__()
        self.conv1, self.skip1 = nn.Conv2d(1, 8, 5), nn.Conv2d(1, 8, 1)
        self.conv2, self.skip2 = nn.Conv2d(8, 6, 5), nn.Conv2d(8, 6, 1)
        self.conv3, self.skip3 = nn.Conv2d(6, 4, 2), nn.Conv2d(6, 4, 1)
        self.fc1, self.fc2 = nn.Linear(36, 20), nn.Linear(20, 10)

    def forward(self, x):
        x = torch.tanh(F.max_pool2d(self.conv1(x), 2)) + self.skip1(F.max_pool2d(x, 5, 2))
        x = torch.tanh(F.max_pool2d(self.conv2(x), 2)) + self.skip2(F.max_pool2d(x, 5, 2))
        x = torch.tanh(self.conv3(x)) + self.skip3(F.max_pool2d(x, 2, 1))
        return self.fc2(torch.tanh(self.fc1(x.flatten(1))))


class FourByHand(nn.Module):
    """4-conv, with or without the identity shortcut."""

    def __init__(self, skip):
        super().__init__()
        self.skip = skip
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 4, 5, bias=False)
        self.conv3, self.conv4 = nn.Conv2d(4, 6, 4, bias=False), nn.Conv2d(6, 4, 3, bias=False)
        self.fc1, self.fc2 = nn.Linear(36, 18), nn.Linear(18, 10)

    def forward(self, x):
        x = torch.tanh(self.conv2(torch.tanh(F.max_pool2d(self.conv1(x), 2))))
        y = torch.tanh(self.conv4(torch.tanh(self.conv3(x))))
        if self.skip:
            y = y + x[:, :, 1:-1:2, 1:-1:2]
        return self.fc2(torch.tanh(self.fc1(y.flatten(1))))


BY_HAND = {"cnn_s_res": ResidualByHand, "cnn_4": lambda: FourByHand(False), "cnn_4_id": lambda: FourByHand(True)}


@pytest.mark.parametrize("name", BY_HAND)
def test_described_is_by_hand(name):
    arch, ours, images = architecture(name), architecture(name).module("tanh"), torch.randn(5, 1, 28, 28)
    hand = BY_HAND[name]()
    state = {key.split(".")[-2] + "." + key.split(".")[-1]: value for key, value in ours.state_dict().items()}
    assert set(state) == set(hand.state_dict())
    hand.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), hand(images))
    assert arch.n_parameters == {"cnn_s_res": 2464 + 98, "cnn_4": 2464, "cnn_4_id": 2464}[name]
    assert Architecture.from_dict(arch.to_dict()).layout == arch.layout
    assert not arch.takes_dropout


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_many_at_once_equal_each_module(name, activation):
    arch = architecture(name, 3)
    modules = [initial_module(arch, seed, "kaiming_uniform", activation, 0.0).eval() for seed in range(4)]
    weights = torch.stack([arch.weights(module) for module in modules])
    images = torch.randn(4, 6, 3, 28, 28)
    with torch.no_grad():
        together = arch.forward(weights, images, activation)
        for module, pictures, logits in zip(modules, images, together):
            torch.testing.assert_close(logits, module(pictures), atol=1e-5, rtol=1e-4)
    again = arch.module(activation).eval()
    again.load_state_dict(arch.state_dict(weights[2]))
    torch.testing.assert_close(arch.weights(again), weights[2])


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (["activation", {"conv": 1, "kernel": 1}], "must begin with a convolution"),
        ([{"conv": 2, "kernel": 3}, {"pool": 3, "stride": 2}], "a pool must be 2x2"),
        ([{"conv": 1, "kernel": 1}, {"crop": 1}], "cut outside a shortcut"),
        ([{"conv": 1, "kernel": 1}, {"residual": [{"conv": 1, "kernel": 1}], "shortcut": []}], "a block in a block"),
    ],
)
def test_what_the_fused_engine_cannot_express_is_refused(layers, words):
    shortcut = [] if "crop" not in str(layers) else [{"crop": 1}]
    if "pool" in str(layers):
        shortcut = [{"crop": 1}, {"pool": 3, "stride": 2}, {"conv": 2, "kernel": 1}]
    arch = Architecture("odd", (1, 28, 28), 10, [{"residual": layers, "shortcut": shortcut}, "flatten", {"linear": 10}])
    assert words in refusal("fused", arch, "cpu", False)
    assert choose("auto", arch, "cpu", False) == "torch"


@pytest.mark.parametrize(
    "shortcut", [["activation"], [{"conv": 1, "kernel": 3}], [{"conv": 1, "kernel": 1}, {"crop": 1}]]
)
def test_shortcuts_that_the_fused_engine_cannot_express_are_refused(shortcut):
    main = [{"conv": 1, "kernel": 1 if shortcut == ["activation"] else 3}]
    arch = Architecture("odd", (1, 28, 28), 10, [{"residual": main, "shortcut": shortcut}, "flatten", {"linear": 10}])
    assert "a shortcut may crop" in refusal("fused", arch, "cpu", False)


def test_convolutions_of_shortcuts_are_drawn_by_kaiming_uniform():
    module = initial_module(architecture("cnn_s_res"), 3, "uniform", "tanh", 0.0)
    state = module.state_dict()
    assert all(state["block1.main.conv1.weight"].flatten() >= 0), "U(0, 1)"
    skip = state["block2.shortcut.skip2.weight"]
    assert skip.min() < 0
    assert skip.abs().max() <= (6 / 8) ** 0.5
    assert (state["block2.shortcut.skip2.bias"] == 0.01).all()


def test_pouring():
    arch, rows = architecture("cnn_s"), model_rows(lr=[1e-3, 1e-4, 1e-5])
    weights = initial_population(arch, rows).weights
    assert (pour(weights, arch, architecture("cnn_4"), rows) == weights).all()  # as many values: in order
    other = architecture("cnn_s_res")
    poured = pour(weights, arch, other, rows)
    fresh = initial_population(other, rows).weights
    for i in range(3):
        given, own = arch.state_dict(torch.from_numpy(weights[i])), other.state_dict(torch.from_numpy(poured[i]))
        drawn = other.state_dict(torch.from_numpy(fresh[i]))
        for name, value in own.items():
            last = ".".join(name.split(".")[-2:])
            assert torch.equal(value, drawn[name] if "skip" in last else given[last])
    with pytest.raises(UserError, match="cannot be poured into arch=cnn_m"):
        pour(weights, arch, architecture("cnn_m"), rows)


@pytest.mark.parametrize("name", BY_HAND)
def test_what_needs_a_plain_chain_says_so(name):
    arch = architecture(name)
    for make in (Tokens, Permutations, lambda arch: align(torch.zeros(2, arch.n_parameters), arch, "weights")):
        with pytest.raises(UserError, match="for which tokens and symmetries are not defined here"):
            make(arch)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([{"residual": ["flatten"], "shortcut": []}, {"linear": 10}], "adds 784 and, by its shortcut, 1×28×28"),
        (
            [{"residual": [{"conv": 2, "kernel": 3}], "shortcut": [{"crop": 1}]}, "flatten", {"linear": 10}],
            "adds 2×26×26 and",
        ),
        ([{"crop": 14}, "flatten", {"linear": 10}], "leaves nothing"),
        (["flatten", {"subsample": 2}, {"linear": 10}], "needs a feature map"),
        ([{"residual": "flatten", "shortcut": []}, "flatten", {"linear": 10}], "is no layer"),
        ([{"conv": 2, "kernel": 3, "bias": 1}, "flatten", {"linear": 10}], "is no layer"),
        ([{"pool": 2, "stride": 0}, "flatten", {"linear": 10}], "is no layer"),
        ([{"pool": True}, "flatten", {"linear": 10}], "is no layer"),
    ],
)
def test_what_does_not_fit_is_refused(layers, words):
    with pytest.raises(UserError, match=words):
        Architecture("odd", (1, 28, 28), 10, layers)


def test_a_shortcut_from_the_image_without_convolution_is_refused():
    """The image's channels lie side by side, those of feature maps are padded."""
    layers = [{"residual": [{"conv": 3, "kernel": 3}], "shortcut": [{"crop": 1}]}, "flatten", {"linear": 2}]
    arch = Architecture("odd", (3, 8, 8), 2, layers)
    assert "a shortcut from the image" in refusal("fused", arch, "cpu", False)
    layers[0]["shortcut"].append({"conv": 3, "kernel": 1})
    assert refusal("fused", Architecture("odd", (3, 8, 8), 2, layers), "cpu", False) is None
