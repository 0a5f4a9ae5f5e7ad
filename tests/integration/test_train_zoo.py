"""`task=zoo` from a configuration to a store that opens, on real digits, in this process."""

import hashlib
import importlib.metadata
import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wandb
from hydra import compose, initialize_config_dir

import run
from analysis.show.dashboard import write_dashboard
from tests.dataset_files import write_cifar10
from tests.wandb_log import read_run
from zoo import Zoo
from zoo.base.console import duration
from zoo.base.errors import UserError
from zoo.base.versions import version_of, versions
from zoo.config.combinations import architecture
from zoo.config.reading import read_config
from zoo.config.sections import Config
from zoo.engines.fused_engine import FusedEngine
from zoo.networks.initialization import initial_module
from zoo.training.opening import open_zoo
from zoo.training.plan import Pace, estimate, measure_pace, plan_zoo
from zoo.training.train import train_zoo, zoo_models

SMALL = ["zoo.models=6", "zoo.epochs=2", "dataset.train_size=60", "logger=none"]


def configure(root: Path, *overrides: str) -> Config:
    with initialize_config_dir(str(run.CONFIG_DIR), version_base="1.3"):
        return read_config(compose("config", [f"paths.root={root}", *SMALL, *overrides]), run.Config)


def train(root: Path, *overrides: str) -> Zoo:
    config = configure(root, *overrides)
    train_zoo(config)
    return Zoo.open(root / "zoos" / config.zoo.name)


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file, hidden ones too."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "provenance.json"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def hyp_zoo(tmp_path_factory) -> Zoo:
    """A few models of a grid over every factor."""
    return train(tmp_path_factory.mktemp("hyp"), "zoo=digits_hyp10f", "zoo.models=10")


def test_a_trained_zoo_keeps_the_contract_of_names(hyp_zoo):
    models, metrics = hyp_zoo.models, hyp_zoo.metrics
    assert {
        "model_id",
        "seed",
        "init",
        "activation",
        "optimizer",
        "lr",
        "weight_decay",
        "dropout",
        "split",
        "status",
    } <= set(models)
    scores = ["train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc"]
    assert {"model_id", "epoch", *scores, *(f"test_acc_class_{c}" for c in range(10))} <= set(metrics)
    assert len(metrics) == 10 * 3
    assert hyp_zoo.weights().shape == (10, 3, 2464)
    assert hyp_zoo.weights().dtype == np.float32
    assert metrics[["train_acc", "val_acc", "test_acc"]].stack().between(0, 1).all()
    assert set(models["status"]) <= {"ok", "diverged"}
    assert hyp_zoo.verify() == []


def test_epoch_0_is_the_untrained_model(hyp_zoo):
    row = hyp_zoo.models.iloc[4]
    arch = architecture(configure(Path("unused"), "zoo=digits_hyp10f"))
    expected = arch.weights(initial_module(arch, int(row["seed"]), row["init"], row["activation"], row["dropout"]))
    assert np.array_equal(hyp_zoo.weights(models=[4], epochs=[0])[0, 0], expected.numpy())


def test_stored_metrics_are_those_of_the_stored_module(hyp_zoo):
    """A module from the store, evaluated by hand on images loaded by hand, scores what metrics.parquet says."""
    from zoo.images.data import load_images

    config = configure(Path("unused"), "zoo=digits_hyp10f")
    data = load_images(config.dataset, "plain", 28, Path("unused"), [])
    for model in (0, 7):
        module = hyp_zoo.module(model, 2)
        with torch.no_grad():
            right = module(data.normalise(data.test.pixels)).argmax(1) == data.test.labels
        row = hyp_zoo.metrics.query("model_id == @model and epoch == 2").iloc[0]
        assert row["test_acc"] == right.double().mean().item()
        assert row["test_acc_class_3"] == right[data.test.labels == 3].double().mean().item()


def test_the_torch_dataset_gives_weights_and_properties(hyp_zoo):
    dataset = hyp_zoo.dataset("train", [1, 2], properties=["test_acc", "ggap", "epoch", "lr", "activation"])
    weights, properties = dataset[3]
    assert weights.shape == (2464,)
    assert set(properties) == {"test_acc", "ggap", "epoch", "lr", "activation"}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "loop"])
def test_any_block_size_gives_the_same_models(tmp_path, engine):
    """Promise 4 at the level of the store; every factor differs within a block."""
    zoos = [
        train(
            tmp_path / str(size),
            "zoo=digits_hyp10f",
            f"engine={engine}",
            f"zoo.block_size={size}",
            f"engine.threads={threads}",
        )
        for size, threads in ((100, 2), (1, 1), (4, 2))
    ]
    for zoo in zoos[1:]:
        assert np.array_equal(zoo.weights(), zoos[0].weights(), equal_nan=True)
        pd.testing.assert_frame_equal(zoo.metrics, zoos[0].metrics)
        pd.testing.assert_frame_equal(zoo.models, zoos[0].models)


def test_a_zoo_is_not_gone_on_with_on_a_processor_that_has_other_bits(tmp_path, monkeypatch):
    """PyTorch's own loops have; those of the fused engine are the same everywhere."""
    for engine in ("loop", "fused"):
        zoo = train(tmp_path, f"engine={engine}", f"zoo.name={engine}")
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
        monkeypatch.setattr("zoo.engines.engine.of_processor", lambda fact: "Another")
        before = hashes(zoo.path)
        train(tmp_path, f"engine={engine}", f"zoo.name={engine}")  # all is there
        assert hashes(zoo.path) == before
        if engine == "loop":
            with pytest.raises(UserError, match="this is AVX512 Another, and engine=loop has other last bits"):
                train(tmp_path, f"engine={engine}", f"zoo.name={engine}", "zoo.epochs=3")
            assert hashes(zoo.path) == before
        else:
            assert train(tmp_path, f"engine={engine}", f"zoo.name={engine}", "zoo.epochs=3").epochs[-1] == 3
        monkeypatch.undo()


def test_any_number_of_shards_gives_the_same_bytes(tmp_path, capsys):
    words = ["zoo=digits_hyp10f", "zoo.models=7", "zoo.block_size=2"]
    whole = hashes(train(tmp_path / "whole", *words).path)
    for parts, order in ((2, (2, 1)), (3, (3, 1, 2)), (6, (5, 6, 1, 2, 4, 3))):
        root = tmp_path / str(parts)
        for part in order:
            zoo = train(root, *words, f"zoo.shard={part}/{parts}")
            assert zoo.finished == (zoo.pending == 0)
            if part == order[0] and parts < 6:
                assert 0 < zoo.pending < 7, "a shard trains its own models only"
        assert hashes(zoo.path) == whole
    told = "Shard 1/6 is empty: the 7 models of zoo digits_hyp10f are cut between blocks of 2 (zoo.block_size)."
    assert capsys.readouterr().out.count("is empty") == 2
    train(tmp_path / "6", *words, "zoo.shard=1/6")
    assert told in capsys.readouterr().out


def test_shards_grow_a_zoo_and_go_on_from_other_blocks(tmp_path):
    """A zoo that was begun in blocks of another size: its blocks stay, whoever's range they begin in."""
    train(tmp_path, "zoo.models=3", "zoo.block_size=3", "zoo.epochs=1")
    for part in (1, 2):
        zoo = train(tmp_path, "zoo.models=8", "zoo.block_size=2", f"zoo.shard={part}/2")
    assert zoo.finished
    assert [(block.first, block.last) for block in zoo.blocks(2)] == [(0, 2), (3, 3), (4, 5), (6, 7)]
    assert zoo.verify() == []
    whole = train(tmp_path / "whole", "zoo.models=8")
    assert np.array_equal(zoo.weights(), whole.weights())


def test_training_again_changes_nothing_and_growing_keeps_what_is_there(tmp_path):
    zoo = train(tmp_path, "zoo.models=4", "zoo.block_size=2")
    before = hashes(zoo.path)
    train(tmp_path, "zoo.models=4", "zoo.block_size=2")
    assert hashes(zoo.path) == before
    grown = train(tmp_path, "zoo.models=6", "zoo.epochs=3", "zoo.block_size=2")
    at_once = train(tmp_path / "at_once", "zoo.models=6", "zoo.epochs=3", "zoo.block_size=2")
    after = hashes(grown.path)
    assert all(after[name] == digest for name, digest in before.items() if "epoch-" in name)
    assert after == hashes(at_once.path)


def test_damaged_models_that_are_not_asked_for_are_told(tmp_path):
    zoo = train(tmp_path, "zoo.models=6", "zoo.block_size=4")
    before = hashes(zoo.path)
    state = zoo.path / "weights" / "00000-00003" / "epoch-0001.safetensors"
    state.write_bytes(state.read_bytes() + b"x")
    with pytest.raises(
        UserError, match="models 0-3 of zoo 'digits_seed' are to be trained again: ask for all of its 6"
    ):
        train(tmp_path, "zoo.models=3", "zoo.block_size=4")
    train(tmp_path, "zoo.models=6", "zoo.block_size=4")
    assert hashes(zoo.path) == before


def test_another_zoo_of_the_same_name_is_refused_and_not_harmed(tmp_path):
    zoo = train(tmp_path)
    before = hashes(zoo.path)
    for other in ("dataset.train_size=50", "zoo.grid.lr=[1e-2]", "zoo.batch_size=20", "seed=1", "engine=loop"):
        with pytest.raises(UserError, match=r"zoo\.name"):
            train(tmp_path, other)
    assert hashes(zoo.path) == before


def test_train_eval_scores_the_training_images(tmp_path):
    zoo = train(tmp_path, "metrics.train_eval=true", "zoo.epochs=3", "dataset.train_size=200")
    metrics = zoo.metrics
    start, later = metrics[metrics["epoch"] == 0], metrics[metrics["epoch"] == 3]
    assert np.array_equal(start["train_acc"], start["train_eval_acc"])
    assert (later["train_eval_loss"] < later["train_loss"]).all(), "weights get better during an epoch"


def test_diverged_models_are_kept_and_flagged(tmp_path):
    zoo = train(
        tmp_path, "zoo.grid.optimizer=[sgd]", "zoo.grid.lr=[1e-2,1e18]", "zoo.grid.activation=[relu]", "zoo.models=4"
    )  # fmt: skip
    models = zoo.models.set_index("lr")
    assert (models.loc[1e-2, "status"] == "ok").all()
    assert (models.loc[1e18, "status"] == "diverged").all()
    assert (models.loc[1e18, "diverged_epoch"] == 1).all()
    assert len(zoo.weights()) == 4


@pytest.mark.slow
def test_resnet_zoo_on_generated_cifar_files(tmp_path):
    """Two ResNet-18s for a few steps: the whole path with BatchNorm buffers, augmentation, OneCycle and a resume."""
    (tmp_path / "data").mkdir()
    write_cifar10(tmp_path / "data", n_train=20, n_test=8)
    small = [
        "zoo=cifar10_resnet18_seed", "zoo.models=2", "zoo.batch_size=8", "dataset.train_size=null",
        f"paths.data={tmp_path / 'data'}", "dataset.files.archive.md5=null", "dataset.protocols.augmented.train=16",
        "dataset.protocols.augmented.val=4", "dataset.protocols.augmented.test=8",
        "dataset.protocols.plain.train=16", "dataset.protocols.plain.val=4", "dataset.protocols.plain.test=8",
    ]  # fmt: skip
    zoo = train(tmp_path, *small)
    assert zoo.weights(epochs=[2]).shape == (2, 1, 11_173_962)
    assert zoo.buffers(epochs=[2]).shape == (2, 1, 9620)
    module = zoo.module(1, 2)
    assert module.bn1.num_batches_tracked == 4
    assert not np.array_equal(zoo.weights(epochs=[0]), zoo.weights(epochs=[2]))
    with pytest.raises(UserError, match="epochs"):
        train(tmp_path, *small, "zoo.epochs=3")  # OneCycle spans the epochs: a longer training is another one


def test_wandb_offline_run_reads_back(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    zoo = train(tmp_path, "logger=wandb_offline", "logger.sweep=my_sweep")
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    logged = read_run(log)
    assert (logged["name"], logged["group"], logged["job_type"]) == ("digits_seed", "digits_seed", "zoo")
    assert set(logged["tags"]) == {"digits", "my_sweep"}
    kind, about, inside = logged["artifacts"]["digits_seed"]
    assert (kind, about["models"]) == ("zoo", 6)
    assert set(inside) == {"manifest.json", "zoo/provenance.json", *(f"zoo/{name}" for name in hashes(zoo.path))}
    assert logged["config"]["zoo"]["grid"]["lr"] == [1e-3]
    assert logged["config"]["dataset"]["train_size"] == 60
    curve = {row["epoch"]: row for row in logged["history"] if "zoo/val_acc/mean" in row}
    for epoch, rows in zoo.metrics.groupby("epoch"):
        assert curve[epoch]["zoo/val_acc/mean"] == pytest.approx(rows["val_acc"].mean())
        assert curve[epoch]["zoo/test_acc/q50"] == pytest.approx(rows["test_acc"].median())
        assert curve[epoch]["zoo/test_acc/histogram"]["_type"] == "histogram"
        assert sum(curve[epoch]["zoo/test_acc/histogram"]["values"]) == 6
    (table,) = (row["models"] for row in logged["history"] if "models" in row)
    assert (table["_type"], table["nrows"]) == ("table-file", 6)


def test_wandb_run_of_a_shard_goes_on(tmp_path, monkeypatch):
    """A shard has a run of its own; queued again, it is the same run."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    for epochs in (1, 2):
        train(tmp_path, "logger=wandb_offline", "zoo.shard=1/2", "zoo.block_size=2", f"zoo.epochs={epochs}")
        time.sleep(1.1)  # W&B names folders by the second
    first, again = (read_run(log) for log in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")))
    assert first["name"] == "digits_seed 1 of 2"
    assert again["id"] == first["id"]
    assert not first["artifacts"]
    train(tmp_path, "logger=wandb_offline", "zoo.shard=2/2", "zoo.block_size=2")
    (other,) = (read_run(log) for log in tmp_path.glob("wandb/offline-run-*/*.wandb") if first["id"] not in log.name)
    assert other["group"] == first["group"] == "digits_seed"
    assert "digits_seed" in other["artifacts"], "of the last shard: it finished the zoo"


def test_who_only_finishes_a_zoo_logs_it(tmp_path, monkeypatch):
    """A job that was killed between its last state and the zoo's tables: the next one has nothing to train."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    zoo = train(tmp_path, "logger=none")
    (zoo.path / "manifest.json").unlink()
    train(tmp_path, "logger=wandb_offline")
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert "digits_seed" in read_run(log)["artifacts"]
    train(tmp_path, "logger=wandb_offline")
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1, "it is finished: nothing to tell"


def test_the_dashboard_shows_what_is_logged(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = configure(tmp_path, "logger=wandb_offline", "logger.project=mine")
    write_dashboard(config)
    train(tmp_path, "logger=wandb_offline")
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    logged = {key for row in read_run(log)["history"] for key in row}
    for name in ("workspace", "report"):
        text = (tmp_path / "dashboard" / f"{name}.json").read_text()
        assert "mine" in json.dumps(json.loads(text))
        shown = set(re.findall(r'"(zoo/[a-z0-9_/]+)"', text))
        assert "zoo/test_acc/mean" in shown
        assert shown <= logged, "it shows what nobody logs"
        assert '"models"' in text


def test_csv_curves(tmp_path):
    zoo = train(tmp_path, "logger=csv")
    (file,) = tmp_path.glob("logs/digits_seed/*/metrics.csv")
    curves = pd.read_csv(file).dropna(subset=["zoo/test_acc/mean"])
    expected = zoo.metrics.groupby("epoch")["test_acc"].mean()
    assert np.allclose(curves.set_index("epoch")["zoo/test_acc/mean"], expected)


def test_plan_prints_the_spec_and_writes_nothing(tmp_path, capsys):
    plan_zoo(configure(tmp_path, "zoo=svhn_hyp10f", "zoo.models=null", "zoo.epochs=50", "dataset.train_size=null"))
    printed = capsys.readouterr().out
    assert "4320" in printed
    assert "220320" in printed  # states
    assert "2464" in printed
    assert "1,296,000,000 steps" in printed
    assert "training and evaluation" in " ".join(printed.replace("│", "").split())
    assert list(tmp_path.iterdir()) == []


def test_a_plan_trains_all_models_for_many_steps_at_a_time(tmp_path, monkeypatch):
    """A step at a time finds each model's weights outside the caches, and takes longer than training does."""
    config, trained = configure(tmp_path, "zoo=digits_seed", "zoo.models=4"), []
    train = FusedEngine.train
    monkeypatch.setattr(FusedEngine, "train", lambda self, *steps: trained.append(steps) or train(self, *steps))
    arch = architecture(config)
    models, start = zoo_models(config, arch)
    pace = measure_pace(config, arch, models, start)
    assert trained[-1][1] - trained[-1][0] >= 20
    assert [first for first, _ in trained[1:]] == [last for _, last in trained[:-1]], "one step after another"
    assert 0 < pace.fastest <= pace.slowest
    found = estimate(config, arch, models)
    split = config.dataset.protocols[config.arch.protocol]
    assert found.evaluated == found.states * (split.val + split.test) + found.images // config.zoo.epochs
    assert Pace(1.0, 1.0, 0.0).duration(found) == duration(found.images)
    assert Pace(1.0, 2.0, 0.0).duration(found) == f"{duration(found.images)} to {duration(2 * found.images)}"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_mode_of_the_environment_is_honoured(tmp_path, monkeypatch, mode):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", mode)
    train(tmp_path, "logger=wandb", "zoo.models=2", "zoo.epochs=0")
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == (1 if mode == "offline" else 0)


def test_a_logger_that_fails_is_done_without_and_the_zoo_is_finished(tmp_path, monkeypatch, caplog):
    def gone(*_, **__):
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr("pytorch_lightning.loggers.CSVLogger.log_metrics", gone)
    with caplog.at_level("WARNING", "zoo"):
        zoo = train(tmp_path, "logger=csv", "zoo.models=2", "zoo.epochs=1")
    assert zoo.finished
    assert "cannot be written to (Connection lost)" in caplog.text


def test_wandb_that_does_not_let_us_in_is_told(tmp_path, monkeypatch):
    def refused(**_):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr("wandb.init", refused)
    with pytest.raises(UserError, match=r"logger=wandb: W&B says: No API key configured\.\. Log in with `wandb login`"):
        train(tmp_path, "logger=wandb", "zoo.models=2", "zoo.epochs=0")


def test_a_zoo_that_is_not_there_comes_with_advice(hyp_zoo):
    root = hyp_zoo.path.parents[1]
    for words, said in (
        (["zoo=mnist_seed", "zoo.epochs=3"], "make it with `python run.py zoo=mnist_seed zoo.epochs=3`$"),
        (["zoo.name=elsewhere"], "check the name; there are digits_hyp10f$"),
        (
            ["zoo=digits_hyp10f", "zoo.models=9", "task=analysis"],
            "got 9, but zoo 'digits_hyp10f' has 10 models, and task=analysis",
        ),
    ):
        config = configure(root, *words)
        config.overrides = words
        with pytest.raises(UserError, match=said):
            open_zoo(config)


def test_a_zoo_is_trained_where_hyperzoo_is_not_installed(monkeypatch):
    """Its folder is enough for `python run.py`."""
    known = importlib.metadata.version

    def version(package):
        if package == "hyperzoo":
            raise importlib.metadata.PackageNotFoundError(package)
        return known(package)

    monkeypatch.setattr("zoo.base.versions.version", version)
    assert version_of("hyperzoo") == versions()["hyperzoo"] == "not installed"
    assert versions()["numpy"] == np.__version__
