"""`task=hyperrep` and `task=sample` from a configuration to a population, on real digits, in this process."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load as from_safetensors

from analysis.audit.novelty import audit_population
from hyperrep.models.module import AutoencoderModule
from hyperrep.samplers.soup import SoupSampler
from hyperrep.sampling import sample_population
from hyperrep.states import read_states
from hyperrep.training import train_hyperrep
from tests.integration.test_train_zoo import configure, hashes, train
from tests.populations import copied
from zoo import Zoo
from zoo.base import console
from zoo.base.errors import UserError
from zoo.base.files import locked
from zoo.networks.architecture import Architecture
from zoo.training.opening import read_images

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


def test_learning_and_sampling_tell_how_far_they_are(root, zoo_alone, monkeypatch, capsys):
    monkeypatch.setattr(console, "SHORT", 0.0)
    monkeypatch.setattr(console, "SECONDS_A_LINE", -1.0)
    config = configure(zoo_alone, *TINY, "autoencoder.optimizer.validate_every=10", "sampler=flow30", "sampler.steps=2")
    train_hyperrep(config)
    sample_population(config)
    audit_population(config)
    told = capsys.readouterr().out
    for words in ("the autoencoder: 1/6 steps, ", "the sampler: 1/2 steps, ", "networks: 12/12 networks, "):
        assert words in told


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [0.0, 0.3])
def test_an_interrupted_training_ends_the_same(root, zoo_alone, behaviour, monkeypatch):
    """Two epochs, a stop, two more; against four at once. Dropout, augmentation, contrast and images are all random."""
    words = [
        *TINY, f"autoencoder.loss.behaviour={behaviour}", "autoencoder.loss.contrast=0.2", "autoencoder.dropout=0.1",
        "autoencoder.augmentation.erase=0.5", "autoencoder.augmentation.permute=true",
        "autoencoder.optimizer.schedule=plateau",
    ]  # fmt: skip

    def cut(plateau, loss):  # at every epoch, so that it shows whether a resumed training knows how far it was
        plateau.optimizer.param_groups[0]["lr"] *= 0.5
        plateau.num_bad_epochs += 1

    monkeypatch.setattr(torch.optim.lr_scheduler.ReduceLROnPlateau, "step", cut)
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=stopped"))
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=stopped", "autoencoder.optimizer.epochs=4"))
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.name=through", "autoencoder.optimizer.epochs=4"))
    folder = zoo_alone / "hyperreps" / "digits_seed"
    stopped, through = hashes(folder / "stopped"), hashes(folder / "through")
    named = {"hyperrep.json", "manifest.json"}  # after themselves, and what lists them
    assert {k: v for k, v in stopped.items() if k not in named} == {k: v for k, v in through.items() if k not in named}


@pytest.mark.slow
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


def test_checkpoints_take_no_more_than_a_tenth_of_the_time(zoo_alone, monkeypatch):
    """An epoch of 3 seconds, a checkpoint of 1: it is written after the first epoch, then every third, and after the last."""
    clock, written = SimpleNamespace(now=0.0), []
    begin, save = AutoencoderModule.on_train_epoch_start, AutoencoderModule._save

    def epoch(module):
        clock.now += 3
        begin(module)

    def saved(module, name, with_optimizer):
        if name == "last.safetensors":
            clock.now += 1
            written.append(module.done)
        save(module, name, with_optimizer)

    monkeypatch.setattr("hyperrep.models.module.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(AutoencoderModule, "on_train_epoch_start", epoch)
    monkeypatch.setattr(AutoencoderModule, "_save", saved)
    train_hyperrep(configure(zoo_alone, *TINY, "autoencoder.optimizer.epochs=6"))
    assert written == [1, 4, 6]


def test_results_are_never_those_of_a_shorter_training(zoo_alone, monkeypatch):
    """A kill after the last epoch, before they are measured again."""
    words = [*TINY, "autoencoder.optimizer.schedule=constant"]
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.optimizer.epochs=1"))
    file = zoo_alone / "hyperreps" / "digits_seed" / "small" / "results.csv"
    short = file.read_bytes()

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hyperrep.training.reconstruction_results", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_hyperrep(configure(zoo_alone, *words))
    train_hyperrep(configure(zoo_alone, *words))
    long = file.read_bytes()
    file.unlink()
    train_hyperrep(configure(zoo_alone, *words))
    assert long == file.read_bytes() != short


def test_models_of_an_unknown_activation_are_not_learnt(zoo_alone):
    """Imported zoos may have them."""
    zoo = Zoo.open(zoo_alone / "zoos" / "digits_seed")
    rows = zoo.models.assign(activation=["leakyrelu", None, *["tanh"] * 22])
    strange = copied(zoo, "strange", rows=rows)
    config = configure(zoo_alone, *TINY)
    for align in ("none", "weights", "activations"):
        config.autoencoder.align = align
        found = read_states(strange, config.autoencoder, zoo_alone / align, read_images(config))
        ids = {model for states in found.values() for model in states.table["model_id"]}
        assert ids == set(range(2, 24))


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
    assert found.best_of == 1
    learnt = "weights" if sampler in ("soup", "nearest30", "pca") else "the embeddings of autoencoder small"
    anchors = "the best 30% of the training models by validation accuracy" if "30" in sampler else "all training models"
    assert f"from {learnt} of zoo digits_seed, {anchors}. No image was used in learning" in found.about
    assert found.about in (population.path / "README.md").read_text()
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


def test_what_is_there_is_neither_drawn_nor_audited_again(root, monkeypatch):
    config = configure(root, *TINY, "sampler=kde", "population.name=once")
    population, found = sample_population(config), audit_population(config)
    for name in ("hyperrep.sampling.draw", "analysis.audit.novelty.audit"):
        monkeypatch.setattr(name, None)
    before = hashes(population.path)
    assert sample_population(config).identity == population.identity
    assert audit_population(config) == found
    assert hashes(population.path) == before
    monkeypatch.undo()
    shutil.rmtree(population.path)
    again = configure(root, *TINY, "sampler=kde", "population.name=once", "population.seed=1")
    sample_population(again)
    assert audit_population(again).nearest != found.nearest


def test_any_engine_finds_the_same(root):
    config = configure(root, *TINY, "sampler=kde", "population.name=by_any_engine")
    sample_population(config)
    found = []
    for engine in ("fused", "torch", "loop"):
        (root / "audits" / "by_any_engine.csv").unlink(missing_ok=True)
        found.append(
            audit_population(configure(root, *TINY, "sampler=kde", "population.name=by_any_engine", f"engine={engine}"))
        )
    for other in found[1:]:
        for measure in ("accuracy", "nearest", "within", "zoo_within", "ensemble"):
            assert getattr(other, measure) == pytest.approx(getattr(found[0], measure), abs=2e-3)


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
        (["zoo.name=nowhere"], "there is no zoo 'nowhere' under"),
        (
            ["autoencoder.states=[3,9]"],
            "autoencoder.states: got [3, 9], but zoo digits_seed has the epochs 0 to 4; give some of these",
        ),
        (
            ["autoencoder.states=[4,4]"],
            "autoencoder.states: got [4, 4], but it needs at least one epoch of the zoo, and none",
        ),
        (["autoencoder.states=[]"], "autoencoder.states: got []"),
        (["autoencoder.loss.between=1"], "is a part of the behavioural term, and autoencoder.loss.behaviour is 0"),
        (["autoencoder.d_model=100", "autoencoder.name=narrow"], "longest token has 201"),
        (["autoencoder.latent=9"], "holds another autoencoder: autoencoder.latent was 8, now 9"),
        (["dataset.train_size=200"], "trained on other images"),
    ],
)
def test_mistakes_are_a_sentence(root, words, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        train_hyperrep(configure(root, "task=hyperrep", *TINY, *words))


def test_sampling_refuses_another_autoencoder(root):
    with pytest.raises(UserError, match="latent was 8, now 16"):
        sample_population(configure(root, *TINY, "autoencoder.latent=16"))


def test_sampling_needs_an_autoencoder(zoo_alone):
    with pytest.raises(UserError, match="no trained autoencoder"):
        sample_population(configure(zoo_alone, *TINY))
    assert sample_population(
        configure(zoo_alone, *TINY, "sampler=soup")
    ).finished  # in the space of weights: it needs none


def test_a_half_trained_autoencoder_is_not_sampled_from(root, zoo_alone, monkeypatch):
    words = [*TINY, "autoencoder.optimizer.schedule=constant"]
    validate = AutoencoderModule.validate_now

    def stop(module):
        if module.done == 2:
            raise KeyboardInterrupt
        return validate(module)

    monkeypatch.setattr(AutoencoderModule, "validate_now", stop)
    with pytest.raises(KeyboardInterrupt):
        train_hyperrep(configure(zoo_alone, *words, "autoencoder.optimizer.epochs=3"))
    with pytest.raises(UserError, match="was trained for 1 of 3 epochs: task=hyperrep with the same overrides goes on"):
        sample_population(configure(zoo_alone, *words))
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"autoencoder\.optimizer\.epochs was 3, now 2"):
        train_hyperrep(configure(zoo_alone, *words, "autoencoder.optimizer.epochs=2"))
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.optimizer.epochs=3"))
    asked = ["autoencoder.optimizer.epochs=99", "autoencoder.optimizer.lr=0.5"]  # means nothing to a trained one
    optimizer = sample_population(configure(zoo_alone, *words, *asked)).description["spec"]["autoencoder"]["optimizer"]
    assert (optimizer["epochs"], optimizer["lr"]) == (3, 1e-3)


def test_an_autoencoder_belongs_to_the_models_it_was_trained_on(root, tmp_path):
    """A zoo that was made again with other splits has trained models among its unseen ones."""
    shutil.copytree(root / "hyperreps", tmp_path / "hyperreps")
    again = [word for word in TINY if not word.startswith("autoencoder")] + ["zoo.split_seed=7"]
    train(tmp_path, *again)
    for task in (train_hyperrep, sample_population):
        with pytest.raises(UserError, match="holds another autoencoder: made_from was"):
            task(configure(tmp_path, *TINY, "zoo.split_seed=7"))


def test_the_best_autoencoder_is_kept_and_not_the_last(zoo_alone, monkeypatch):
    validate, losses = AutoencoderModule.validate_now, iter([1.0, 2.0, 1.5])
    monkeypatch.setattr(AutoencoderModule, "validate_now", lambda m: validate(m) | {"val/loss": next(losses)})
    words = [*TINY, "autoencoder.optimizer.schedule=constant", "autoencoder.name=best"]
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.optimizer.epochs=1"))
    folder = zoo_alone / "hyperreps" / "digits_seed" / "best"
    before = hashes(folder)
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.optimizer.epochs=3"))
    after = hashes(folder)
    tensors = [from_safetensors((folder / name).read_bytes()) for name in ("best.safetensors", "last.safetensors")]
    assert before["last.safetensors"] != after["last.safetensors"]
    assert before["best.safetensors"] == after["best.safetensors"]
    assert any(not torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


def test_a_damaged_checkpoint_and_a_diverged_training_are_a_sentence(zoo_alone):
    words = [*TINY, "autoencoder.name=diverged", "autoencoder.optimizer.lr=1e30", "autoencoder.optimizer.epochs=3"]
    with pytest.raises(UserError, match="its loss on validation models was never finite"):
        train_hyperrep(configure(zoo_alone, *words))
    file = zoo_alone / "hyperreps" / "digits_seed" / "diverged" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last\.safetensors is missing or damaged"):
        train_hyperrep(configure(zoo_alone, *words))


def test_no_file_that_was_altered_is_used_in_silence(zoo_alone):
    """One bit in each file: what can be made again is, with the same bytes; the rest is told."""
    words = [*TINY, "sampler=kde", "population.name=drawn"]
    config = configure(zoo_alone, *words)

    def do():
        train_hyperrep(config)
        sample_population(config)
        audit_population(config)

    do()
    before = hashes(zoo_alone)
    files = [
        file
        for folder in ("hyperreps", "audits", "zoos/drawn/weights")
        for file in sorted((zoo_alone / folder).rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    ]
    assert {file.suffix for file in files} == {".json", ".csv", ".safetensors"}
    told = []
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
        try:
            do()
            assert hashes(zoo_alone) == before, file
        except UserError as error:
            told.append((file.name, f"{file} is missing or damaged (its hash" in str(error)))
            file.write_bytes(content)
    assert told == [("best.safetensors", True), ("hyperrep.json", True), ("last.safetensors", True)]


@pytest.mark.parametrize("task", [train_hyperrep, sample_population])
def test_the_second_of_two_at_once_is_told_who_is_at_work(root, tmp_path, task):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    config = configure(tmp_path, *TINY, "sampler=kde", "population.name=drawn")
    lock = {"train_hyperrep": "hyperreps/digits_seed/small/.lock", "sample_population": "zoos/.drawn.lock"}[
        task.__name__
    ]
    with locked(tmp_path / lock), pytest.raises(UserError, match=r"another process \(process \d+ on .*\) is"):
        task(config)
    task(config)


def test_what_is_watched_while_training(root, zoo_alone, monkeypatch):
    """R² overall and by layer, loss and accuracy, against the autoencoder's reconstructions as plain modules."""
    seen, validate = [], AutoencoderModule.validate_now

    def watch(module):
        seen.append((module, validate(module), {k: v.clone() for k, v in module.autoencoder.state_dict().items()}))
        return seen[-1][1]

    monkeypatch.setattr(AutoencoderModule, "validate_now", watch)
    config = configure(
        zoo_alone, *TINY, "autoencoder.loss.behaviour=0.5", "autoencoder.loss.contrast=0.25", "autoencoder.optimizer.epochs=1",
        "logger=csv", "autoencoder.loss.normalise=false",
    )  # fmt: skip
    train_hyperrep(config)
    ((module, measured, state),) = seen
    module.autoencoder.load_state_dict(state)
    module.autoencoder.eval()
    assert module.autoencoder.training is False
    images, mean = module.images, module.states["train"].weights.mean(0)
    for name, split in (("seen", "train"), ("val", "val")):
        states = module.states[split].at(4)
        with torch.no_grad():
            decoded = module.autoencoder(states.weights)[1]

        def r2(got, wanted, around):
            return 1 - ((got - wanted) ** 2).sum() / ((wanted - around) ** 2).sum()

        assert measured[f"{name}/r2"] == pytest.approx(float(r2(decoded, states.weights, mean)), abs=1e-5)
        first, conv2 = slice(0, 208), slice(208, 208 + 1206)
        for layer, of in (("conv1", first), ("conv2", conv2)):
            wanted = r2(decoded[:, of], states.weights[:, of], mean[of])
            assert measured[f"{name}/r2_{layer}"] == pytest.approx(float(wanted), abs=1e-5)
        modules = [[module.arch.module("tanh", 0.0).eval() for _ in states.weights] for _ in range(2)]
        for networks, weights in zip(modules, (states.weights, decoded)):
            for network, row in zip(networks, weights):
                network.load_state_dict(module.arch.state_dict(row))
        pixels = images.normalise(images.val.pixels)
        with torch.no_grad():
            logits = [torch.stack([network(pixels) for network in networks]) for networks in modules]
        accuracy = (logits[1].argmax(2) == images.val.labels).float().mean()
        assert measured[f"{name}/accuracy"] == pytest.approx(float(accuracy), abs=1e-6)
        p, q = (part[:, :256].log_softmax(2) for part in logits)
        divergence = (p.exp() * (p - q)).sum(2).mean()
        loss = 0.75 * ((decoded - states.weights) ** 2).mean() + 0.5 * divergence
        assert measured[f"{name}/loss"] == pytest.approx(float(loss), rel=1e-4)
    logged = pd.read_csv(next((zoo_alone / "logs").rglob("metrics.csv"))).iloc[-1]
    assert logged["train/loss"] == pytest.approx(
        0.75 * logged["train/reconstruction"] + 0.25 * logged["train/contrast"] + 0.5 * logged["train/behaviour"],
        rel=1e-4,
    )


def test_bf16_trains(zoo_alone):
    words = [*TINY, "autoencoder.name=bf16", "autoencoder.loss.behaviour=0.5", "autoencoder.loss.contrast=0.25"]
    train_hyperrep(configure(zoo_alone, *words, "autoencoder.optimizer.bf16=true"))
    results = pd.read_csv(zoo_alone / "hyperreps" / "digits_seed" / "bf16" / "results.csv")
    assert results["r2"].notna().all()
    assert results["uses_images"].all()


def test_the_audit_against_plain_modules(root):
    config = configure(root, *TINY, "sampler=soup", "sampler.top=0.5", "population.name=audited", "population.models=3")
    population, zoo = sample_population(config), Zoo.open(root / "zoos" / "digits_seed")
    found, images = audit_population(config), read_images(config)
    pixels, labels = images.normalise(images.test.pixels), images.test.labels

    def logits(module):
        with torch.no_grad():
            return module(pixels)

    drawn = torch.stack([logits(population.module(i, 0)) for i in range(3)])
    accuracy = (drawn.argmax(2) == labels).float().mean(1)
    assert found.accuracy == pytest.approx(float(accuracy.mean()))
    assert found.accuracy_std == pytest.approx(float(accuracy.std(correction=0)), abs=1e-6)
    assert found.ensemble == pytest.approx(float((drawn.softmax(2).mean(0).argmax(1) == labels).float().mean()))
    trained = zoo.models[zoo.models["split"] == "train"]["model_id"].tolist()
    states = [(m, logits(zoo.module(m, e)).argmax(1)) for m in trained for e in (3, 4)]
    apart = [[float((one.argmax(1) != other).float().mean()) for _, other in states] for one in drawn]
    assert found.nearest == pytest.approx(np.mean([min(row) for row in apart]))
    pairs = [float((drawn[i].argmax(1) != drawn[j].argmax(1)).float().mean()) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.within == pytest.approx(np.median(pairs))
    metrics = zoo.metrics
    peers = []
    for m in zoo.models["model_id"]:
        own = metrics[metrics["model_id"] == m]
        away = (own["test_acc"] - float(accuracy.median())).abs()
        if away.min() <= max(0.05, float(accuracy.std(correction=0))):
            peers.append((m, logits(zoo.module(m, int(own["epoch"].iloc[away.argmin()]))).argmax(1)))
    assert 1 < len(peers) < len(zoo.models), "some are as accurate, others never were"
    between = [float((a != b).float().mean()) for i, (_, a) in enumerate(peers) for _, b in peers[:i]]
    assert found.zoo_within == pytest.approx(np.median(between))
    nearest = [min(float((a != b).float().mean()) for n, b in states if n != m) for m, a in peers]
    assert found.zoo_nearest == pytest.approx(np.mean(nearest))

    def overlap(a, b):
        wrong, theirs = a != labels, b != labels
        return float((wrong & theirs).sum() / (wrong | theirs).sum())

    for own, reference in ((found.iou, [(None, one.argmax(1)) for one in drawn]), (found.zoo_iou, peers)):
        assert own == pytest.approx(np.mean([max(overlap(a, b) for n, b in states if n != m) for m, a in reference]))
    assert found.zoo_iou_q05 <= found.zoo_iou_q50 <= found.zoo_iou_q95 < 1
    anchors = read_states(zoo, config.autoencoder, root / "hyperreps" / "digits_seed", images)["train"]
    best = anchors.table["val_acc"] >= anchors.table["val_acc"].quantile(0.5)
    centre = Architecture.from_dict(zoo.description["arch"]).module("tanh", 0.0).eval()
    centre.load_state_dict(
        Architecture.from_dict(zoo.description["arch"]).state_dict(anchors.weights[torch.tensor(best.tolist())].mean(0))
    )
    assert found.centroid == pytest.approx(float((logits(centre).argmax(1) == labels).float().mean()))


def test_one_network_is_not_called_various(root):
    config = configure(root, *TINY, "sampler=soup", "population.name=single", "population.models=1")
    sample_population(config)
    assert audit_population(config).verdict == "unknown"


def test_choosing_by_test_accuracy_is_told(root):
    config = configure(root, *TINY, "sampler=kde30", "sampler.top_by=test", "population.name=by_test")
    sample_population(config)
    assert "by test accuracy, ON WHICH THEY ARE REPORTED" in audit_population(config).about


def test_another_population_under_the_same_name_is_refused(root):
    sample_population(configure(root, *TINY, "sampler=soup", "population.name=twice"))
    with pytest.raises(
        UserError, match=r"spec\.models=12, now 13: choose another zoo.name .sparsify.twin of a twin, population.name"
    ):
        sample_population(configure(root, *TINY, "sampler=soup", "population.name=twice", "population.models=13"))


def test_a_sampler_of_the_user_that_draws_nonsense_is_told(root, monkeypatch):
    monkeypatch.setattr(SoupSampler, "sample", lambda self, n, seed: np.zeros((n, 3)))
    with pytest.raises(
        UserError, match=r"SoupSampler.sample drew \[12, 3\], but 12 points of 2464 dimensions are wanted"
    ):
        sample_population(configure(root, *TINY, "sampler=soup", "population.name=nonsense"))
    monkeypatch.setattr(SoupSampler, "sample", lambda self, n, seed: np.zeros((n, 2464)))  # float64 is taken
    assert sample_population(configure(root, *TINY, "sampler=soup", "population.name=zeros")).finished


def test_networks_with_chosen_properties_have_them(tmp_path):
    hyp = ["zoo=digits_hyp10f", "zoo.models=24", "zoo.epochs=4", "dataset.train_size=300"]
    train(tmp_path, *hyp)
    words = [*TINY, *hyp, "sampler=flow", "sampler.steps=5"]
    train_hyperrep(configure(tmp_path, *words))
    population = sample_population(
        configure(tmp_path, *words, "sampler.condition={activation:relu,optimizer:sgd,lr:null}", "population.models=30")
    )
    assert set(population.models["activation"]) == {"relu"}
    assert set(population.models["optimizer"]) == {"sgd"}
    assert population.models["lr"].nunique() > 1  # as the anchors have it
    assert population.module(0, 0)[2].__class__.__name__ == "ReLU"
    for name in ("test_acc", "model_id"):
        with pytest.raises(
            UserError, match=f"{name} unknown; these anchors have val_accuracy, epoch, init, activation"
        ):
            sample_population(configure(tmp_path, *words, f"sampler.condition={{{name}:1}}", "population.name=other"))


def test_a_zoo_of_diverged_models_is_a_sentence(tmp_path):
    words = [
        *ZOO, "zoo.models=8", "zoo.grid.optimizer=[sgd]", "zoo.grid.lr=[1e18]", "zoo.grid.activation=[relu]", "zoo.epochs=2",
    ]  # fmt: skip
    train(tmp_path, *words)
    for align in ("weights", "activations", "none"):
        with pytest.raises(UserError, match="has no finite state in its train split at epochs"):
            train_hyperrep(configure(tmp_path, *TINY, *words, "autoencoder.states=[1,2]", f"autoencoder.align={align}"))


def test_what_diverges_later_is_audited_and_learnt_only_if_it_can_be_aligned(tmp_path):
    """Half of the zoo diverges after its epoch 0; those states are finite, and copies of them are copies."""
    words = [
        *ZOO, "zoo.models=40", "zoo.grid.optimizer=[sgd]", "zoo.grid.lr=[1e-2,1e18]", "zoo.grid.activation=[relu]",
        "zoo.epochs=2", "autoencoder.states=[0,2]", "sampler=nearest",
    ]  # fmt: skip
    train(tmp_path, *words)
    config = configure(tmp_path, *TINY, *words, "autoencoder.align=none")
    sample_population(config)
    assert audit_population(config).nearest == 0
    zoo = Zoo.open(tmp_path / "zoos" / "digits_seed")
    for align, epochs in (("none", {0}), ("weights", set())):
        config = configure(tmp_path, *TINY, *words, f"autoencoder.align={align}")
        states = read_states(zoo, config.autoencoder, tmp_path / "hyperreps", read_images(config))["train"]
        diverging = states.table["lr"] == 1e18
        assert set(states.table["epoch"][diverging]) == epochs
        assert set(states.table["epoch"][~diverging]) == {0, 2}


def test_without_validation_images_training_watches_training_images(tmp_path):
    words = [
        *ZOO, "zoo.models=20", "zoo.epochs=4", "dataset.protocols.plain.val=0",
        "dataset.protocols.plain.train=1497", "autoencoder.loss.behaviour=0.5", "autoencoder.optimizer.epochs=1",
    ]  # fmt: skip
    train(tmp_path, *words)
    train_hyperrep(configure(tmp_path, *TINY, *words))
    with pytest.raises(UserError, match="dataset=digits has no validation images to choose by"):
        configure(tmp_path, "task=sample", *TINY, *words, "sampler=gaussian_wide30")
