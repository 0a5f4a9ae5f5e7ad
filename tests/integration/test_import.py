"""`task=import`: raw zoos written by plain PyTorch come in with the right report, and do what their authors' numbers say."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.measures.summary import viable_models
from tests.integration.test_downstream import do, results
from tests.integration.test_train_zoo import configure, hashes, train
from tests.published_zoo import CNN, CNN3, params, write_trial
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.config.combinations import architecture
from zoo.exchange.export import export_zoo
from zoo.exchange.imports import import_zoo
from zoo.exchange.raw import find_trials
from zoo.exchange.raw_states import published_names, read_state, vectors
from zoo.training.accuracy_check import measured_accuracy
from zoo.training.opening import read_images

EPOCHS = 3


def images_of(config):
    data = read_images(config)

    def of(part, n):
        pixels = (part.pixels[:n].float() / 255 - data.mean.view(1, -1, 1, 1)) / data.std.view(1, -1, 1, 1)
        return pixels, part.labels[:n]

    return of(data.train, 600), of(data.test, None)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Seven trials: the third of a model with dropout, the fourth in old folders, others damaged in several ways."""
    root = tmp_path_factory.mktemp("raw")
    folder = root / "zoos" / "tune_zoo_digits_uniform"
    train, test = images_of(configure(root, "zoo=digits_seed"))
    for number in (4, 0, 1, 2, 3, 5, 6):
        kinds = {2: params(3, "relu", 0.5), 3: params(4, "gelu")}
        write_trial(folder, number, kinds.get(number, params(number + 1)), train, test, EPOCHS, padded=number != 3)
    trials = sorted(folder.iterdir(), key=lambda path: path.name.split("_")[4])
    file = trials[1] / "checkpoint_000002" / "checkpoints"
    file.write_bytes(file.read_bytes()[:900])  # cut off
    file = trials[4] / "checkpoint_000003" / "checkpoints"
    state = torch.load(file, weights_only=True)
    state["module_list.0.weight"][0] = float("nan")  # diverged
    torch.save(state, file)
    lines = (trials[5] / "result.json").read_text().splitlines()
    (trials[5] / "result.json").write_text("\n".join([lines[0], lines[1], lines[1], lines[3][:50]]) + "\n")
    torch.save({"module_list.0.weight": Unsafe()}, trials[6] / "checkpoint_000001" / "checkpoints")
    (trials[6] / "checkpoint_000002" / "checkpoints").write_bytes(pickle.dumps(Unsafe()))
    (folder / "notes.txt").write_text("mine")
    (folder / "config.json").write_text("{}")
    return root, trials


class Unsafe:
    """What a pickle could do."""

    def __reduce__(self):
        return print, ("this must never be run",)


@pytest.fixture(scope="module")
def imported(raw, tmp_path_factory):
    root, trials = raw
    out = tmp_path_factory.mktemp("imported")
    import_zoo(configure(out, "zoo=digits_seed", "task=import", f"source={root / 'zoos'}", "zoo.models=null",
                         "engine.threads=1"))  # fmt: skip
    return out, Zoo.open(out / "zoos" / "digits_seed"), trials


def test_models_and_states(imported):
    _, zoo, trials = imported
    assert zoo.finished
    assert zoo.verify() == []
    models = zoo.models
    assert models["trial"].tolist() == [trial.name for trial in trials], "by number, not by folder"
    assert models["seed"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert models["activation"].tolist() == ["tanh", "tanh", "relu", "gelu", "tanh", "tanh", "tanh"]
    assert models["dropout"].tolist() == [0, 0, 0.5, 0, 0, 0, 0]
    assert (models["lr"] == 3e-3).all()
    assert zoo.description["protocol"]["batch_size"] == 8, "theirs; that of the preset is 10"
    for i, trial in enumerate(trials[:4]):
        for epoch in range(EPOCHS + 1):
            if (i, epoch) == (1, 2):
                continue
            files = [trial / name / "checkpoints" for name in (f"checkpoint_{epoch:06d}", f"checkpoint_{epoch}")]
            state = torch.load(next(file for file in files if file.exists()), weights_only=True)
            expected = torch.cat([value.reshape(-1) for value in state.values()]).numpy()
            assert np.array_equal(zoo.weights(models=[i], epochs=[epoch])[0, 0], expected)


def test_scores_are_found_by_their_epoch(imported):
    _, zoo, trials = imported
    metrics = zoo.metrics.set_index(["model_id", "epoch"])
    for i, trial in enumerate(trials[:4]):
        for line in map(json.loads, (trial / "result.json").read_text().splitlines()):
            assert metrics.loc[(i, line["training_iteration"]), "test_acc"] == line["test_acc"]
    twice = metrics.loc[5]
    assert np.isfinite(twice["test_acc"]).tolist() == [True, True, False, False], "a line twice, a line cut off"
    assert metrics["val_acc"].isna().all()


def test_what_cannot_be_read_is_listed(imported):
    out, zoo, _ = imported
    told = pd.read_csv(out / "imports" / "digits_seed.csv")
    told["trial"] = told["trial"].str.extract(r"_(\d{5})_")[0].fillna(told["trial"])
    by = told.groupby("trial")["problem"].apply(list).to_dict()
    assert set(by) == {"00001", "00004", "00005", "00006", "notes.txt"}
    assert by["00004"] == ["epoch 3: weights are not finite"]
    assert re.fullmatch(r"epoch 2: checkpoint_000002/checkpoints is damaged", by["00001"][0])
    assert any("line 4 cannot be read" in problem for problem in by["00005"])
    assert any("no line for epoch 2, 3" in problem for problem in by["00005"])
    assert len(by["00006"]) == 2
    assert all("could run any code" in problem for problem in by["00006"])
    weights = zoo.weights()
    lost = {(1, 2), (6, 1), (6, 2)}
    for i in range(7):
        for epoch in range(EPOCHS + 1):
            assert np.isnan(weights[i, epoch]).all() == ((i, epoch) in lost)
    assert zoo.models["status"].tolist() == ["ok", "partial", "ok", "ok", "diverged", "partial", "partial"]
    assert zoo.models["diverged_epoch"].fillna(-1).tolist() == [-1, -1, -1, -1, 3, -1, -1]
    card = (zoo.path / "README.md").read_text()
    assert "| diverged | 1 models; " in card
    assert "| partial | 3 models: some states or losses are not on record |" in card


def test_imported_models_are_as_good_as_their_authors_say(imported, capsys):
    out, zoo, _ = imported
    config = configure(out, "zoo=digits_seed", "task=import", "source=.")
    measured = measured_accuracy(config, zoo, [0, 2, 3], read_images(config))
    stored = zoo.metrics[zoo.metrics["epoch"] == EPOCHS].set_index("model_id")["test_acc"]
    assert np.allclose(measured, stored[[0, 2, 3]], atol=1e-6)
    assert measured.max() > 0.3, "they have learnt something"


def test_an_import_goes_on_and_tells_the_same(raw, imported, tmp_path):
    root, _ = raw
    out, zoo, _ = imported
    words = ["zoo=digits_seed", "task=import", f"source={root / 'zoos'}", "engine.threads=2", "zoo.models=null"]
    config = configure(tmp_path, *words)
    import_zoo(config)
    assert hashes(tmp_path / "zoos" / "digits_seed") == hashes(zoo.path), "in processes of their own, too"
    (tmp_path / "zoos" / "digits_seed" / "weights" / "00000-00006" / "epoch-0001.safetensors").unlink()
    import_zoo(config)
    assert hashes(tmp_path / "zoos" / "digits_seed") == hashes(zoo.path)
    assert (tmp_path / "imports" / "digits_seed.csv").read_bytes() == (out / "imports" / "digits_seed.csv").read_bytes()


@pytest.mark.slow
def test_everything_works_on_an_imported_zoo(imported, tmp_path, capsys):
    """Nothing is trained again; what its authors did not tell (validation, images, some scores) stops nobody."""
    out, _, _ = imported
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    before = hashes(tmp_path / "zoos" / "digits_seed" / "weights")
    words = ["zoo.models=null", "zoo.batch_size=8", "dataset.train_size=60", "autoencoder.states=[1,2,3]", "sampler.top_by=test",
             "analysis.map_states=0", "sparsify.epochs=1"]  # fmt: skip
    for task in (["zoo"], ["analysis"], ["sparsify"], ["downstream", "downstream.epochs=1"], ["export"], ["report"]):
        do(tmp_path, *words, f"task={task[0]}", *task[1:])
    assert hashes(tmp_path / "zoos" / "digits_seed" / "weights") == before
    assert "imported: there is nothing to train" in capsys.readouterr().out
    assert Zoo.open(tmp_path / "zoos" / "digits_seed_vd_masked").n_models == 7
    table = results(tmp_path, "init")
    assert table[table["metric"] == "test_acc"]["value"].notna().all()
    sampled = Zoo.open(next((tmp_path / "zoos").glob("digits_seed_*_kde30_0")))
    assert np.isfinite(sampled.metrics["val_acc"]).all(), "they are measured on our validation images"
    assert "test accuracy" in sampled.description["about"]
    assert "digits_seed" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("kind", "arch", "channels", "shape"), [(CNN, "cnn_s", 3, 28), (CNN3, "cnn_m", 3, 32)])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_layers_are_found_by_order(tmp_path, kind, arch, channels, shape, dropout):
    module = kind(channels, "relu", dropout)
    described = architecture(configure(tmp_path, f"zoo=cifar10{'_m' * (arch == 'cnn_m')}_seed"))
    weights, buffers = vectors(module.state_dict(), described)
    assert buffers.shape == (0,)
    x = torch.randn(4, channels, shape, shape)
    ours = described.module("relu", dropout)
    ours.load_state_dict(described.state_dict(torch.tensor(weights)))
    assert torch.equal(ours.eval()(x), module.eval()(x))
    names = published_names(described, dropout)
    assert list(names.values()) == list(module.state_dict())


def test_a_sparsified_twin(tmp_path):
    """Beside each weight the logarithm of its variance; linear layers have one for their biases that nobody uses."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in CNN(1, "tanh", 0.0).state_dict().items():
        layer, what = name.rsplit(".", 1)
        state[name] = value
        state[f"{layer}.log_sigma2{'_bias' * (what == 'bias')}"] = torch.randn(value.shape, generator=generator) * 4 - 6
    trial = tmp_path / "ard" / "NN_tune_trainable_da045_00000_0_2022"
    lines = []
    for epoch in range(2):
        (trial / f"checkpoint_{epoch:06d}").mkdir(parents=True)
        torch.save(state, trial / f"checkpoint_{epoch:06d}" / "checkpoints")
        scores = {"train_loss": 1.0, "train_acc": 0.5, "test_loss": 1.0, "test_acc": 0.5, "sparsity_ratio": 0.1}
        lines.append(json.dumps({**scores, "training_iteration": epoch}))
    (trial / "result.json").write_text("\n".join(lines))
    (trial / "params.json").write_text(json.dumps(params(7)))
    words = ["zoo=digits_seed", "zoo.models=null", "task=import", f"source={tmp_path / 'ard'}", "engine.threads=1",
             "zoo.published=one of theirs"]  # fmt: skip
    import_zoo(configure(tmp_path, *words))
    twin, masked = (Zoo.open(tmp_path / "zoos" / name) for name in ("digits_seed_vd", "digits_seed_vd_masked"))
    dropped, plain = [], []
    for name, value in state.items():
        layer, what = name.rsplit(".", 1)
        if what in ("weight", "bias"):
            limit = 8 if int(layer.split(".")[1]) < 9 else 10
            spread = state[f"{layer}.log_sigma2{'_bias' * (what == 'bias')}"]
            alpha = (spread - 2 * torch.log(value.abs() + 1e-15)).clamp(-limit, limit)
            out = (alpha >= 3) & (what == "weight" or limit == 8)  # biases of linear layers stay
            plain.append(torch.where(out, 0.0, value).reshape(-1))
            dropped += [out.reshape(-1)] if what == "weight" else []
    assert torch.equal(torch.tensor(masked.weights(epochs=[1])[0, 0]), torch.cat(plain))
    share = torch.cat(dropped).float().mean().item()
    assert 0.05 < share < 0.95
    assert twin.metrics["sparsity"].tolist() == pytest.approx([share] * 2)
    for zoo in (twin, masked):
        card = (zoo.path / "README.md").read_text()
        assert "the sparsified twin of one of theirs" in card
        assert "Losses have the weighted divergence" in card, "as published ones have; those of plain networks are less"


def test_a_resnet_with_its_running_statistics(tmp_path, capsys):
    described = architecture(configure(tmp_path, "zoo=cifar10_resnet18_seed"))
    module = described.module()
    with torch.no_grad():
        module.bn1.running_mean += 3
    trial = tmp_path / "resnet19" / "NN_tune_trainable_00000_0"
    (trial / "checkpoint_000000").mkdir(parents=True)
    torch.save(module.state_dict(), trial / "checkpoint_000000" / "checkpoints")
    (trial / "result.json").write_text(json.dumps({"training_iteration": 0, "test_acc": 0.1}) + "\n")
    (trial / "params.json").write_text(json.dumps(params(3)))
    import_zoo(
        configure(tmp_path, "zoo=cifar10_resnet18_seed", "zoo.models=null", "task=import", f"source={tmp_path / 'resnet19'}",
                  "engine.threads=1")
    )  # fmt: skip
    zoo = Zoo.open(tmp_path / "zoos" / "cifar10_resnet18_seed")
    back = zoo.state_dict(0, 0)
    assert list(back) == list(dict(module.named_parameters())) + list(dict(module.named_buffers()))
    assert all(torch.equal(back[name], value) for name, value in module.state_dict().items())
    assert "Accuracies were not checked" in capsys.readouterr().out


@pytest.fixture
def plain(tmp_path):
    """Six trials that have learnt nothing, each with states 0 to 2; and a function that imports them."""
    folder = tmp_path / "exp"
    nothing = [(torch.zeros(8, 1, 28, 28), torch.arange(8))] * 2
    trials = [write_trial(folder, i, params(i + 1), *nothing, 2) for i in range(6)]

    def do_import(*words):
        config = configure(tmp_path, "zoo=digits_seed", "task=import", f"source={folder}", "zoo.models=null",
                           "engine.threads=1", *words)  # fmt: skip
        import_zoo(config)
        told = pd.read_csv(tmp_path / "imports" / f"{config.zoo.name}.csv").groupby("trial")["problem"].apply(list)
        by = {int(name.split("_")[4]): problems for name, problems in told.items()}
        return Zoo.open(tmp_path / "zoos" / config.zoo.name), by

    return trials, do_import


ODD = {
    "params.json": ["[1, 2]", '"x"', "{", "[" * 100_000, '{"seed": "abc"}', '{"seed": NaN}', '{"seed": 1e30}',
                    '{"seed": 1.5}', '{"optim::lr": "fast"}', '{"optim::lr": [1, 2]}', '{"training::batchsize": [1, 2]}',
                    '{"model::nlin": 3}', '{"model::nlin": "[/b]x"}', '{"hyperzoo::split": 7}', '{"seed": ' + "1" * 5000 + "}",
                    '{"model::dropout": 7}', '{"optim::lr": -1e308}', '{"lr": true}', '{"batch_size": 0}'],
    "result.json": ["[1, 2]", "5", '{"training_iteration": Infinity}', '{"training_iteration": -1}', "{" * 100_000,
                    '{"training_iteration": 0, "test_acc": ' + "1" * 400 + "}", '{"training_iteration": 0, "test_acc": "0.5"}',
                    '{"training_iteration": 0, "config": null}', '{"training_iteration": 1e300}',
                    '{"training_iteration": ' + "1" * 5000 + "}", "\n".join(f'{{"epoch": {i}}}' for i in range(3, 2000, 2))],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in ODD.items() for text in texts])
def test_an_odd_trial_is_listed_and_stops_nobody(plain, name, text):
    trials, do_import = plain
    (trials[3] / name).write_text(text)
    zoo, told = do_import()
    assert set(told) == {3}
    assert all(len(problem) < 300 for problem in told[3])
    assert not any("cannot be read" in problem for problem in told[3] if text.endswith("}") and "{{" not in text)
    assert np.isfinite(zoo.weights()).all()
    assert zoo.models["dropout"].isin([0, np.nan]).all()
    assert (zoo.models["lr"].dropna() > 0).all()
    assert zoo.models["status"].tolist() == ["ok"] * 3 + ["partial" if name == "result.json" else "ok"] + ["ok"] * 2
    assert (zoo.models["seed"].drop(3) == [1, 2, 3, 5, 6]).all()


@pytest.mark.parametrize(
    "state",
    [
        {1: torch.zeros(2)}, {"module_list.0.weight": torch.zeros(3, 3).to_sparse()}, {"a": torch.zeros(2, device="meta")},
        {"state_dict": {"a": torch.zeros(1)}},
        {"module_list.0.weight": torch.zeros(8, 1, 5, 5) + 1j}, [torch.zeros(1)], torch.zeros(3),
        "nested", {"k" * 10**5: 1},
        {"a": torch.zeros(4, dtype=torch.uint8).view(torch.bits8)},
        {"a": torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)},
    ],
)  # fmt: skip
def test_an_odd_state_is_listed_and_stops_nobody(plain, state):
    trials, do_import = plain
    if state == "nested":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a prototype of torch's
            state = {"a": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}
    torch.save(state, trials[0] / "checkpoint_000001" / "checkpoints")
    zoo, told = do_import()
    assert [len(problems) for problems in told.values()] == [1]
    assert told[0][0].startswith("epoch 1: checkpoint_000001/checkpoints ")
    assert len(told[0][0]) < 200
    assert np.isnan(zoo.weights()).all(axis=2).sum() == 1
    assert zoo.models["status"].tolist() == ["partial"] + ["ok"] * 5


def packed(file):
    """The same zip, packed: it could unpack to any size."""
    with zipfile.ZipFile(file) as whole:
        members = [(name, whole.read(name)) for name in whole.namelist()]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as smaller:
        for name, data in members:
            smaller.writestr(name, data)


def many_digits(file):
    torch.save({**torch.load(file, weights_only=True), f"module_list.{'1' * 5000}.weight": torch.zeros(2)}, file)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (packed, "is a packed zip, which torch does not write"),
        (lambda file: zipfile.ZipFile(file, "w").close(), "is an empty zip"),
        (
            lambda file: file.write_bytes(file.read_bytes() + bytes(2**21)),
            "bytes, but a state of arch=cnn_s has at most",
        ),
        (many_digits, "it has 6 layers, but arch=cnn_s has 5"),
    ],
)
def test_a_hostile_file_is_not_read(plain, tmp_path, spoil, said):
    arch = architecture(configure(tmp_path, "zoo=digits_seed"))
    file = plain[0][0] / "checkpoint_000001" / "checkpoints"
    spoil(file)
    with pytest.raises(UserError, match=said):
        vectors(read_state(file, arch), arch)


def test_a_negative_view_is_read(plain, tmp_path):
    arch = architecture(configure(tmp_path, "zoo=digits_seed"))
    file = plain[0][0] / "checkpoint_000001" / "checkpoints"
    state = torch.load(file, weights_only=True)
    torch.save(state | {"module_list.0.weight": torch._neg_view(torch.ones(8, 1, 5, 5))}, file)
    assert (vectors(read_state(file, arch), arch)[0][:200] == -1).all()


def test_the_layout_of_later_zoos(plain, tmp_path):
    """`epoch`, percent, NaN where nothing was measured, plainer names of factors, checkpoints of the last epochs only."""
    trials, _ = plain
    accuracies = []
    for i, trial in enumerate(trials):
        rows = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
        accuracies += [row["test_acc"] for row in rows]
        for row in rows:
            row.update(
                epoch=row.pop("training_iteration"), train_acc=100 * row["train_acc"], test_acc=100 * row["test_acc"]
            )
            row.update(val_loss=float("nan"), val_acc=float("nan"))
            del row["config"]
        text = json.dumps(rows, indent=1) if i == 1 else "\n".join(map(json.dumps, rows))
        (trial / "result.json").write_text(text)
        told = {
            "seed": i + 8,
            "batch_size": 16,
            "lr": 0.02,
            "weight_decay": 0.5,
            "model::nlin": "gelu",
            "model::dropout": 0.1,
        }
        (trial / "params.json").write_text(json.dumps(told, indent=2))
        shutil.rmtree(trial / "checkpoint_000000")
        trial.rename(trial.parent / f"NN_tune_trainable_seed={i + 8}")
    import_zoo(configure(tmp_path, "zoo=digits_seed", "task=import", f"source={trials[0].parent}", "zoo.models=null",
                         "engine.threads=1"))  # fmt: skip
    zoo = Zoo.open(tmp_path / "zoos" / "digits_seed")
    assert zoo.models["seed"].tolist() == [8, 9, 10, 11, 12, 13], "in the order of seeds"
    assert zoo.metrics["test_acc"].tolist() == pytest.approx(accuracies)
    for name, value in (
        ("lr", 0.02),
        ("weight_decay", 0.5),
        ("dropout", 0.1),
        ("activation", "gelu"),
        ("status", "partial"),
    ):
        assert (zoo.models[name] == value).all()
    assert zoo.description["protocol"]["batch_size"] == 16
    assert len(zoo.dataset()) == 6 * 2, "the states that are there"
    problems = pd.read_csv(tmp_path / "imports" / "digits_seed.csv")["problem"]
    assert set(problems) == {"there is no checkpoint of epoch 0"}
    models, left_out = viable_models(zoo, 2, None)
    assert (len(models), left_out) == (6, {})
    with pytest.raises(UserError, match=r"no model is viable at epoch 0 \(6 not on record\)"):
        viable_models(zoo, 0, None)
    export_zoo(configure(tmp_path, "zoo=digits_seed", "task=export", "format=raw", "zoo.models=null"))
    again, _ = find_trials(tmp_path / "exports" / "digits_seed_raw")
    assert [sorted(trial.states) for trial in again] == [[1, 2]] * 6
    import_zoo(configure(tmp_path, "zoo=digits_seed", "task=import", f"source={again[0].path.parent}", "zoo.models=null",
                         "engine.threads=1", "zoo.name=again"))  # fmt: skip
    back = Zoo.open(tmp_path / "zoos" / "again")
    pd.testing.assert_frame_equal(back.metrics, zoo.metrics)
    assert (back.models["status"] == "partial").all()


def test_good_json_is_never_called_unreadable(plain):
    trials, do_import = plain
    rows = [json.loads(line) for line in (trials[0] / "result.json").read_text().splitlines()]
    for row in rows:
        row["step"] = row.pop("training_iteration")
    (trials[0] / "result.json").write_text("\n".join(map(json.dumps, rows)))
    _, told = do_import()
    assert told[0][:2] == [f"result.json: line {i} has no training_iteration or epoch" for i in (1, 2)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_corrupted_checkpoint_is_read_or_told(plain, data):
    whole = (plain[0][0] / "checkpoint_000001" / "checkpoints").read_bytes()
    broken = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, len(broken) - 1), max_size=20)):
        broken[at] = data.draw(st.integers(0, 255))
    file = plain[0][1] / "checkpoint_000001" / "checkpoints"
    file.write_bytes(broken)
    with suppress(UserError):
        assert all(isinstance(value, torch.Tensor) for value in read_state(file).values())


def test_parallel_models_and_other_precisions_are_read(plain):
    trials, do_import = plain
    for trial, kind in zip(trials, (torch.float16, torch.bfloat16, torch.float64)):
        file = trial / "checkpoint_000002" / "checkpoints"
        state = torch.load(file, weights_only=True)
        torch.save({f"module.{name}": value.to(kind) for name, value in state.items()}, file)
    zoo, told = do_import()
    assert told == {}
    before, after = (zoo.weights(epochs=[epoch])[:3, 0] for epoch in (1, 2))
    assert np.abs(after - before).max() < 0.1


def test_no_epoch_is_dropped_unsaid(plain):
    trials, do_import = plain
    for trial in trials[:4]:
        shutil.rmtree(trial / "checkpoint_000002")
    shutil.copytree(trials[5] / "checkpoint_000002", trials[5] / "checkpoint_4")
    shutil.copytree(trials[4] / "checkpoint_000001", trials[4] / "checkpoint_1")
    zoo, told = do_import()
    assert zoo.epochs[-1] == 4, "one of six has it"
    assert [np.isfinite(weights).all(axis=1).tolist() for weights in zoo.weights()] == [[True, True, False, False, False]] * 4 + [
        [True, True, True, False, False], [True, True, True, False, True]]  # fmt: skip
    assert told[0][0] == "there is no checkpoint of epochs 2 to 4"
    assert told[4][0] == "epoch 1 is there twice: taken from checkpoint_1, as the published loader does"
    assert told[5][0] == "there is no checkpoint of epoch 3"


def test_an_epoch_that_hardly_a_model_has_is_left_out_and_listed(plain):
    trials, do_import = plain
    for i in range(6, 12):
        write_trial(trials[0].parent, i, params(i), *[(torch.zeros(8, 1, 28, 28), torch.arange(8))] * 2, 2)
    shutil.copytree(trials[2] / "checkpoint_000002", trials[2] / "checkpoint_999999")
    zoo, told = do_import()
    assert zoo.epochs[-1] == 2
    assert told == {2: ["epoch 999999 left out: hardly any other model has it"]}
    for _ in range(2):
        shutil.rmtree(find_trials(trials[0].parent)[0][-1].path)
    shutil.rmtree(zoo.path)
    zoo, _ = do_import()
    assert (zoo.n_models, zoo.epochs[-1]) == (10, 2), "one of ten is a stray, too"


def test_what_is_mended_later_is_told_to_be_imported_again(plain):
    trials, do_import = plain
    file = trials[0] / "checkpoint_000001" / "checkpoints"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert do_import()[1] == {0: ["epoch 1: checkpoint_000001/checkpoints is damaged"]}
    file.write_bytes(whole)
    zoo, told = do_import()
    assert told == {
        0: [f"epoch 1: can be read now, but could not when it was imported: delete {zoo.path} and import again"]
    }


def test_missing_scores_and_impossible_accuracies_are_listed(plain):
    trials, do_import = plain
    changes = [
        lambda row: row.pop("train_loss"),
        lambda row: row.update(test_acc=57.5),
        lambda row: row.update(train_acc=-0.1),
    ]
    for i, change in enumerate(changes):
        lines = [json.loads(line) for line in (trials[i] / "result.json").read_text().splitlines()]
        for line in lines:
            change(line)
        (trials[i] / "result.json").write_text("\n".join(map(json.dumps, lines)))
    zoo, told = do_import()
    assert told == {0: ["result.json has no train_loss of epochs 0 to 2"],
                    1: ["result.json: test_acc of epochs 0 to 2 is not 0 to 1", "result.json has no test_acc of epochs 0 to 2"],
                    2: ["result.json: train_acc of epochs 0 to 2 is not 0 to 1", "result.json has no train_acc of epochs 0 to 2"],
                    }  # fmt: skip
    assert zoo.models["status"].tolist() == ["partial"] + ["ok"] * 5
    assert zoo.metrics["test_acc"].isna().tolist() == [False] * 3 + [True] * 3 + [False] * 12


def test_a_stranger_among_the_trials_and_folders_beside_them(plain, tmp_path, capsys):
    trials, _ = plain
    torch.save({"other": torch.zeros(3)}, trials[0] / "checkpoint_000000" / "checkpoints")
    (trials[0].parent / "__MACOSX").mkdir()
    (trials[0].parent / "[bold]x.txt").write_text("")
    config = configure(tmp_path, "zoo=digits_seed", "task=import", f"source={trials[0].parent}", "zoo.models=null")
    import_zoo(config)
    assert "- [bold]x.txt: is no part" in capsys.readouterr().out
    with pytest.raises(UserError, match="is one trial, that is one model: give the folder above"):
        import_zoo(configure(tmp_path, "zoo=digits_seed", "task=import", f"source='{trials[0]}'"))


def test_a_zoo_that_was_trained_here_is_not_imported_over(plain, tmp_path):
    before = train(tmp_path, "zoo=digits_seed", "zoo.epochs=0").identity
    with pytest.raises(UserError, match="was made here, not imported: choose another"):
        plain[1]()
    assert Zoo.open(tmp_path / "zoos" / "digits_seed").identity == before


def test_readers_end_with_who_started_them(raw, tmp_path):
    """Killed at once, without a word to them."""
    code = """
import os, sys, time
from pathlib import Path
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from zoo.exchange.raw_states import begin_reading
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin_reading)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(100)
"""
    file = tmp_path / "reads.py"
    file.write_text(code)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, file], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    ) as run:
        reader = int(run.stdout.readline())
        os.kill(reader, 0)
        run.kill()
    end = time.monotonic() + 30
    while time.monotonic() < end and Path(f"/proc/{reader}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{reader}").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "holds no trials.*there are no folders in it"),
        (lambda folder: (folder / "dataset.pt").write_bytes(b""), "a pickle of Python objects"),
        (lambda folder: [(folder / name).mkdir() for name in "ab"], "is it one of a, b"),
        (lambda folder: (folder / "zoo.json").write_text("{}"), "is a zoo of hyperzoo already; open it with"),
        (
            lambda folder: write_trial(
                folder, 0, params(1), *[(torch.zeros(10, 3, 28, 28), torch.zeros(10).long())] * 2, 0
            ),
            "is no model of zoo=digits_seed: its conv1.weight is",
        ),
    ],
)
def test_what_is_no_zoo_is_told(tmp_path, make, said):
    folder = tmp_path / "source"
    folder.mkdir()
    make(folder)
    with pytest.raises(UserError, match=said):
        import_zoo(configure(tmp_path, "zoo=digits_seed", "task=import", f"source={folder}"))
    assert not (tmp_path / "zoos").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "source: is missing"),
        (["source=nowhere"], "source: nowhere is not a folder"),
        (["source=zenodo"], "no record of Zenodo is known for the zoo zoo=digits_seed; there are cifar10_hyp10f, "),
    ],
)
def test_a_source_is_needed(tmp_path, words, said):
    with pytest.raises(UserError, match=said):
        configure(tmp_path, "zoo=digits_seed", "task=import", *words)


def test_nothing_unsafe_is_run(raw, capsys):
    _, trials = raw
    found, _ = find_trials(trials[6].parent)
    for epoch in (1, 2):
        with pytest.raises(UserError, match="could run any code"):
            read_state(found[6].states[epoch])
    assert "never be run" not in capsys.readouterr().out
