"""Variational dropout: formulas against numbers and definitions, layers against a slow one, engines against float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from tests.populations import architecture, image_data, model_rows
from zoo.engines.choice import refusal
from zoo.engines.engine import Population, Protocol, initial_population
from zoo.engines.loop_engine import LoopEngine
from zoo.engines.make import engine_class
from zoo.engines.philox import normals, random_words
from zoo.networks.architecture import Architecture
from zoo.networks.modules import VariationalConv2d, VariationalLinear
from zoo.networks.variational import CONV_LIMITS, LINEAR_LIMITS, divergence, kept, log_alpha, variance


def variational(name="cnn_s", **more) -> Architecture:
    return Architecture.from_dict({**architecture(name).to_dict(), "variational": True, **more})


def population(arch, rows) -> Population:
    """Models in the middle of it: log α of all sizes, clamped at both ends, some weights dropped."""
    start = initial_population(arch, rows)
    random, weights = np.random.default_rng(0), start.weights.copy()
    for slot, spread, _ in arch.variational_slots():
        theta = np.abs(weights[:, slot.offset : slot.offset + slot.size]) + 1e-9
        alpha = random.uniform(-14, 14, theta.shape)
        weights[:, spread.offset : spread.offset + spread.size] = alpha + 2 * np.log(theta)
    return Population(weights, start.buffers, start.first_moment, start.second_moment, start.step)


def test_numbers_of_the_specification():
    weight = torch.tensor(1.0)
    for of, expected in ((-10.0, 5.64), (0.0, 0.43), (3.0, 0.025)):
        assert divergence(weight, torch.tensor(of), (-99.0, 99.0)).item() == pytest.approx(expected, abs=0.005)
    assert log_alpha(torch.tensor(0.5), torch.tensor(-2.0), LINEAR_LIMITS).item() == pytest.approx(-2 - 2 * np.log(0.5))
    assert log_alpha(torch.tensor(0.0), torch.tensor(-10.0), CONV_LIMITS) == 8
    assert log_alpha(torch.tensor(5.0), torch.tensor(-10.0), CONV_LIMITS) == -8
    assert log_alpha(torch.tensor(5.0), torch.tensor(-10.0), LINEAR_LIMITS) == -10
    # At the start, weights below exp(-6.5) are dropped, and convolutional ones beyond exp(-1) clamped.
    weights, start = torch.tensor([0.00150, 0.00151]), torch.full((2,), -10.0)
    assert (kept(weights, start, CONV_LIMITS) == 0).tolist() == [True, False]
    edge = torch.tensor([0.367, 0.369])
    assert (log_alpha(edge, start, CONV_LIMITS) == -8).tolist() == [False, True]


def test_the_divergence_falls_with_alpha_and_no_gradient_flows_where_it_is_clamped():
    spread = torch.linspace(-12, 12, 200, requires_grad=True)
    values = divergence(torch.ones(200), spread, LINEAR_LIMITS)
    assert (values.diff() <= 0).all()
    (gradient,) = torch.autograd.grad(values.sum(), spread)
    assert ((gradient == 0) == (spread.abs() > 10)).all()


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 2), nn.Conv2d(2, 3, 2, bias=False), nn.Linear(4, 3)])
def test_a_noisy_layer_is_one_whose_weights_are_drawn(layer):
    """Local reparametrisation against its meaning: outputs of drawn weights have the layer's mean and variance."""
    conv = isinstance(layer, nn.Conv2d)
    made = (VariationalConv2d if conv else VariationalLinear).of(layer)
    with torch.no_grad():
        made.log_sigma2.uniform_(-4, -1)
        if conv and layer.bias is not None:
            made.log_sigma2_bias.uniform_(-4, -1)
    x = torch.randn(1, 2, 2, 2) if conv else torch.randn(1, 4)
    ours = torch.cat([made(x).detach().flatten(1) for _ in range(20_000)])
    limits, drawn = CONV_LIMITS if conv else LINEAR_LIMITS, []
    for _ in range(20_000):
        weight = layer.weight + variance(layer.weight, made.log_sigma2, limits).sqrt() * torch.randn_like(layer.weight)
        bias = layer.bias
        if conv and bias is not None:
            bias = bias + variance(bias, made.log_sigma2_bias, limits).sqrt() * torch.randn_like(bias)
        drawn.append((F.conv2d if conv else F.linear)(x, weight, bias).detach().flatten(1))
    drawn = torch.cat(drawn)
    torch.testing.assert_close(ours.mean(0), drawn.mean(0), atol=0.03, rtol=0.03)
    torch.testing.assert_close(ours.std(0), drawn.std(0), atol=0.02, rtol=0.03)
    made.eval()
    expected = kept(layer.weight, made.log_sigma2, limits)
    bias = layer.bias if not conv or layer.bias is None else kept(layer.bias, made.log_sigma2_bias, limits)
    torch.testing.assert_close(made(x), (F.conv2d if conv else F.linear)(x, expected, bias))


@pytest.mark.parametrize("name", ["cnn_s", "cnn_m", "cnn_s_res", "cnn_4", "resnet18"])
def test_layout_module_and_masks(name):
    plain, arch = architecture(name), variational(name)
    assert arch.plain().to_dict() == plain.to_dict()
    module = arch.module("relu")
    assert [(slot.name, slot.shape) for slot in arch.layout] == [
        (n, tuple(p.shape)) for n, p in module.named_parameters()
    ]
    noisy_values = sum(slot.size for slot, _, _ in arch.variational_slots())
    assert arch.n_parameters == plain.n_parameters + noisy_values
    weights = torch.stack([plain.weights(plain.module("relu")) for _ in range(2)])
    both = arch.with_variances(weights)
    expected = torch.where(weights.abs() < np.exp(-6.5) - 1e-15, 0.0, weights)
    clear = (weights.abs() - np.exp(-6.5)).abs() > 1e-7  # not so near the edge that rounding decides
    dropped_bias = sum("bias" in slot.name for slot, _, _ in arch.variational_slots())
    assert (dropped_bias > 0) == (name != "resnet18")
    masked = arch.masked(both)
    weight_slots = [
        slot
        for slot in plain.layout
        if f"{slot.name.removesuffix('.weight')}.log_sigma2" in {s.name for s in arch.layout}
    ]
    for slot in weight_slots:
        part = slice(slot.offset, slot.offset + slot.size)
        torch.testing.assert_close(masked[:, part][clear[:, part]], expected[:, part][clear[:, part]])
    sparsity = arch.sparsity(both)
    zeros = sum((masked[:, s.offset : s.offset + s.size] == 0).sum(1) for s in weight_slots)
    torch.testing.assert_close(sparsity["sparsity"], zeros / sum(s.size for s in weight_slots))
    assert len(sparsity) == 1 + len(weight_slots)
    # The masked weights in a plain module are the variational module in evaluation.
    images = torch.randn(3, *plain.image)
    module.load_state_dict(arch.state_dict(both[1], arch.buffers(module) if arch.n_buffers else None))
    other = plain.module("relu")
    other.load_state_dict(plain.state_dict(masked[1], plain.buffers(other) if plain.n_buffers else None))
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(images), other.eval()(images))


def test_published_numbers_of_weights():
    for name, channels, weights in (("cnn_s", 1, 2416), ("cnn_s", 3, 2816), ("cnn_m", 3, 10760)):
        plain = architecture(name, channels)
        arch = Architecture.from_dict({**plain.to_dict(), "variational": True})
        assert sum(slot.size for slot, _, _ in arch.variational_slots() if slot.name.endswith("weight")) == weights


def test_normal_numbers():
    seeds = torch.tensor([3, 2**62 + 5])
    found = normals(seeds, 1, 2, 3, 100_001)
    assert found.shape == (2, 100_001)
    for row in found.double().numpy():
        assert stats.kstest(row, "norm").pvalue > 1e-3
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(found.numpy())[0, 1]) < 0.01
    assert torch.equal(normals(seeds, 1, 2, 3, 7), found[:, :7])
    assert not torch.equal(normals(seeds, 2, 2, 3, 7), found[:, :7])
    words = random_words(seeds, (1 << 16) + 1, 2, 3, 2) >> 9
    r = np.sqrt(-2 * np.log((words[0, 0].item() + 0.5) / 2**23))
    t = 2 * np.pi * words[0, 1].item() / 2**23
    np.testing.assert_allclose(found[0, :2], [r * np.cos(t), r * np.sin(t)], rtol=1e-5)
    assert found.abs().max() < 5.8


def trained(engine, start, steps, epoch) -> Population:
    engine.load(start)
    engine.start_epoch(epoch)
    engine.train(0, steps)
    engine.close()
    return engine.population()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fused", "torch", "loop"])
@pytest.mark.parametrize("arch_name", ["cnn_s", "cnn_m"])
@pytest.mark.parametrize("epoch", [1, 25])  # without and with the divergence
def test_gradients(name, arch_name, epoch):
    arch, protocol = variational(arch_name), Protocol(10, 25, "constant", divergence_rate=0.01 / 25)
    data, rows = image_data(arch.image, train=10), model_rows(activation=["tanh", "relu", "gelu"], optimizer=["sgd"])
    start = population(arch, rows)
    exact = trained(LoopEngine(arch, rows, data, protocol, dtype=torch.float64), start, 1, epoch).first_moment
    ours = trained(engine_class(name)(arch, rows, data, protocol), start, 1, epoch).first_moment
    plain = trained(LoopEngine(arch, rows, data, protocol), start, 1, epoch).first_moment
    off, of_plain = (np.abs(found - exact).max(1) / np.abs(exact).max(1) for found in (ours, plain))
    assert (off <= np.maximum(2e-5, 3 * of_plain)).all()  # log alpha of 14: sums that cancel, in plain PyTorch too
    spreads = np.concatenate([np.arange(s.offset, s.offset + s.size) for _, s, _ in arch.variational_slots()])
    assert (np.abs(exact[:, spreads]).max(1) > 1e-6).all(), "variances learn nothing: the test compares nothing"


def test_the_divergence_grows_epoch_by_epoch():
    protocol = Protocol(10, 25, "constant", divergence_rate=0.01 / 25)
    assert protocol.divergence_weight(1) == 0
    assert protocol.divergence_weight(25) == pytest.approx(0.0096)
    assert Protocol(10, 25, "constant", 2.0).divergence_weight(3) == 1
    arch, data, rows = variational(), image_data(train=20), model_rows(activation=["tanh"])
    start, found = population(arch, rows), []
    for rate in (0.0, 1.0):
        engine = engine_class("torch")(arch, rows, data, Protocol(10, 9, "constant", rate))
        found.append(arch.divergence(torch.from_numpy(trained(engine, start, 2, 2).weights)))
    assert (found[1] < found[0]).all()


def test_evaluation_is_that_of_the_masked_models():
    arch, data, rows = variational(), image_data(test=40), model_rows(activation=["tanh", "gelu"])
    start = population(arch, rows)
    masked = arch.masked(torch.from_numpy(start.weights)).numpy()
    assert 0.2 < (masked == 0).mean() < 0.8
    results = []
    for described, weights in ((arch, start.weights), (arch.plain(), masked)):
        engine = engine_class("torch")(described, rows, data, Protocol(10, 1, "constant"))
        zeros = np.zeros_like(weights)
        engine.load(Population(weights, start.buffers, zeros, zeros.copy(), start.step))
        results.append(engine.evaluate(data.test))
        engine.close()
    np.testing.assert_allclose(results[0].loss, results[1].loss, rtol=1e-5)
    assert refusal("fused", arch, "cpu", False) is None
    assert "use engine=torch" in refusal("fused", variational("cnn_s_res"), "cpu", False)
