"""`task=hyperrep` and `task=sample` from a configuration to a population, on real digits, in this process."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.novelty import audit_population
from hyperrep.sampling import sample_population
from hyperrep.training import AutoencoderModule, train_hyperrep
from tests.integration.test_train_zoo import configure, hashes, train
from zoo import Zoo
from zoo.errors import UserError

ZOO = ["zoo=digits_seed", "zoo.models=24", "zoo.epochs=4", "dataset.train_size=300"]
TINY = [
    *ZOO, "autoencoder.states=[3,4]", "autoencoder.d_model=204", "autoencoder.heads=2", "autoencoder.feedforward=32",
    "autoencoder.latent=8", "autoencoder.optimizer.batch_size=8", "autoencoder.optimizer.epochs=2",
    "autoencoder.optimizer.validate_every=1", "population.models=12",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A zoo with a trained autoencoder."""
    path = tmp_path_factory.mktemp("hyperrep")
    train(path, *ZOO)
    train_hyperrep(configure(path, *TINY))
    return path


@pytest.fixture
def zoo_alone(root, tmp_path):
    shutil.copytree(root / "zoos" / "digits_seed", tmp_path / "zoos" / "digits_seed")
    return tmp_path


def test_results_tell_seen_from_unseen(root):
    results = pd.read_csv(root / "hyperreps" / "digits_seed" / "small" / "results.csv")
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    assert results["split"].tolist() == sorted(results["split"], key=["train", "val", "test"].index)
    splits = zoo.models.set_index("model_id")["split"]
    assert (results["split"].to_numpy() == splits[results["model_id"]].to_numpy()).all()
    last = zoo.metrics[zoo.metrics["epoch"] == 4].set_index("model_id")["test_acc"]
    np.testing.assert_allclose(results["accuracy"], last[results["model_id"]], atol=1e-12)


@pytest.mark.parametrize("behaviour", [0.0, 0.3])
def test_an_interrupted_training_ends_the_same(root, zoo_alone, behaviour):
    """Two epochs, a stop, two more; against four at once. Dropout, augmentation, contrast and images are all random."""
    words = [
        *TINY, f"autoencoder.loss.behaviour={behaviour}", "autoencoder.loss.contrast=0.2", "autoencoder.dropout=0.1",
        "autoencoder.augmentation.erase=0.5", "autoencoder.augmentation.permute=true",
        "autoencoder.optimizer.schedule=constant",
    ]  # fmt: skip
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=stopped"))
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=stopped", "autoencoder.optimizer.epochs=4"))
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=through", "autoencoder.optimizer.epochs=4"))
    folder = zoo_alone / "hyperreps" / "digits_seed"
    stopped, through = hashes(folder / "stopped"), hashes(folder / "through")
    assert {k: v for k, v in stopped.items() if k != "hyperrep.json"} == {
        k: v for k, v in through.items() if k != "hyperrep.json"
    }


def test_a_stopped_training_whose_schedules_span_all_epochs_ends_the_same(root, zoo_alone, monkeypatch):
    """Learning rate and the weight of the behavioural term go on where they were."""
    words = [
        *TINY, "autoencoder.loss.behaviour=1", "autoencoder.loss.behaviour_from=0.25", "autoencoder.loss.behaviour_full=0.9",
        "autoencoder.optimizer.epochs=4",
    ]  # fmt: skip
    weights = []
    losses = AutoencoderModule.losses

    def watched(module, states, activations, behaviour_weight):
        weights.append(behaviour_weight)
        if stop_at and len(weights) == stop_at:
            raise KeyboardInterrupt
        return losses(module, states, activations, behaviour_weight)

    monkeypatch.setattr(AutoencoderModule, "losses", watched)
    stop_at = 8  # in the third epoch of three steps
    with pytest.raises(KeyboardInterrupt):
        train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=stopped"))
    stop_at = 0
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=stopped"))
    weights.clear()
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=through"))
    np.testing.assert_allclose(weights, np.clip((np.arange(12) / 12 - 0.25) / 0.65, 0, 1), atol=1e-12)
    folder = zoo_alone / "hyperreps" / "digits_seed"
    for file in ("last.safetensors", "best.safetensors", "results.csv"):
        assert hashes(folder / "stopped")[file] == hashes(folder / "through")[file]


@pytest.mark.parametrize("sampler", ["kde30", "kde_anchor", "gaussian", "uniform", "soup", "nearest30", "pca"])
def test_a_population_is_a_zoo(root, sampler):
    config = configure(root, *TINY, f"sampler={sampler}")
    population = sample_population(config)
    assert population.finished
    assert len(population.models) == 12
    assert population.verify() == []
    module = population.module(3, 0)
    assert module(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    found = audit_population(config)
    assert found.models == 12
    assert found.accuracy == pytest.approx(population.metrics["test_acc"].mean())
    assert 0 <= found.within <= 1
    assert (found.best_of, found.uses_images) == (1, False)
    if sampler == "nearest30":
        assert found.nearest == 0
        assert found.distance == pytest.approx(0, abs=1e-3)  # aligned with aligned
        assert found.verdict == "copies"
    else:
        assert found.distance > 0.001
    assert np.isnan(found.reconstruction) == (sampler in ("soup", "nearest30", "pca"))


def test_a_population_is_trained_on_like_a_zoo(root):
    config = configure(root, *TINY, "sampler=soup", "population.name=soup")
    population = sample_population(config)
    tuned = train(root, "zoo.start.zoo=soup", "zoo.name=soup_tuned", "zoo.epochs=3", "zoo.models=null")
    np.testing.assert_array_equal(tuned.weights(epochs=[0]), population.weights())
    assert (tuned.models["init"] == "sampled").all()
    losses = tuned.metrics.pivot(index="model_id", columns="epoch", values="test_loss")
    assert (losses.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)


def test_reconstructions_are_called_so(root):
    config = configure(root, *TINY, "sampler=kde_anchor", "sampler.bandwidth=1e-4", "population.name=reconstructed")
    sample_population(config)
    found = audit_population(config)
    assert found.reconstruction < 0.05
    assert found.verdict == "reconstructions"


def test_a_population_is_the_same_when_drawn_again(root, tmp_path):
    sample_population(configure(root, *TINY, "sampler=kde", "population.name=first"))
    again = sample_population(configure(root, *TINY, "sampler=kde", "population.name=second"))
    other = sample_population(configure(root, *TINY, "sampler=kde", "population.name=third", "population.seed=1"))
    first = Zoo.open(root / "zoos" / "first")
    np.testing.assert_array_equal(first.weights(), again.weights())
    assert not np.array_equal(first.weights(), other.weights())


def test_best_of_keeps_the_best_on_validation_images(root):
    sample_population(configure(root, *TINY, "sampler=uniform", "population.name=all", "population.models=24"))
    best = sample_population(configure(root, *TINY, "sampler=uniform", "population.name=best", "sampler.best_of=2"))
    everyone = Zoo.open(root / "zoos" / "all").metrics["val_acc"]
    np.testing.assert_allclose(sorted(best.metrics["val_acc"]), sorted(everyone)[12:])


def test_variety_counts_beside_accuracy(root):
    words = ["sampler=uniform", "sampler.best_of=4"]
    best = sample_population(configure(root, *TINY, *words, "population.name=accurate"))
    various = configure(root, *TINY, *words, "population.name=various", "sampler.variety=1")
    chosen = sample_population(various)
    assert chosen.metrics["val_acc"].max() == best.metrics["val_acc"].max()
    assert chosen.metrics["val_acc"].mean() <= best.metrics["val_acc"].mean()
    found = audit_population(various)
    assert (found.best_of, found.variety) == (4, 1.0)
    assert not np.array_equal(chosen.weights(), best.weights())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zoo.name=nowhere"], "make it with python run.py zoo=nowhere"),
        (["autoencoder.states=[3,9]"], "has no epoch 9; it has 0 to 4"),
        (["autoencoder.d_model=100", "autoencoder.name=narrow"], "longest token has 201"),
        (["autoencoder.latent=9"], "holds another autoencoder: autoencoder.latent was 8, now 9"),
        (["dataset.train_size=200"], "trained on other images"),
    ],
)
def test_mistakes_are_a_sentence(root, words, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        train_hyperrep(configure(root, *TINY, *words))


def test_sampling_refuses_another_autoencoder(root):
    with pytest.raises(UserError, match="latent was 8, now 16"):
        sample_population(configure(root, *TINY, "autoencoder.latent=16"))


def test_sampling_needs_an_autoencoder(zoo_alone):
    with pytest.raises(UserError, match="no trained autoencoder"):
        sample_population(configure(zoo_alone, *TINY))
    assert sample_population(
        configure(zoo_alone, *TINY, "sampler=soup")
    ).finished  # in the space of weights: it needs none
