"""Alignment against planted orders, and against all orders tried one by one."""

import itertools
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hyperrep.alignment import align, load_permutations, save_permutations
from hyperrep.symmetry import Permutations
from tests.hyperrep.test_symmetry import architectures, label, registered
from tests.populations import architecture
from zoo.base.errors import UserError
from zoo.networks.architecture import Architecture
from zoo.networks.layers import ACTIVATIONS

SEEDS = st.integers(0, 2**32)


def population(arch: Architecture, n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, arch.n_parameters, generator=torch.Generator().manual_seed(seed)) / 3


def pictures(arch: Architecture, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, *arch.image, generator=torch.Generator().manual_seed(seed))


def spread(weights: torch.Tensor) -> float:
    """The sum of squared distances to the mean."""
    weights = weights.double()
    return float((weights - weights.mean(0)).square().sum())


def outputs(arch: Architecture, weights: torch.Tensor, activation: str) -> torch.Tensor:
    return arch.forward(weights, pictures(arch, 4, 7).expand(len(weights), -1, -1, -1, -1), activation)


# ------------------------------------------------------------------------------------------------- both modes


@pytest.mark.parametrize(
    ("mode", "activation"), [("weights", "relu"), ("activations", "tanh"), ("activations", "sigmoid")]
)
@pytest.mark.parametrize("arch", registered(), ids=label)
def test_a_planted_order_is_found(arch, mode, activation):
    """(Activations of relu or gelu do not tell neurons apart that never fire.)"""
    permutations = Permutations(arch)
    model = population(arch, 1, seed=2).repeat(5, 1)
    planted = permutations.random(5, torch.Generator().manual_seed(3))
    for perm in planted:
        perm[0] = torch.arange(perm.shape[1])
    shuffled = permutations.apply(model, planted)
    aligned, table = align(shuffled, arch, mode, images=pictures(arch, 30), activations=activation)
    assert torch.equal(aligned, model)
    assert torch.equal(table, torch.cat(permutations.inverse(planted), 1))


@settings(max_examples=25)
@given(architectures(most=6), SEEDS, st.sampled_from(["none", "weights", "activations"]))
def test_only_the_order_changes(arch, seed, mode):
    weights = population(arch, 6, seed)
    aligned, table = align(weights, arch, mode, images=pictures(arch, 5, seed), activations="gelu")
    permutations = Permutations(arch)
    assert aligned.dtype == torch.float32
    assert table.dtype == torch.int64
    for perm, identity in zip(permutations.split(table), permutations.identity(6), strict=True):
        assert torch.equal(perm.sort(1).values, identity)
    assert torch.equal(permutations.apply(weights, permutations.split(table)), aligned)
    before, after = (outputs(arch, w, "gelu") for w in (weights, aligned))
    assert (before - after).norm() <= 1e-5 * before.norm()
    if mode == "none":
        assert torch.equal(aligned, weights)
    again = align(weights.numpy(), arch, mode, images=pictures(arch, 5, seed), activations="gelu")
    assert torch.equal(again[0], aligned)
    assert torch.equal(again[1], table)


@pytest.mark.parametrize("mode", ["weights", "activations"])
def test_models_outside_of_the_mean_have_no_influence(mode):
    arch = architecture("cnn_s")
    weights, images = population(arch, 12, seed=0), pictures(arch, 20)
    train = [3, 0, 7, 8, 5]

    def table(weights):
        return align(weights, arch, mode, mean_over=train, images=images, activations="tanh")[1]

    before = table(weights)
    others = [i for i in range(12) if i not in train]
    changed = weights.clone()
    changed[others[1:]] = population(arch, len(others) - 1, seed=1)
    after = table(changed)
    same = (before == after).all(1)
    assert same[train].all()
    assert same[others[0]]
    assert not same[others[1:]].any()
    assert not torch.equal(before[train], align(weights, arch, mode, images=images, activations="tanh")[1][train])
    one_round = align(weights, arch, mode, mean_over=train, images=images, activations="tanh", rounds=1)[1]
    assert torch.equal(one_round[train[0]], torch.cat(Permutations(arch).identity(1), 1)[0])  # the one to begin with


# ------------------------------------------------------------------------------------------------- by weights


@settings(max_examples=30)
@given(architectures(), SEEDS)
def test_no_order_of_any_one_layer_is_closer(arch, seed):
    """All orders of each group are tried: coordinate descent has ended where none of them helps."""
    weights = population(arch, 2, seed)
    aligned, _ = align(weights, arch, "weights", rounds=1)
    reference, found = weights[0].double(), aligned[1:].double()
    best = (found - reference).square().sum()
    permutations = Permutations(arch)
    for group in range(len(permutations.groups)):
        for order in itertools.permutations(range(permutations.groups[group].size)):
            perms = permutations.identity(1)
            perms[group][0] = torch.tensor(order)
            assert (permutations.apply(found, perms) - reference).square().sum() >= best - 1e-9


@settings(max_examples=30)
@given(architectures(most=6), SEEDS)
def test_the_distance_to_the_mean_never_grows_from_round_to_round(arch, seed):
    weights = population(arch, 8, seed)
    spreads = [spread(align(weights, arch, "weights", rounds=rounds)[0]) for rounds in range(6)]
    assert spreads[0] == spread(weights)
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(spreads[1:]))


def test_more_rounds_come_closer_to_the_mean():
    """Noisy copies of one model in random orders: noise is what remains."""
    arch = architecture("cnn_s")
    permutations = Permutations(arch)
    copies = population(arch, 1, seed=0) + population(arch, 40, seed=1)
    shuffled = permutations.apply(copies, permutations.random(40, torch.Generator().manual_seed(0)))
    once, often = (spread(align(shuffled, arch, "weights", rounds=rounds)[0]) for rounds in (1, 20))
    assert once < 0.6 * spread(shuffled)
    assert often < 0.95 * once
    assert often == pytest.approx(spread(copies), rel=1e-6)


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=4, max_size=4))
def test_neurons_stay_where_no_other_order_is_better(fits):
    """The one hidden layer of the reference is the identity, so that the other's weights are all the similarities.

    They differ by millionths: what is more than rounding counts.
    """
    arch = Architecture("one", (1, 2, 2), 2, ["flatten", {"linear": 4}, "activation", {"linear": 2}])
    weights = torch.zeros(2, arch.n_parameters)
    weights[0, :16], weights[1, :16] = torch.eye(4).flatten(), 1 + torch.tensor(fits).T.flatten() / 2**20
    perm = align(weights, arch, "weights", rounds=1)[1][1].tolist()
    totals = {order: sum(fits[i][j] for i, j in enumerate(order)) for order in itertools.permutations(range(4))}
    assert totals[tuple(perm)] == max(totals.values())
    if totals[0, 1, 2, 3] == max(totals.values()):
        assert perm == [0, 1, 2, 3]


def test_models_that_match_already_stay():
    """Of rounding alone nothing moves, whatever the size of the weights; else matching in turns might never end."""
    arch = architecture("cnn_s")
    weights = population(arch, 1, seed=0).repeat(6, 1) * torch.tensor([1, 0.1, 1e-7, 1e-20, 1e8, 0])[:, None]
    aligned, table = align(weights, arch, "weights")
    assert torch.equal(aligned, weights)
    assert torch.equal(table, torch.cat(Permutations(arch).identity(6), 1))


# ------------------------------------------------------------------------------------------------- by activations


def activations_of_module(arch: Architecture, weights: torch.Tensor, images: torch.Tensor, name: str):
    """What the next layer with weights gets from each neuron, [size, samples] float64: by an ordinary module."""
    module = arch.module(name, 0.5).double().eval()
    module.load_state_dict(arch.state_dict(weights.double()))
    given, size, x = [], 0, images.double()
    for layer in module:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if size:
                given.append(x.reshape(len(x), size, -1).transpose(0, 1).reshape(size, -1).detach().numpy())
            size = len(layer.bias)
        x = layer(x)
    return given


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row of a with each row of b, one by one; 0 for a row that is constant."""
    table = np.zeros((len(a), len(b)))
    for i, j in np.ndindex(*table.shape):
        if a[i].std() > 1e-6 and b[j].std() > 1e-6:
            table[i, j] = np.corrcoef(a[i], b[j])[0, 1]
    return table


@settings(max_examples=25)
@given(architectures(), SEEDS, st.sampled_from(["tanh", "relu", "gelu"]))
def test_no_order_correlates_better(arch, seed, name):
    """All orders are tried, on all samples (there are fewer than are kept)."""
    weights, images = population(arch, 2, seed), pictures(arch, 6, seed)
    _, table = align(weights, arch, "activations", images=images, activations=name, rounds=1)
    reference, other = (activations_of_module(arch, w, images, name) for w in weights)
    for perm, a, b in zip(Permutations(arch).split(table), reference, other, strict=True):
        fits = correlations(a, b)
        places = np.arange(len(fits))
        best = max(fits[places, list(order)].sum() for order in itertools.permutations(places))
        assert fits[places, perm[1].numpy()].sum() == pytest.approx(best, abs=1e-3)


def test_the_mean_is_that_of_the_activations():
    """Second round, slowly: each model against the mean of the standardised activations after the first."""
    arch = Architecture(
        "small", (1, 6, 6), 3, [{"conv": 5, "kernel": 3}, "activation", "flatten", {"linear": 5}, "activation", {"linear": 3}]
    )  # fmt: skip
    weights, images = population(arch, 7, seed=4), pictures(arch, 8)
    once, twice = (
        align(weights, arch, "activations", images=images, activations="tanh", rounds=rounds)[1] for rounds in (1, 2)
    )
    assert not torch.equal(once, twice)
    original = [activations_of_module(arch, w, images, "tanh") for w in weights]
    for group, (first, second) in enumerate(zip(*(Permutations(arch).split(table) for table in (once, twice)))):
        standard = [(m[group] - m[group].mean(1)[:, None]) / m[group].std(1)[:, None] for m in original]
        mean = np.mean([a[perm] for a, perm in zip(standard, first.numpy())], axis=0)
        for model, perm in zip(standard, second.numpy()):
            fits = mean @ model.T / mean.shape[1]
            best = max(fits[range(5), list(order)].sum() for order in itertools.permutations(range(5)))
            assert fits[range(5), perm].sum() == pytest.approx(best, abs=1e-5)


def test_each_model_is_run_with_its_own_activation():
    arch = architecture("cnn_s")
    weights, images = population(arch, 40, seed=0), pictures(arch, 10)
    names = [list(ACTIVATIONS)[i % 4] for i in range(40)]
    together = align(weights, arch, "activations", images=images, activations=names, mean_over=[0], rounds=1)[1]
    for i in (1, 2, 19, 39):
        alone = align(weights[[0, i]], arch, "activations", images=images, activations=[names[0], names[i]], rounds=1)[
            1
        ]
        assert torch.equal(alone[1], together[i])


# ------------------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_aligned_is_refused():
    arch = architecture("cnn_s")
    weights = population(arch, 4, seed=0)
    with pytest.raises(ValueError, match="'weight', but may be none, weights, activations"):
        align(weights, arch, "weight")
    with pytest.raises(ValueError, match="needs images and activations"):
        align(weights, arch, "activations", images=pictures(arch, 2))
    with pytest.raises(UserError, match="arch=resnet18"):
        align(weights, architecture("resnet18"), "weights")
    weights[1, 5], weights[2, 0] = torch.nan, torch.inf
    with pytest.raises(UserError, match="2 of 4 models hold NaN"):
        align(weights, arch, "weights")
    assert torch.equal(align(weights[[0, 3]], arch, "none")[0], weights[[0, 3]])


# ------------------------------------------------------------------------------------------------- on disk


def test_permutations_are_kept(tmp_path):
    file = tmp_path / "alignment.safetensors"
    table = align(population(architecture("cnn_s"), 5, seed=0), architecture("cnn_s"), "weights")[1]
    save_permutations(file, table, "abc", "weights")
    assert torch.equal(load_permutations(file, "abc", "weights"), table)
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "manifest.json"]
    for fingerprint, mode in [("abd", "weights"), ("abc", "activations")]:
        assert load_permutations(file, fingerprint, mode) is None
    save_permutations(file, table.flip(0), "abd", "activations")
    assert torch.equal(load_permutations(file, "abd", "activations"), table.flip(0))


def test_missing_and_damaged_files_are_to_be_computed(tmp_path):
    file = tmp_path / "alignment.safetensors"
    assert load_permutations(file, "abc", "weights") is None
    save_permutations(file, torch.zeros(5, 3, dtype=torch.int64), "abc", "weights")
    file.write_bytes(file.read_bytes()[:-1])
    assert load_permutations(file, "abc", "weights") is None


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch, fails):
    file = tmp_path / "alignment.safetensors"
    old, new = torch.zeros(5, 3, dtype=torch.int64), torch.ones(5, 3, dtype=torch.int64)
    save_permutations(file, old, "abc", "weights")

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, stop)
        with pytest.raises(KeyboardInterrupt):
            save_permutations(file, new, "abc", "weights")
    assert torch.equal(load_permutations(file, "abc", "weights"), old)
    save_permutations(file, new, "abc", "weights")
    assert torch.equal(load_permutations(file, "abc", "weights"), new)


def test_the_same_alignment_has_the_same_bytes(tmp_path):
    """However often it is made: its metadata come in one order."""
    table = torch.zeros(5, 3, dtype=torch.int64)
    for i in range(20):
        save_permutations(tmp_path / f"{i}.safetensors", table, "abc", "weights")
    assert len({(tmp_path / f"{i}.safetensors").read_bytes() for i in range(20)}) == 1
