"""The published zoos: every preset composes, and their numbers are those of the papers."""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

import run
import sweep
from zoo.config.reading import read_config
from zoo.config.sections import Config
from zoo.config.spec import shard_problems, spec_size
from zoo.training.spec import model_table, shard_of

# Models per zoo, in the order of the paper's table: seed, hyp10r, hyp10f.
PUBLISHED = {
    "mnist": (1000, 2560, 2560), "fmnist": (1000, 2560, 2560), "svhn": (1000, 4320, 4320), "usps": (1000, 2560, 2560),
    "cifar10": (1000, 1280, 1280), "cifar10_m": (1000, 1280, 1280), "stl10": (1000, 2560, 2560),
    "stl10_m": (1000, 2560, 2560),
}  # fmt: skip
RESNETS = ("cifar10_resnet18_seed", "cifar100_resnet18_seed", "tinyimagenet_resnet18_seed")
SPLITS = {1000: (700, 150, 150), 1280: (896, 192, 192), 2560: (1792, 384, 384), 4320: (3024, 648, 648)}


def compose_zoo(*overrides: str) -> Config:
    with initialize_config_dir(str(run.CONFIG_DIR), version_base="1.3"):
        return read_config(compose("config", list(overrides)), run.Config)


@pytest.fixture(scope="module")
def zoos() -> dict[str, Config]:
    names = [path.stem for path in (run.CONFIG_DIR / "zoo").glob("*.yaml")]
    return {name: compose_zoo(f"zoo={name}") for name in names}


def test_there_are_27_published_zoos(zoos):
    expected = {f"{d}_{kind}" for d in PUBLISHED for kind in ("seed", "hyp10r", "hyp10f")} | set(RESNETS)
    assert set(sweep.published_zoos()) == expected
    assert len(expected) == 27
    assert all(config.zoo.name == name for name, config in zoos.items())


def test_published_model_counts_and_splits(zoos):
    for dataset, counts in PUBLISHED.items():
        for kind, count in zip(("seed", "hyp10r", "hyp10f"), counts):
            table = model_table(zoos[f"{dataset}_{kind}"].zoo)
            assert len(table) == count == spec_size(zoos[f"{dataset}_{kind}"].zoo)
            assert tuple((table["split"] == s).sum() for s in ("train", "val", "test")) == SPLITS[count]
    cnns = sum(sum(counts) for counts in PUBLISHED.values())
    assert cnns == 47_360
    assert cnns + sum(spec_size(zoos[name].zoo) for name in RESNETS) == 50_360


def test_published_state_counts(zoos):
    states = 0
    for name in sweep.published_zoos():
        config = zoos[name].zoo
        # The paper counts the CNNs' untrained states but not the ResNets'.
        states += spec_size(config) * (config.epochs + (0 if name in RESNETS else 1))
    assert states == 2_585_360
    twins = sum(spec_size(zoos[name].zoo) for name in sweep.published_zoos()) * 25
    assert twins == 1_259_000


def test_printed_svhn_grid(zoos):
    assert spec_size(zoos["svhn_hyp10f_printed"].zoo) == spec_size(zoos["svhn_hyp10r_printed"].zoo) == 5760
    assert zoos["svhn_hyp10f"].zoo.grid.optimizer == ["sgd"]
    assert zoos["svhn_hyp10f"].zoo.grid.weight_decay == [0.0, 1e-3, 1e-1]
    assert zoos["svhn_hyp10f_printed"].zoo.grid.optimizer == ["adam", "sgd"]


@pytest.mark.parametrize(
    ("name", "lr", "batch", "epochs"),
    [(RESNETS[0], 0.05, 256, 50), (RESNETS[1], 0.1, 128, 60), (RESNETS[2], 0.1, 128, 60)],
)
def test_resnet_protocols(zoos, name, lr, batch, epochs):
    zoo = zoos[name].zoo
    assert (zoo.grid.lr, zoo.batch_size, zoo.epochs, zoo.schedule) == ([lr], batch, epochs, "onecycle")
    assert (zoo.grid.weight_decay, zoo.grid.optimizer, zoo.grid.activation) == ([5e-4], ["sgd"], ["relu"])
    assert zoos[name].arch.protocol == "augmented"
    assert compose_zoo(f"zoo={name}", "zoo.grid.lr=[1e-4]").zoo.grid.lr == [1e-4]


@pytest.mark.parametrize(
    ("name", "init", "activation", "lr", "decay"),
    [
        ("mnist", "uniform", "tanh", 3e-4, 0), ("fmnist", "uniform", "tanh", 3e-4, 0), ("svhn", "uniform", "tanh", 3e-3, 0),
        ("usps", "uniform", "tanh", 3e-4, 1e-3), ("cifar10", "kaiming_uniform", "gelu", 1e-4, 1e-2),
        ("cifar10_m", "kaiming_uniform", "gelu", 1e-4, 1e-2), ("stl10", "kaiming_uniform", "tanh", 1e-4, 1e-3),
        ("stl10_m", "kaiming_uniform", "tanh", 1e-4, 1e-3),
    ],
)  # fmt: skip
def test_seed_zoos_have_the_published_values(zoos, name, init, activation, lr, decay):
    config = zoos[f"{name}_seed"]
    table = model_table(config.zoo)
    assert table["seed"].tolist() == list(range(1, 1001))
    expected = {
        "init": init,
        "activation": activation,
        "optimizer": "adam",
        "lr": lr,
        "weight_decay": decay,
        "dropout": 0,
    }
    for factor, value in expected.items():
        assert (table[factor] == value).all()
    assert (config.zoo.batch_size, config.zoo.epochs, config.zoo.schedule) == (10, 50, "constant")
    assert config.arch.name == ("cnn_m" if name.endswith("_m") else "cnn_s")


@pytest.mark.parametrize(
    ("name", "optimizers", "lrs", "decays", "dropouts"),
    [
        ("mnist", {"adam", "sgd"}, {1e-3, 1e-4}, {1e-3, 1e-4}, {0, 0.5}),
        ("fmnist", {"adam", "sgd"}, {1e-3, 1e-4}, {1e-3, 1e-4}, {0, 0.5}),
        ("svhn", {"sgd"}, {1e-2, 1e-3, 1e-4}, {0, 1e-3, 1e-1}, {0, 0.3, 0.5}),
        ("usps", {"adam", "sgd"}, {1e-3, 1e-4}, {1e-2, 1e-3}, {0, 0.5}),
        ("cifar10", {"adam", "sgd"}, {1e-3}, {1e-2, 1e-3}, {0, 0.5}),
        ("cifar10_m", {"adam", "sgd"}, {1e-3}, {1e-2, 1e-3}, {0, 0.5}),
        ("stl10", {"adam", "sgd"}, {1e-3, 1e-4}, {1e-2, 1e-3}, {0, 0.5}),
        ("stl10_m", {"adam", "sgd"}, {1e-3, 1e-4}, {1e-2, 1e-3}, {0, 0.5}),
    ],
)
def test_hyp_zoos_have_the_published_grid_and_seeds(zoos, name, optimizers, lrs, decays, dropouts):
    factors = ["init", "activation", "optimizer", "lr", "weight_decay", "dropout"]
    fixed, random = model_table(zoos[f"{name}_hyp10f"].zoo), model_table(zoos[f"{name}_hyp10r"].zoo)
    for table in (fixed, random):
        assert set(table["init"]) == {"uniform", "normal", "kaiming_uniform", "kaiming_normal"}
        assert set(table["activation"]) == {"tanh", "relu", "sigmoid", "gelu"}
        assert (set(table["optimizer"]), set(table["lr"])) == (optimizers, lrs)
        assert (set(table["weight_decay"]), set(table["dropout"])) == (decays, dropouts)
        assert (table.groupby(factors).size() == 10).all()
    assert (fixed.groupby(factors)["seed"].agg(sorted).map(tuple) == tuple(range(1, 11))).all()
    assert random["seed"].between(0, 10**6 - 1).all()
    assert random["seed"].nunique() > 0.99 * len(random)


def test_a_spec_regenerates_its_zoo_and_a_prefix_is_spread(zoos):
    config = zoos["mnist_hyp10r"].zoo
    whole = model_table(config)
    assert whole.equals(model_table(config))
    assert whole["seed"].head(3).tolist() == [121958, 671155, 131932], "numpy's frozen stream: these never change"
    config.models = 64
    prefix = model_table(config)
    config.models = None
    assert prefix.equals(whole.head(64)), "a smaller zoo is the beginning of the larger one"
    for factor in ("init", "activation", "optimizer", "lr", "weight_decay", "dropout"):
        shares = prefix[factor].value_counts(normalize=True)
        assert len(shares) == whole[factor].nunique()
        assert shares.min() > 0.4 / len(shares)
    for n in (20, 40, 500):
        assert np.array_equal(
            whole["split"].head(n).value_counts()[["train", "val", "test"]], [n * 0.7, n * 0.15, n * 0.15]
        )


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 80))
def test_shards_are_ranges_of_whole_blocks(models, unit, parts):
    shards = [shard_of(models, unit, f"{part}/{parts}") for part in range(1, parts + 1)]
    assert [i for shard in shards for i in shard] == list(range(models))
    assert all(shard.start % unit == 0 for shard in shards)
    filled = [len(shard) for shard in shards if shard]
    assert len(filled) == min(parts, -(-models // unit))
    assert max(filled) - min(filled) <= 2 * unit  # as equal as whole blocks allow; the last may be cut short
    assert shard_of(models, unit, None) == range(models)


def test_a_shard_is_a_part_of_parts():
    assert shard_problems(None) == shard_problems("1/1") == shard_problems("64/64") == []
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/5"):
        assert "PART/PARTS" in shard_problems(wrong)[0]
