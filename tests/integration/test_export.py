"""`task=export`: what others read of it is what the zoo holds."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.integration.test_sparsify import sparsify
from tests.integration.test_train_zoo import configure, train
from tests.published_zoo import CNN
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.base.files import locked
from zoo.base.names import SCORES
from zoo.exchange.export import export_zoo
from zoo.exchange.imports import import_zoo
from zoo.training.train import train_zoo

WORDS = ["zoo=digits_hyp10r", "zoo.models=20", "zoo.epochs=2", "zoo.license=CC-BY-4.0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("export")
    train(path, *WORDS)
    return path


def exported(root, form: str):
    export_zoo(configure(root, *WORDS, "task=export", f"format={form}"))
    return Zoo.open(root / "zoos" / "digits_hyp10r"), root / "exports" / f"digits_hyp10r_{form}"


def test_raw_and_back(root, tmp_path):
    zoo, folder = exported(root, "raw")
    import_zoo(configure(tmp_path, WORDS[0], "zoo.models=null", "task=import", f"source={folder}", "engine.threads=1"))
    back = Zoo.open(tmp_path / "zoos" / "digits_hyp10r")
    assert np.array_equal(back.weights(), zoo.weights(), equal_nan=True)
    assert back.metrics["whole"].eq(1).all()
    pd.testing.assert_frame_equal(back.metrics.drop(columns="whole"), zoo.metrics)
    pd.testing.assert_frame_equal(back.models.drop(columns="trial"), zoo.models)
    assert pd.read_csv(tmp_path / "imports" / "digits_hyp10r.csv").empty
    assert "licence | CC-BY-4.0" in (folder / "README.md").read_text()


def test_optimiser_states_in_the_raw_layout_and_back(root, tmp_path):
    """To the bit, of Adam and of SGD; PyTorch's own optimisers take them. One that is damaged is listed."""
    zoo, folder = exported(root, "raw")
    assert set(zoo.models["optimizer"]) == {"adam", "sgd"}
    lost = next(folder.glob("*_00003_*/checkpoint_000002/optimizer"))
    lost.write_bytes(lost.read_bytes()[:1000])
    import_zoo(configure(tmp_path, WORDS[0], "zoo.models=null", "task=import", f"source={folder}", "engine.threads=1"))
    back = Zoo.open(tmp_path / "zoos" / "digits_hyp10r")
    for model, kind in zoo.models["optimizer"].items():
        if model == 3:
            assert not any(array.any() for array in back.optimizer(model).values())
            continue
        state, again = zoo.optimizer(model), back.optimizer(model)
        assert sorted(again) == sorted(state)
        assert all(again[name].tobytes() == state[name].tobytes() for name in state)
        (file,) = folder.glob(f"*_{model:05d}_*/checkpoint_000002/optimizer")
        parameters = list(zoo.module(model, 2).parameters())
        optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[kind](parameters)
        optimizer.load_state_dict(torch.load(file, weights_only=True))
        name = {"adam": "exp_avg", "sgd": "momentum_buffer"}[kind]
        moment = torch.cat([optimizer.state[parameter][name].flatten() for parameter in parameters])
        assert moment.numpy().tobytes() == state["first_moment"].tobytes()
        sum(parameter.sum() for parameter in parameters).backward()
        optimizer.step()
    listed = pd.read_csv(tmp_path / "imports" / "digits_hyp10r.csv")
    assert listed["problem"].tolist() == ["checkpoint_000002/optimizer is damaged"]


def test_the_published_network_reads_a_raw_checkpoint(root):
    zoo, folder = exported(root, "raw")
    x = torch.randn(3, 1, 28, 28)
    for dropout in (0.0, 0.5):
        row = zoo.models[zoo.models["dropout"] == dropout].iloc[0]
        trial = next(folder.glob(f"*_{row['model_id']:05d}_*"))
        told = json.loads((trial / "params.json").read_text())
        assert told.items() >= {"model::type": "CNN", "model::channels_in": 1, "model::dropout": dropout}.items()
        lines = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
        table = pd.read_csv(trial / "progress.csv")
        assert table["test_acc"].tolist() == [line["test_acc"] for line in lines]
        assert (table["config/optim::lr"] == told["optim::lr"]).all()
        theirs = CNN(1, row["activation"], dropout)
        theirs.load_state_dict(torch.load(trial / "checkpoint_000002" / "checkpoints", weights_only=True))
        ours = zoo.module(row["model_id"], 2)
        assert torch.equal(theirs.eval()(x), ours.eval()(x))


def test_the_hub_folder_is_a_zoo_with_a_card_that_the_hub_reads(root):
    from huggingface_hub import DatasetCard

    zoo, folder = exported(root, "hub")
    (folder / ".gitattributes").write_text("*.parquet filter=lfs")  # as it comes back from the Hub
    copy = Zoo.open(folder)
    assert copy.verify() == []
    assert np.array_equal(copy.weights(), zoo.weights(), equal_nan=True)
    assert zoo.verify() == [], "the zoo itself is as it was"
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert "model-zoo" in card.data.tags
    shown = {one["config_name"]: one["data_files"] for one in card.data.to_dict()["configs"]}
    assert {name: len(pd.read_parquet(folder / file)) for name, file in shown.items()} == {"models": 20, "metrics": 60}
    assert "# Zoo digits_hyp10r" in card.text


@pytest.mark.parametrize("form", ["hub", "croissant"])
def test_who_edits_an_export_does_not_touch_the_zoo(root, form):
    zoo, folder = exported(root, form)
    for name in ("README.md", "models.parquet", "metrics.parquet", "zoo.json", "manifest.json"):
        with open(folder / name, "ab") as file:
            file.write(b"mine")
    assert zoo.verify() == []
    pd.testing.assert_frame_equal(Zoo.open(zoo.path).models, zoo.models)


def test_a_twin_in_the_raw_layout_and_back(root, tmp_path):
    """Names are those of the published code, which loads strictly: linear layers have a log_sigma2_bias that nobody reads."""
    sparsify(root, *WORDS, "dataset.train_size=60", "sparsify.epochs=1")
    twin = Zoo.open(root / "zoos" / "digits_hyp10r_vd")
    for name in (twin.name, f"{twin.name}_masked"):
        export_zoo(configure(root, WORDS[0], f"zoo.name={name}", "zoo.models=null", "task=export", "format=raw"))
    folder = root / "exports" / "digits_hyp10r_vd_raw"
    state = torch.load(next(folder.glob("*_00000_*")) / "checkpoint_000001" / "checkpoints", weights_only=True)
    parts = ("weight", "bias", "log_sigma2", "log_sigma2_bias")
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    assert len(layers) == 5
    assert set(state) == {f"{layer}.{part}" for layer in layers for part in parts}
    words = [WORDS[0], "zoo.models=null", "task=import", "engine.threads=1"]
    import_zoo(configure(tmp_path, *words, f"source={folder}"))
    back = Zoo.open(tmp_path / "zoos" / twin.name)
    assert np.array_equal(back.weights(), twin.weights(), equal_nan=True)
    pd.testing.assert_frame_equal(back.metrics[twin.metrics.columns], twin.metrics, check_exact=False, rtol=1e-6)
    import_zoo(configure(tmp_path, *words, f"source={root / 'exports' / 'digits_hyp10r_vd_masked_raw'}", "zoo.name=m"))
    masked, again = Zoo.open(root / "zoos" / f"{twin.name}_masked"), Zoo.open(tmp_path / "zoos" / "m")
    assert np.array_equal(again.weights(), masked.weights(), equal_nan=True)
    pd.testing.assert_frame_equal(again.metrics[masked.metrics.columns], masked.metrics)


def test_exports_at_once_wait_their_turn_and_nothing_is_in_the_way(root):
    target = root / "exports" / "digits_hyp10r_csv"
    target.parent.mkdir(exist_ok=True)
    with locked(target.with_name(f"{target.name}.lock")), pytest.raises(UserError, match="is being written by process"):
        exported(root, "csv")
    shutil.rmtree(target, ignore_errors=True)
    target.write_text("mine")
    with pytest.raises(UserError, match="is in the way: it is no folder"):
        exported(root, "csv")
    assert target.read_text() == "mine"
    target.unlink()


def test_the_command_that_is_told_names_the_preset(root, capsys):
    config = configure(root, *WORDS, "zoo.epochs=0", "zoo.name=other", "task=export", "format=raw")
    config.overrides = [WORDS[0], "zoo.name=other"]
    train_zoo(config)
    export_zoo(config)
    assert "python run.py task=import zoo=digits_hyp10r zoo.name=NAME source=" in capsys.readouterr().out


def test_the_hub_knows_the_command_that_is_told(root, capsys):
    exported(root, "hub")
    tool, command, *words = capsys.readouterr().out.splitlines()[-1].partition(": ")[2].split()
    assert words == ["OWNER/NAME", str(root / "exports" / "digits_hyp10r_hub"), ".", "--repo-type=dataset"]
    assert tool == "hf"
    usage = subprocess.run([Path(sys.executable).with_name("hf"), command, "--help"], capture_output=True, text=True)
    assert usage.returncode == 0, usage.stderr
    assert "--repo-type" in usage.stdout


@pytest.mark.filterwarnings("ignore")  # mlcroissant's own
def test_croissant_is_valid_and_its_records_are_the_tables(root):
    import mlcroissant as mlc

    zoo, folder = exported(root, "croissant")
    dataset = mlc.Dataset(jsonld=str(folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert Zoo.open(folder).verify() == []
    for name, table in (("models", zoo.models), ("metrics", zoo.metrics)):
        records = pd.DataFrame(list(dataset.records(name)))
        assert list(records.columns) == [f"{name}/{column}" for column in table.columns]
        assert len(records) == len(table)
        column = {"models": "seed", "metrics": "test_acc"}[name]
        assert records[f"{name}/{column}"].astype(float).tolist() == table[column].astype(float).tolist()
    altered = folder / "models.parquet"
    altered.unlink()
    zoo.models.head(3).to_parquet(altered)
    with pytest.raises(Exception, match=r"models\.parquet") as refused:
        list(mlc.Dataset(jsonld=str(folder / "croissant.json")).records("models"))
    assert "hash" in repr(refused.value.__cause__).lower()


def test_csv(root):
    zoo, folder = exported(root, "csv")
    weights = pd.read_csv(folder / "weights-0002.csv")
    assert np.array_equal(
        weights.drop(columns="model_id").to_numpy(np.float32), zoo.weights(epochs=[2])[:, 0], equal_nan=True
    )
    assert weights.columns[1] == "conv1.weight[0,0,0,0]"
    metrics = pd.read_csv(folder / "metrics.csv")
    assert np.allclose(metrics[SCORES], zoo.metrics[SCORES], equal_nan=True)
    assert pd.read_csv(folder / "models.csv")["seed"].tolist() == zoo.models["seed"].tolist()


def test_the_old_export_stays_until_the_new_one_is_in_its_place(root, monkeypatch):
    _, folder = exported(root, "csv")
    (folder / "stray").write_text("of the old one")
    replace = os.replace

    def full(source, target):
        if target == folder and source.name.endswith(".part"):
            assert not folder.exists() or "stray" in os.listdir(folder)
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            exported(root, "csv")
        assert (folder / "stray").exists()
    replace(folder, folder.with_name(f"{folder.name}.old"))  # where a kill comes between the two
    with monkeypatch.context() as patched:
        patched.setattr("zoo.exchange.export.FORMATS", {"csv": lambda zoo, part: 1 / 0})
        with pytest.raises(ZeroDivisionError):
            exported(root, "csv")
    assert (folder / "stray").exists()
    exported(root, "csv")
    assert sorted(path.name for path in folder.parent.glob(f"{folder.name}*")) == [folder.name]
    assert not (folder / "stray").exists()


def test_again_replaces_and_what_cannot_be_is_told(root, tmp_path):
    _, folder = exported(root, "csv")
    (folder / "stray").write_text("")
    exported(root, "csv")
    assert not (folder / "stray").exists()
    with pytest.raises(UserError, match="make it with"):
        export_zoo(configure(tmp_path, "zoo=digits_seed", "task=export"))
    train(tmp_path, "zoo=digits_seed", "arch=cnn_s_res", "zoo.epochs=0", "zoo.name=res")
    with pytest.raises(UserError, match="plain chain"):
        export_zoo(
            configure(tmp_path, "zoo=digits_seed", "arch=cnn_s_res", "zoo.name=res", "task=export", "format=raw")
        )
    assert not (tmp_path / "exports" / "res_raw").exists()
