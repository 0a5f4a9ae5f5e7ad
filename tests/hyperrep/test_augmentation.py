"""Augmented views: what they may change, how often, and that nothing but the generator decides."""

import pytest
import torch
from scipy.stats import binomtest, kstest

from hyperrep.augmentation import Augmentation
from hyperrep.config import AugmentationConfig
from tests.populations import architecture
from zoo.base.errors import UserError
from zoo.config.typed import typed
from zoo.networks.architecture import Architecture

SMALL = Architecture("small", (1, 6, 6), 3, [{"conv": 6, "kernel": 3}, "activation", "flatten", {"linear": 3}])


def draw(weights: torch.Tensor, seed: int = 0, arch: Architecture = SMALL, **config):
    nothing = {"permute": False, "erase": 0.0, "noise": 0.0}
    augmentation = Augmentation(AugmentationConfig(**(nothing | config)), arch)
    return augmentation(weights, torch.Generator().manual_seed(seed))


def models(n: int, arch: Architecture = SMALL) -> torch.Tensor:
    return torch.randn(n, arch.n_parameters, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize(
    "config",
    [
        {"permute": True},
        {"erase": 0.7},
        {"noise": 0.1},
        {"noise": 0.1, "noise_kind": "multiplicative"},
        {"permute": True, "erase": 0.7, "noise": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["view", "clean"])
def test_the_generator_decides_everything_and_the_input_stays(config, target):
    weights = models(20)
    before = weights.clone()
    first, again, other = (draw(weights, seed, target=target, **config) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(weights, before)


def test_nothing_asked_for_is_nothing_done():
    weights = models(5)
    for target in ("view", "clean"):
        view, wanted = draw(weights, target=target)
        assert torch.equal(view, weights)
        assert torch.equal(wanted, weights)


def test_permuted_views_are_other_models_of_the_same_function():
    arch = architecture("cnn_s")
    weights = models(1, arch).expand(30, -1) / 5
    view, target = draw(weights, arch=arch, permute=True)
    assert torch.equal(view, target)
    assert len(view.unique(dim=0)) == 30  # a fresh one for every sample
    images = torch.randn(1, 4, 1, 28, 28).expand(30, -1, -1, -1, -1)
    before, after = (arch.forward(w, images, "tanh") for w in (weights, view))
    assert (before - after).norm() < 1e-5 * before.norm()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_how_often_a_sample_is_erased(probability):
    view, _ = draw(torch.ones(3000, SMALL.n_parameters), erase=probability)
    erased = int((view == 0).any(1).sum())
    assert binomtest(erased, 3000, probability).pvalue > 1e-3


def test_a_block_is_erased_of_uniform_length_at_a_uniform_place():
    n = SMALL.n_parameters
    view, target = draw(torch.ones(4000, n), erase=1.0, erase_low=0.1, erase_high=0.6)
    assert torch.equal(view, target)  # zeros are to be reproduced
    zero = view == 0
    length = zero.sum(1)
    start = zero.int().argmax(1)
    end = n - zero.flip(1).int().argmax(1)
    assert torch.equal(end - start, length)  # in one piece
    assert length.min() >= round(0.1 * n)
    assert length.max() <= round(0.6 * n)
    # Whole numbers made continuous, by what rounding has taken away.
    blur = torch.rand(2, 4000, generator=torch.Generator().manual_seed(1))
    fraction = ((length + blur[0] - 0.5) / n - 0.1) / 0.5
    place = (start + blur[1]) / (n - length + 1)
    assert kstest(fraction, "uniform").pvalue > 1e-3
    assert kstest(place, "uniform").pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([fraction, place]))[0, 1]) < 0.06
    assert start.min() == 0
    assert end.max() == n


def test_the_longest_and_the_shortest_block():
    weights = models(10)
    assert torch.equal(draw(weights, erase=1.0, erase_low=1.0, erase_high=1.0)[0], torch.zeros_like(weights))
    assert torch.equal(draw(weights, erase=1.0, erase_low=0.0, erase_high=0.0)[0], weights)


def test_additive_noise():
    weights = models(300)
    view, target = draw(weights, noise=0.3)
    assert torch.equal(view, target)
    assert kstest((view - weights).flatten() / 0.3, "norm").pvalue > 1e-3


def test_multiplicative_noise():
    weights = models(300) * 7
    view, _ = draw(weights, noise=0.3, noise_kind="multiplicative")
    assert kstest((view / weights - 1).flatten() / 0.3, "norm").pvalue > 1e-3


def test_a_clean_target_is_the_permuted_model_before_noise_and_erasing():
    weights = models(200)
    view, target = draw(weights, permute=True, erase=0.5, noise=0.01, target="clean")
    assert torch.equal(target.sort(1).values, weights.sort(1).values)  # nothing but reordered,
    assert not torch.equal(target, weights)
    erased = view == 0
    assert erased.any(1).float().mean() == pytest.approx(0.5, abs=0.15)
    assert (view - target)[~erased].std() == pytest.approx(0.01, rel=0.05)  # and in the order of the view
    images = torch.randn(200, 2, *SMALL.image)
    torch.testing.assert_close(SMALL.forward(target, images, "relu"), SMALL.forward(weights, images, "relu"))

    _, unpermuted = draw(weights, erase=0.5, noise=0.01, target="clean")
    assert torch.equal(unpermuted, weights)


def test_type_is_kept():
    for part in draw(models(3).double(), permute=True, erase=1.0, noise=0.1):
        assert part.dtype == torch.float64


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"erase_low is 0\.5 and erase_high 0\.2"):
        draw(models(1), erase_low=0.5, erase_high=0.2)
    with pytest.raises(UserError, match="arch=resnet18"):
        draw(models(1), arch=architecture("resnet18"), permute=True)
    view, _ = draw(torch.ones(2, 1000), arch=architecture("resnet18"), erase=1.0)  # has no need of neurons
    assert (view == 0).any(1).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [("erase", 1.1), ("erase_low", -0.1), ("noise", -1.0), ("noise_kind", "additiv"), ("target", "erased")],
)
def test_wrong_values_are_told(key, value):
    problems: list[str] = []
    typed({key: value}, AugmentationConfig, {}, "augmentation", problems)
    assert len(problems) == 1
    assert problems[0].startswith(f"augmentation.{key}: got {value!r}")
