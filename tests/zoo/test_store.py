"""The store: what is put in comes out, nothing that a kill or a flipped bit does goes unnoticed, no file is trusted."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import logging
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from zoo import Zoo
from zoo.base.errors import UserError
from zoo.store.writer import create_zoo, drop_damaged_manifest, finalise, write_card

TINY = {
    "name": "tiny",
    "image": [1, 3, 3],
    "classes": 2,
    "layers": [{"conv": 1, "kernel": 2}, "activation", "flatten", {"linear": 2}],
}
PARAMETERS = 15  # conv1 4 + 1, fc1 8 + 2
SLOTS = {"conv1.weight": (0, 4), "conv1.bias": (4, 5), "fc1.weight": (5, 13), "fc1.bias": (13, 15)}
METRICS = ["train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc", "test_acc_class_0"]


class Normed(nn.Module):
    """A network with BatchNorm, so with buffers."""

    def __init__(self, image: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image[0], 2, 3)
        self.bn1 = nn.BatchNorm2d(2)
        self.fc1 = nn.Linear(2, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc1(self.bn1(self.conv1(x)).flatten(1))


# ------------------------------------------------------------------------------------- a small zoo, trained by a formula


def description(epochs: int, **changes: object) -> dict[str, object]:
    return {
        "name": "tiny_zoo",
        "spec": {"kind": "seed", "seeds": None},
        "protocol": {"batch_size": 10},
        "arch": TINY,
        "dataset": {"name": "made_up", "train_size": None, "fingerprint": "abc"},
        "engine": {"name": "formula"},
        "epochs": epochs,
        "metrics": METRICS,
        "versions": {"hyperzoo": "0.1.0"},
        "command": "python run.py zoo=tiny_zoo",
    } | changes


def rows(n: int) -> pd.DataFrame:
    i = np.arange(n)
    return pd.DataFrame(
        {
            "model_id": i,
            "seed": i + 1,
            "init": np.array(["uniform", "normal"])[i % 2],
            "activation": np.array(["tanh", "relu", "gelu"])[i % 3],
            "optimizer": "adam",
            "lr": 1e-3 * (i + 1),
            "weight_decay": 0.0,
            "dropout": 0.0,
            "split": np.array(["train", "train", "val", "test"])[i % 4],
        }
    )


def trained(ids: np.ndarray, epoch: int) -> np.ndarray:
    """The weights that `train` arrives at: float32 [models, parameters]; model 3 breaks at epoch 2."""
    weights = (ids[:, None] + np.arange(PARAMETERS) / 16 + 1000 * epoch).astype(np.float32)
    weights[(ids == 3) & (epoch >= 2), 1] = np.nan
    return weights


def scores(ids: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
    return {name: (ids * 7 + epoch * 3 + j) % 97 / 97 for j, name in enumerate(METRICS)} | {
        "val_loss": np.full(len(ids), np.nan)
    }


def train(path: Path, n: int, epochs: int, size: int = 2, **changes: object) -> Zoo:
    """What a training command does: every state follows from the one before it and the optimiser's."""
    zoo = create_zoo(path, description(epochs, **changes), rows(n))
    for block in zoo.blocks(size):
        with block:
            ids = np.array(block.models)
            for epoch in block.pending:
                weights, step = trained(ids, 0), np.zeros(len(ids), np.int64)
                if epoch > 0:
                    weights = block.load(epoch - 1)["weights"] + np.float32(1000)
                    step = block.load_optimizer()["step"] + 1
                    weights[(ids == 3) & (step >= 2), 1] = np.nan
                optimizer = {"step": step, "exp_avg": np.float32(2) * np.nan_to_num(weights)}
                block.commit(epoch, {"weights": weights}, scores(ids, epoch), optimizer)
    finalise(zoo)
    return Zoo.open(path)


def everything(n: int, epochs: int) -> np.ndarray:
    """All weights of `train(path, n, epochs)`: [models, epochs, parameters]."""
    return np.stack([trained(np.arange(n), epoch) for epoch in range(epochs + 1)], axis=1)


def hashes(path: Path) -> dict[str, str]:
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    folders = {file.relative_to(path).as_posix(): "folder" for file in path.rglob("*") if file.is_dir()}
    return folders | {f.relative_to(path).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def marks(path: Path) -> dict[str, tuple[int, int]]:
    """(inode, time of last change) of each file: the same only if nobody wrote it."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return {f.relative_to(path).as_posix(): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """7 models, epochs 0-3, in blocks of 2, 2, 2 and 1. Only to be read."""
    return train(tmp_path_factory.mktemp("store") / "tiny_zoo", 7, 3)


@pytest.fixture
def copy(finished: Zoo, tmp_path: Path) -> Path:
    """A copy of the finished zoo, to be spoilt."""
    return Path(shutil.copytree(finished.path, tmp_path / "tiny_zoo"))


# ------------------------------------------------------------------------------------------- reading


def test_tables(finished: Zoo) -> None:
    models, metrics = finished.models, finished.metrics
    assert list(models.columns) == [*rows(1).columns, "status", "diverged_epoch"]
    assert models["status"].tolist() == ["ok"] * 3 + ["diverged"] + ["ok"] * 3
    assert models["diverged_epoch"].dtype == "Int64"
    assert models["diverged_epoch"].fillna(-1).tolist() == [-1, -1, -1, 2, -1, -1, -1]
    pd.testing.assert_frame_equal(models[rows(1).columns], rows(7), check_dtype=False)
    assert list(metrics.columns) == ["model_id", "epoch", *METRICS, "weight_max_abs"]
    assert list(zip(metrics["model_id"], metrics["epoch"])) == [(m, e) for m in range(7) for e in range(4)]
    for epoch in range(4):
        of_epoch = metrics[metrics["epoch"] == epoch]
        for name, values in scores(np.arange(7), epoch).items():
            np.testing.assert_array_equal(of_epoch[name], values)
        np.testing.assert_array_equal(of_epoch["weight_max_abs"], np.abs(trained(np.arange(7), epoch)).max(axis=1))
    assert (finished.name, finished.epochs, finished.n_parameters) == ("tiny_zoo", [0, 1, 2, 3], PARAMETERS)
    assert finished.finished
    assert finished.verify() == []
    assert [slot["name"] for slot in finished.layout] == list(SLOTS)


@given(
    models=st.none() | st.lists(st.integers(0, 6), max_size=9),
    epochs=st.none() | st.lists(st.integers(0, 3), max_size=5),
    layers=st.none() | st.lists(st.sampled_from(["conv1", "fc1", *SLOTS]), max_size=4),
)
def test_any_slice_equals_that_of_a_plain_array(
    finished: Zoo, models: list[int] | None, epochs: list[int] | None, layers: list[str] | None
) -> None:
    expected = everything(7, 3)
    expected = expected if models is None else expected[models]
    expected = expected if epochs is None else expected[:, epochs]
    if layers is not None:
        columns = [i for layer in layers for name, r in SLOTS.items() if name.startswith(layer) for i in range(*r)]
        expected = expected[:, :, columns]
    got = finished.weights(models=models, epochs=epochs, layers=layers)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


@given(
    models=st.lists(st.integers(0, 6), max_size=9),
    columns=st.slices(PARAMETERS).filter(lambda columns: columns.step in (None, 1)),
)
def test_any_range_equals_that_of_a_plain_array(finished: Zoo, models: list[int], columns: slice) -> None:
    got = finished.weights(models=models, epochs=[2], columns=columns)
    np.testing.assert_array_equal(got, everything(7, 3)[models][:, [2], columns])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_is_its_rows(finished: Zoo, split: str) -> None:
    ids = np.flatnonzero(rows(7)["split"] == split)
    np.testing.assert_array_equal(finished.weights(split=split, epochs=[1]), everything(7, 3)[ids][:, [1]])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.tuples(st.integers(1, 6), st.integers(0, 2), st.integers(1, 4)),
    more=st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 4)),
)
def test_a_zoo_of_any_size_grows_to_any_size(
    tmp_path_factory: pytest.TempPathFactory, first: tuple[int, int, int], more: tuple[int, int, int]
) -> None:
    path = tmp_path_factory.mktemp("grow") / "zoo"
    train(path, *first)
    before = marks(path)
    n, epochs = first[0] + more[0], first[1] + more[1]
    zoo = train(path, n, epochs, more[2])
    np.testing.assert_array_equal(zoo.weights(), everything(n, epochs))
    assert len(zoo.metrics) == n * (epochs + 1)
    assert zoo.verify() == []
    after = marks(path)
    states = [name for name in before if "epoch-" in name]
    assert [before[name] for name in states] == [after[name] for name in states]


def test_state_dict_and_module(finished: Zoo) -> None:
    state = finished.state_dict(5, 1)
    weights = trained(np.array([5]), 1)[0]
    assert list(state) == list(SLOTS)
    assert state["fc1.weight"].shape == (2, 4)
    np.testing.assert_array_equal(torch.cat([t.flatten() for t in state.values()]).numpy(), weights)
    module = finished.module(5, 1)
    assert not module.training
    assert any(isinstance(m, nn.GELU) for m in module.modules())  # model 5's activation
    assert torch.equal(module.state_dict()["conv1.bias"], state["conv1.bias"])


def test_buffers_and_more_of_a_plain_module(tmp_path: Path) -> None:
    arch = {"name": "normed", "image": [1, 3, 3], "classes": 2, "module": f"{__name__}.Normed", "module_args": {}}
    zoo = create_zoo(tmp_path / "zoo", description(0, arch=arch), rows(3))
    weights = np.random.default_rng(0).standard_normal((3, zoo.n_parameters), dtype=np.float32)
    buffers = np.random.default_rng(1).random((3, 5), dtype=np.float32)
    buffers[:, 4] = 12  # the counter num_batches_tracked
    with zoo.blocks(3)[0] as block:
        with pytest.raises(ValueError, match="buffers"):
            block.commit(0, {"weights": weights}, scores(np.arange(3), 0), {})
        block.commit(0, {"weights": weights, "buffers": buffers}, scores(np.arange(3), 0), {})
        assert sorted(block.load(0)) == ["buffers", "weights"]
        assert block.load_optimizer() == {}
    finalise(zoo)
    np.testing.assert_array_equal(zoo.buffers(models=[2, 0]), buffers[[2, 0], None])
    np.testing.assert_array_equal(zoo.buffers(layers=["bn1.running_var"]), buffers[:, None, 2:4])
    module = zoo.module(1, 0)
    np.testing.assert_array_equal(module.bn1.running_mean, buffers[1, :2])
    assert module.bn1.num_batches_tracked.item() == 12


def test_the_format_page_is_enough(finished: Zoo) -> None:
    """Read a zoo as docs/FORMAT.md says, with pandas and safetensors alone."""
    page = (Path(__file__).parents[2] / "docs" / "FORMAT.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    script = (
        f"{code}\nassert not {{'zoo.store', 'torch'}} & {{*__import__('sys').modules}}\nprint(weights.tobytes().hex())\n"
        "for name, values in tensors.items():\n    print(name, values[1].shape, values[1].tobytes().hex(), sep=';')"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=finished.path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    first, *tensors = run.stdout.splitlines()
    weights = np.frombuffer(bytes.fromhex(first), np.float32).reshape(7, PARAMETERS)
    np.testing.assert_array_equal(weights, everything(7, 3)[:, 3])
    expected = {name: value.numpy() for name, value in finished.state_dict(1, 3).items()}
    assert tensors == [f"{name};{value.shape};{value.tobytes().hex()}" for name, value in expected.items()]


def test_reading_does_not_import_torch(finished: Zoo) -> None:
    code = "import sys; from zoo import Zoo; z = Zoo.open(sys.argv[1]); z.weights(); z.metrics; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(finished.path)], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda z: z.weights(epochs=[4]), "epoch 4 is not stored in zoo 'tiny_zoo': it has epochs 0 to 3"),
        (lambda z: z.weights(epochs=[-1]), "epoch -1 is not stored"),
        (lambda z: z.weights(models=[0, 7]), "model 7 is not stored in zoo 'tiny_zoo': it has models 0 to 6"),
        (lambda z: z.weights(models=z.models["status"] == "ok"), "models must be whole numbers"),
        (lambda z: z.weights(layers=["convl"]), "did you mean 'conv1'.*layers are conv1, fc1"),
        (lambda z: z.weights(layers=["conv1.wieght"]), "did you mean 'conv1.weight'"),
        (lambda z: z.weights(layers="conv1"), r"give a list, layers=\['conv1'\]"),
        (lambda z: z.weights(layers=["conv1"], columns=slice(3)), "columns is .*and no layers beside it"),
        (lambda z: z.weights(columns=slice(0, 4, 2)), "columns is .*range of step 1"),
        (lambda z: z.weights(split="valid"), "'valid', but may be train, val, test or None"),
        (lambda z: z.weights(split="val", models=[1]), "not both"),
        (lambda z: z.buffers(), "no buffers"),
        (lambda z: Zoo.open(z.path / "weights"), "no zoo in .*python run.py zoo="),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(finished: Zoo, ask: Callable[[Zoo], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ask(finished)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "zoo.json is damaged"),
        ("[]", "zoo.json is damaged"),
        ('{"format": "hyperzoo"}', "zoo.json is damaged"),
        (
            '{"format": "hyperzoo", "format_version": 2}',
            "has format hyperzoo 2.* reads hyperzoo 1: install a newer hyperzoo",
        ),
        (
            '{"format": "hyperzoo", "format_version": 0}',
            "has format hyperzoo 0.*: install the version of hyperzoo that made it",
        ),
        (
            '{"format": "theirs", "format_version": 2}',
            "has format theirs 2.*: install the version of hyperzoo that made it",
        ),
        ('{"format": "hyperzoo", "format_version": 1}', "zoo.json is damaged"),
    ],
)
def test_other_formats_and_damage_of_zoo_json(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "zoo.json").write_text(text)
    with pytest.raises(UserError, match=message):
        Zoo.open(tmp_path)


# ------------------------------------------------------------------------------------------- unfinished zoos


def test_an_unfinished_zoo_says_what_is_there(tmp_path: Path) -> None:
    zoo = create_zoo(tmp_path / "zoo", description(2), rows(5))
    assert zoo.metrics.empty
    assert list(zoo.metrics.columns) == ["model_id", "epoch", *METRICS, "weight_max_abs"]
    one, two, three = zoo.blocks(2)
    for block, epochs in [(one, 3), (two, 2)]:
        with block:
            ids = np.array(block.models)
            for epoch in range(epochs):
                block.commit(epoch, {"weights": trained(ids, epoch)}, scores(ids, epoch), {})
    zoo = Zoo.open(zoo.path)
    assert not zoo.finished
    assert zoo.models["status"].tolist() == ["ok", "ok", "pending", "pending", "pending"]
    assert len(zoo.metrics) == 2 * 3 + 2 * 2
    with pytest.raises(
        UserError, match="3 of the 5 models asked of zoo 'tiny_zoo' do not have epoch 2 yet: run `python"
    ):
        zoo.weights()
    done = zoo.models.query("status != 'pending'").model_id
    np.testing.assert_array_equal(zoo.weights(models=done), everything(2, 2))
    np.testing.assert_array_equal(zoo.weights(models=[3, 1], epochs=[1]), everything(4, 2)[[3, 1], 1:2])
    assert (two.epochs, two.pending, three.epochs) == ([0, 1], [2], [])
    np.testing.assert_array_equal(two.load_metrics(1)["train_acc"], scores(np.array([2, 3]), 1)["train_acc"])
    with pytest.raises(UserError, match="not finished: 3 of 5 models lack epochs"):
        finalise(zoo)
    assert zoo.verify() == []


def test_commit_refuses_what_does_not_fit(tmp_path: Path) -> None:
    zoo = create_zoo(tmp_path / "zoo", description(1), rows(2))
    (block,) = zoo.blocks(2)
    ids = np.arange(2)
    good = (0, {"weights": trained(ids, 0)}, scores(ids, 0), {"step": np.zeros(2, np.int64)})
    with pytest.raises(RuntimeError, match="not open"):
        block.commit(*good)
    with block:
        for i, wrong, message in [
            (0, 1, "epochs still to come"),
            (1, {"weights": trained(ids, 0).astype(np.float64)}, "float32"),
            (1, {"weights": trained(np.arange(3), 0)}, "shapes"),
            (2, scores(np.arange(3), 0), "metrics"),
            (2, {"train_loss": np.zeros(2)}, "metrics"),
            (3, {"step": np.zeros(3, np.int64)}, "one a model"),
        ]:
            with pytest.raises(ValueError, match=message):
                block.commit(*good[:i], wrong, *good[i + 1 :])
        block.commit(*good)
        with pytest.raises(ValueError, match="epoch 0 cannot be committed"):
            block.commit(*good)
        block.commit(1, *good[1:])
        with pytest.raises(ValueError, match="epochs still to come: none"):
            block.commit(2, *good[1:])


def test_the_layout_of_given_arrays_does_not_matter(tmp_path: Path) -> None:
    """A transposed or sliced array must not be written in its memory order."""
    zoo = create_zoo(tmp_path / "zoo", description(0), rows(2))
    with zoo.blocks(2)[0] as block:
        weights = trained(np.arange(2), 0)
        block.commit(0, {"weights": np.asfortranarray(weights)}, scores(np.arange(2), 0), {"m": weights[:, ::-1]})
        np.testing.assert_array_equal(block.load(0)["weights"], weights)
        np.testing.assert_array_equal(block.load_optimizer()["m"], weights[:, ::-1])


# ------------------------------------------------------------------------------------------- kill -9


def _die_at(n: int) -> None:
    """From now on, the n-th call that touches the disk's state is the last; a file being flushed is left half-written."""
    calls = 0

    def mortal(name: str) -> None:
        real = getattr(os, name)

        def call(target: object, *args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == n:
                if name == "fsync" and stat.S_ISREG(os.fstat(target).st_mode):
                    os.ftruncate(target, os.fstat(target).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(target, *args, **kwargs)

        setattr(os, name, call)

    for name in ["fsync", "replace", "unlink", "mkdir", "rmdir"]:
        mortal(name)


def _fork(work: Callable[[], object], die_at: int = 0) -> int:
    """Run in a child process: its exit status."""
    child = os.fork()
    if child == 0:
        try:
            _die_at(die_at)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1]


def survive_kills(folder: str, scenario: str) -> None:
    """Kill a command at every point, give it again, compare with the uninterrupted one. Run in a process of its own."""
    start, path = Path(folder) / "start", Path(folder) / "killed"

    def command() -> None:
        train(path, 5, 2)

    start.mkdir()
    if scenario == "more_models_and_epochs":
        train(start, 3, 1)
    if scenario == "damaged":
        train(start, 5, 2)
        os.truncate(start / "weights/00002-00003/epoch-0001.safetensors", 100)
    shutil.copytree(start, path)
    command()
    expected = hashes(path)

    def look() -> None:
        if scenario != "damaged" and (path / "zoo.json").exists():
            zoo = Zoo.open(path)
            assert zoo.verify() == []  # what counts is whole, at any instant
            for block in zoo.blocks(2):
                for epoch in block.epochs:
                    np.testing.assert_array_equal(block.load(epoch)["weights"], trained(np.array(block.models), epoch))
            zoo.metrics, zoo.models  # noqa: B018

    for n in itertools.count(1):
        shutil.rmtree(path)
        shutil.copytree(start, path)
        status = _fork(command, die_at=n)
        assert status in (0, signal.SIGKILL), f"killed at {n}: status {status}"
        assert _fork(look) == 0, f"killed at {n}: cannot be read"
        assert _fork(command) == 0, f"killed at {n}: cannot be continued"
        found = hashes(path)
        assert found == expected, f"killed at {n}: {sorted({*found.items()} ^ {*expected.items()})}"
        if status == 0:
            return print(n)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["new", "more_models_and_epochs", "damaged"])
def test_killed_at_any_point_and_continued_the_zoo_is_byte_identical(tmp_path: Path, scenario: str) -> None:
    code = "import sys; from tests.zoo.test_store import survive_kills; survive_kills(*sys.argv[1:])"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), scenario],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(run.stdout.split()[-1]) > 50  # points at which it was killed


def test_what_a_killed_extension_left_is_removed_by_the_old_command(copy: Path) -> None:
    expected = hashes(copy)
    for name in ["zoo.json.tmp", "models.parquet.tmp", "manifest.json.tmp"]:
        (copy / name).write_text("half")
    train(copy, 7, 3)
    assert hashes(copy) == expected


def test_data_reach_the_disk_before_they_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill cannot lose what was not flushed, a power cut can: look at the order of calls."""
    events: list[tuple[str, int, int]] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd: int) -> None:
        events.append(("fsync", os.fstat(fd).st_ino, os.fstat(fd).st_size))
        real_fsync(fd)

    def replace(source: Path, target: Path) -> None:
        events.append((Path(target).name, source.stat().st_ino, source.stat().st_size))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    zoo = train(tmp_path / "zoo", 2, 1)
    folders = {zoo.path.stat().st_ino, (zoo.path / "weights/00000-00001").stat().st_ino}
    renames = [i for i, event in enumerate(events) if event[0] != "fsync"]
    for i in renames:
        assert events[i - 1] == ("fsync", *events[i][1:])  # the file, in its full length
        assert events[i + 1][0] == "fsync"
        assert events[i + 1][1] in folders  # its folder
    names = [events[i][0] for i in renames]
    epoch = lambda e: [f"epoch-000{e}.safetensors", f"optimizer-000{e}.safetensors", "manifest.json"]  # noqa: E731
    assert names == [
        *["models.parquet", "zoo.json"],
        *epoch(0),
        *epoch(1),
        *["models.parquet", "metrics.parquet", "README.md", "manifest.json"],
    ]


# ------------------------------------------------------------------------------------------- damage

STATE = "weights/00002-00003/epoch-0001.safetensors"
BLOCK_FILES = [
    STATE,
    "weights/00002-00003/optimizer-0003.safetensors",
    "weights/00002-00003/manifest.json",
]
ALL_KINDS = [*BLOCK_FILES, "zoo.json", "models.parquet", "metrics.parquet", "README.md", "manifest.json"]


def spoil(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
        return
    if how == "cut":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    else:  # one bit, near the end: inside a hash or a value, so that the form stays valid
        data[-len(data) // 5] ^= 1
    file.unlink()
    file.write_bytes(data)


HOW = ["gone", "cut", "empty", "bit"]
DAMAGES = [(name, how) for name in ALL_KINDS for how in HOW]
DAMAGES.remove(("manifest.json", "gone"))  # a zoo without it is an unfinished one


@pytest.mark.parametrize(("name", "how"), DAMAGES)
def test_verify_finds_any_damage(copy: Path, name: str, how: str) -> None:
    zoo = Zoo.open(copy)
    spoil(copy / name, how)
    problems = zoo.verify()
    assert problems
    assert any(name in problem for problem in problems) or name == "manifest.json"


@settings(max_examples=60)
@given(data=st.data())
def test_verify_finds_any_flipped_bit(finished: Zoo, data: st.DataObject) -> None:
    files = sorted(file for file in finished.path.rglob("*") if file.is_file())
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    spoilt = bytearray(content)
    spoilt[bit // 8] ^= 1 << bit % 8
    try:
        file.write_bytes(spoilt)
        # White space between the entries of manifest.json is all that nothing vouches for.
        assert finished.verify() or json.loads(spoilt) == json.loads(content)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", BLOCK_FILES)
@pytest.mark.parametrize("how", HOW)
def test_only_the_damaged_block_is_redone(copy: Path, name: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    expected, before = hashes(copy), marks(copy)
    spoil(copy / name, how)
    train(copy, 7, 3)
    assert hashes(copy) == expected
    after = marks(copy)
    others = [n for n in before if n.startswith("weights/") and not n.startswith("weights/00002-00003")]
    assert [before[n] for n in others] == [after[n] for n in others]
    assert before[STATE] != after[STATE]
    redone = [r for r in caplog.records if r.levelno >= logging.WARNING]
    if (name, how) != ("weights/00002-00003/manifest.json", "gone"):
        assert "models 2-3 start again from epoch 0" in redone[0].getMessage()
    assert len(redone) <= 1


def test_a_change_without_meaning_is_a_change(copy: Path) -> None:
    """A block's manifest says the same with a space more, but the zoo's manifest vouches for every byte."""
    expected = hashes(copy)
    with open(copy / "weights/00002-00003/manifest.json", "a") as file:
        file.write(" ")
    assert len(Zoo.open(copy).verify()) == 1
    train(copy, 7, 3)
    assert hashes(copy) == expected


@pytest.mark.parametrize("name", BLOCK_FILES)
def test_damage_of_a_block_in_training_is_found_too(tmp_path: Path, name: str) -> None:
    zoo = train(tmp_path / "whole", 4, 3)
    path = tmp_path / "zoo"
    shutil.copytree(zoo.path, path)
    (path / "manifest.json").unlink()
    spoil(path / name, "bit")
    train(path, 4, 3)
    assert hashes(path) == hashes(zoo.path)


@pytest.mark.parametrize("name", ["models.parquet", "metrics.parquet", "README.md"])
@pytest.mark.parametrize("how", ["gone", "cut", "bit"])
def test_damaged_tables_are_written_again(copy: Path, name: str, how: str) -> None:
    expected, before = hashes(copy), marks(copy)
    spoil(copy / name, how)
    if name != "README.md":
        with pytest.raises(UserError, match=f"{name} is missing or damaged .* run `python run.py zoo=tiny_zoo` again"):
            _ = Zoo.open(copy).models, Zoo.open(copy).metrics
    if name == "models.parquet":
        with pytest.raises(UserError, match=r"models.parquet is missing or damaged"):
            train(copy, 4, 3)  # has not all the rows
    train(copy, 7, 3)
    assert hashes(copy) == expected
    states = [n for n in before if n.startswith("weights/")]
    assert [before[n] for n in states] == [marks(copy)[n] for n in states]


@settings(max_examples=60)
@given(data=st.data())
def test_no_flipped_bit_is_read_in_silence(finished: Zoo, data: st.DataObject) -> None:
    """Whoever opens a zoo reads what was written, or is told."""
    files = sorted(file for file in finished.path.rglob("*") if file.is_file() and file.name != "README.md")
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    spoilt = bytearray(content)
    spoilt[bit // 8] ^= 1 << bit % 8
    wanted = finished.weights(), finished.models, finished.metrics
    try:
        file.write_bytes(spoilt)
        with suppress(UserError):
            zoo = Zoo.open(finished.path)
            np.testing.assert_array_equal(zoo.weights(), wanted[0])
            pd.testing.assert_frame_equal(zoo.models, wanted[1])
            pd.testing.assert_frame_equal(zoo.metrics, wanted[2])
            zoo.files()
            assert file.suffix == ".json", "read without a word"
            assert json.loads(spoilt) == json.loads(content)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("how", ["another hash", "lost", "no JSON"])
def test_a_damaged_manifest_costs_no_training(copy: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Blocks that agree with themselves are believed; the manifest is written again."""
    expected, before, file = hashes(copy), marks(copy), copy / "manifest.json"
    listed = json.loads(file.read_text())
    name = "weights/00002-00003/manifest.json"
    if how == "another hash":
        listed["files"][name]["sha256"] = "0" * 64
    if how == "lost":
        del listed["files"][name]
    file.write_text("{" if how == "no JSON" else json.dumps(listed))
    with pytest.raises(UserError, match=r"manifest.json (is damaged|lists)"):
        Zoo.open(copy).weights()
    drop_damaged_manifest(copy)
    train(copy, 7, 3)
    assert hashes(copy) == expected
    assert {n: mark for n, mark in marks(copy).items() if n.endswith("safetensors")} == {
        n: mark for n, mark in before.items() if n.endswith("safetensors")
    }


def test_files_of_git_lfs_and_of_half_a_download_are_called_so(copy: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1016\n"
    whole, before = (copy / STATE).read_bytes(), hashes(copy)
    (copy / STATE).write_text(pointer)
    for use in (Zoo.open(copy).weights, Zoo.open(copy).files, lambda: train(copy, 7, 3)):
        with pytest.raises(UserError, match=r"epoch-0001.safetensors is a pointer of Git LFS.*git lfs pull"):
            use()
    (copy / STATE).write_bytes(whole)
    assert hashes(copy) == before, "nothing is trained again"
    (copy / STATE).unlink()
    for use in (Zoo.open(copy).weights, Zoo.open(copy).files):
        with pytest.raises(UserError, match=r"epoch-0001.safetensors is missing: download it too if"):
            use()
    shutil.rmtree(copy / "weights/00002-00003")
    with pytest.raises(UserError, match=r"2 of the 7 models asked of zoo 'tiny_zoo' are missing .*: download them"):
        Zoo.open(copy).weights()
    with pytest.raises(UserError, match=r"00002-00003/manifest.json is missing: download it too if"):
        Zoo.open(copy).files()


def test_a_finished_zoo_is_used_where_nothing_can_be_written(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def read_only(path: Path, flags: int, *args: int, **kwargs: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert train(copy, 7, 3).finished
    with pytest.raises(UserError, match=r"cannot be written to \(Read-only file system, .lock\)"):
        train(copy, 7, 4)


def test_an_altered_zoo_json_is_refused(copy: Path) -> None:
    text = (copy / "zoo.json").read_text()
    (copy / "zoo.json").write_text(text.replace("0.1.0", "0.1.1"))
    with pytest.raises(UserError, match=r"zoo.json or manifest.json was altered"):
        Zoo.open(copy)
    with pytest.raises(UserError, match=r"zoo.json or manifest.json was altered"):
        train(copy, 7, 3)


def test_reading_a_truncated_file_names_it_and_the_command(copy: Path) -> None:
    zoo = Zoo.open(copy)
    spoil(copy / STATE, "cut")
    with pytest.raises(UserError, match=f"{STATE} is damaged .* run `python run.py zoo=tiny_zoo` again to restore it"):
        zoo.weights()
    zoo.weights(models=[0, 1, 4, 5, 6])
    spoil(copy / STATE, "gone")
    with pytest.raises(UserError, match=f"{STATE} is missing"):
        zoo.weights()
    spoil(copy / "weights/00004-00005/manifest.json", "cut")
    with pytest.raises(UserError, match=r"00004-00005/manifest.json is damaged .* to redo its block"):
        zoo.weights(models=[4])


class Bomb:
    """Unpickling it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_a_pickle_is_never_read(copy: Path, tmp_path: Path) -> None:
    """Neither beside the files of a zoo nor in their place, even where size and hash agree with the manifest."""
    bomb = tmp_path / "exploded"
    payload = pickle.dumps(Bomb(bomb)) + bytes(1000)  # as large as a state
    pickle.loads(payload)
    assert bomb.exists()  # it would
    bomb.rmdir()
    torch.save({"weights": Bomb(bomb)}, copy / "weights/00002-00003/epoch-0002.pt")
    zoo = Zoo.open(copy)
    assert [p for p in zoo.verify() if "epoch-0002.pt is no part of the zoo" in p]
    zoo.weights()

    (copy / "manifest.json").unlink()
    for name in ["epoch-0001.safetensors", "optimizer-0003.safetensors"]:
        file = copy / "weights/00002-00003" / name
        file.write_bytes(payload)
        manifest = json.loads((file.parent / "manifest.json").read_text())
        manifest["files"][name] = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
        (file.parent / "manifest.json").write_text(json.dumps(manifest))
    zoo = Zoo.open(copy)
    block = zoo.blocks(2)[1]
    readers = [lambda: zoo.weights(), lambda: zoo.metrics, lambda: block.load(1), block.load_optimizer]
    for read in readers:
        with pytest.raises(UserError, match="no readable safetensors file"):
            read()
    for table in ["models.parquet", "metrics.parquet"]:
        (copy / table).write_bytes(payload)
    with pytest.raises(UserError, match=r"models.parquet is missing or damaged"):
        _ = zoo.models
    assert not bomb.exists()


# ------------------------------------------------------------------------------------------- the same zoo again


def test_the_same_command_again_writes_nothing(copy: Path) -> None:
    before = marks(copy)
    train(copy, 7, 3)
    train(copy, 7, 3, size=3)  # existing blocks stay as they are
    train(copy, 4, 2)  # less than there is
    train(copy, 7, 3, versions={"hyperzoo": "9"}, command="python run.py zoo=tiny_zoo logger=none")
    assert marks(copy) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset": {"name": "made_up", "train_size": 2000, "fingerprint": "abc"}},
            "dataset.train_size=null, now 2000",
        ),
        ({"dataset": {"name": "made_up", "train_size": None, "fingerprint": "x"}}, 'fingerprint="abc", now "x"'),
        ({"protocol": {"batch_size": 10, "schedule": "onecycle"}}, 'protocol.schedule=nothing, now "onecycle"'),
        ({"spec": {"kind": "seed"}}, "spec.seeds=null, now nothing"),
        ({"metrics": METRICS[:6]}, r'metrics=\["train_loss"'),
        ({"name": "other"}, 'name="tiny_zoo", now "other"'),
    ],
)
def test_another_zoo_in_its_place_is_refused(copy: Path, changes: dict[str, object], message: str) -> None:
    before = marks(copy)
    with pytest.raises(
        UserError,
        match=rf"was made with .*{message}.*: choose another zoo.name .sparsify.twin of a twin, population.name of .* or",
    ):
        create_zoo(copy, description(3, **changes), rows(7))
    assert marks(copy) == before


def test_other_models_in_their_place_are_refused(copy: Path) -> None:
    other = rows(9)
    other.loc[4, "lr"] = 0.5
    with pytest.raises(UserError, match=r"was made with lr=0.005 for model 4, now 0.5: choose another"):
        create_zoo(copy, description(3), other)
    other = rows(7)
    other.loc[2, "split"] = "train"
    with pytest.raises(UserError, match=r"split=val for model 2, now train"):
        create_zoo(copy, description(3), other)
    assert Zoo.open(copy).finished


def test_fewer_models_or_stored_epochs_of_an_unfinished_zoo_are_refused(tmp_path: Path, copy: Path) -> None:
    zoo = create_zoo(tmp_path / "zoo", description(60), rows(7))
    with pytest.raises(UserError, match="begun with 7 models and 60 epochs, now 4 models and 60 epochs"):
        create_zoo(tmp_path / "zoo", description(60), rows(4))
    with pytest.raises(UserError, match="begun with 7 models and 3 epochs, now 9 models and 2 epochs"):
        create_zoo(copy, description(2), rows(9))
    block = zoo.blocks(2)[1]
    with block:
        ids = np.array(block.models)
        for epoch in range(3):
            block.commit(epoch, {"weights": trained(ids, epoch)}, scores(ids, epoch), {"step": np.zeros(len(ids))})
        with pytest.raises(UserError, match=r"while process \d+ on .* is training it: stop that first"):
            create_zoo(tmp_path / "zoo", description(3), rows(7))
    with pytest.raises(UserError, match="ask at least 7 models and the 2 epochs that some have"):
        create_zoo(tmp_path / "zoo", description(1), rows(7))
    assert Zoo.open(tmp_path / "zoo").epochs[-1] == 60


def test_epochs_asked_by_mistake_can_be_taken_back(tmp_path: Path) -> None:
    """`zoo.epochs=60`, stopped, then `zoo.epochs=3`: as if 3 had been asked at once."""
    zoo = create_zoo(tmp_path / "zoo", description(60), rows(4))
    with zoo.blocks(2)[0] as block:
        ids = np.array(block.models)
        block.commit(
            0, {"weights": trained(ids, 0)}, scores(ids, 0), {"weights": trained(ids, 0), "step": np.zeros(2, int)}
        )
    train(tmp_path / "zoo", 4, 3)
    assert hashes(tmp_path / "zoo") == hashes(train(tmp_path / "other", 4, 3).path)


def test_wrong_models_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    for wrong in [rows(3).iloc[::-1], rows(0), rows(3).drop(columns="lr"), rows(3).assign(split="valid")]:
        with pytest.raises(ValueError, match="must"):
            create_zoo(tmp_path / "zoo", description(1), wrong)
    with pytest.raises(ValueError, match="train_loss"):
        create_zoo(tmp_path / "zoo", description(1, metrics=["test_acc"]), rows(1))
    assert not (tmp_path / "zoo").exists()


def test_a_growing_zoo_is_unfinished_until_it_has_grown(copy: Path) -> None:
    zoo = create_zoo(copy, description(4), rows(8))
    assert not zoo.finished
    assert set(zoo.models["status"]) == {"pending"}
    np.testing.assert_array_equal(zoo.weights(models=range(7), epochs=range(4)), everything(7, 3))
    assert [(b.first, b.last, b.pending) for b in zoo.blocks(3)] == [
        (0, 1, [4]),
        (2, 3, [4]),
        (4, 5, [4]),
        (6, 6, [4]),
        (7, 7, [0, 1, 2, 3, 4]),
    ]


# ------------------------------------------------------------------------------------------- several processes


def test_a_block_has_one_trainer_and_others_may_train_other_blocks(tmp_path: Path) -> None:
    zoo = create_zoo(tmp_path / "zoo", description(0), rows(4))
    one, two = zoo.blocks(2)
    again = create_zoo(zoo.path, description(0), rows(4)).blocks(2)[0]
    with one, two:
        with pytest.raises(UserError, match=rf"another process \(process {os.getpid()} on .*\) is training models 0-1"):
            again.__enter__()
        code = "import sys; from zoo import Zoo; b = Zoo.open(sys.argv[1]).blocks(2)[0]; b.__enter__()"
        run = subprocess.run(
            [sys.executable, "-c", code, str(zoo.path)], cwd=Path(__file__).parents[2], capture_output=True, text=True
        )
        assert "UserError: another process" in run.stderr
        create_zoo(zoo.path, description(0), rows(4))  # leaves the folders alone in which others are at work
        one.commit(0, {"weights": trained(np.arange(2), 0)}, scores(np.arange(2), 0), {})
    with again:
        assert again.pending == []
    assert not list(zoo.path.rglob("*lock"))


def test_a_killed_trainer_leaves_no_lock(tmp_path: Path) -> None:
    zoo = create_zoo(tmp_path / "zoo", description(0), rows(2))
    code = """
import os, signal, sys
from zoo import Zoo
with Zoo.open(sys.argv[1]).blocks(2)[0]:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", code, str(zoo.path)], cwd=Path(__file__).parents[2])
    assert run.returncode == -signal.SIGKILL
    assert list(zoo.path.rglob("*.lock"))
    train(zoo.path, 2, 0)
    assert not list(zoo.path.rglob("*.lock"))


def test_blocks_never_overlap(tmp_path: Path) -> None:
    zoo = create_zoo(tmp_path / "zoo", description(0), rows(4))
    pair, three = zoo.blocks(2)[0], zoo.blocks(3)[0]  # both planned before either has a folder
    with pair, pytest.raises(UserError, match="already holds some of the models 0-2"):
        three.__enter__()
    assert [b.name for b in create_zoo(zoo.path, description(0), rows(4)).blocks(3)] == ["00000-00002", "00003-00003"]


def test_foreign_files_in_a_block_are_left_alone(copy: Path) -> None:
    note = copy / "weights/00002-00003/notes.txt"
    note.write_text("mine")
    spoil(copy / STATE, "cut")
    (note.parent / ".DS_Store").write_text("left by a desktop")
    train(copy, 7, 3)
    assert note.read_text() == "mine"
    assert Zoo.open(copy).verify() == [f"{note} is no part of the zoo"]


def test_what_was_measured_is_on_the_card_until_the_zoo_grows(copy: Path) -> None:
    zoo, text = Zoo.open(copy), (copy / "README.md").read_text()
    content = zoo.content
    write_card(zoo, "Found.", {"old": b"<svg/>"})
    write_card(zoo, "Found again. ![new](card/new.svg)", {"new": b"<svg/>"})
    card = (copy / "README.md").read_text()
    assert "Found again." in card
    assert card.replace("Found again. ![new](card/new.svg)\n\n", "") == text
    assert [file.name for file in (copy / "card").iterdir()] == ["new.svg"]
    assert zoo.verify() == []
    assert zoo.content == content, "the card is no part of it"
    before = hashes(copy)
    train(copy, 7, 3)  # nothing to do
    assert hashes(copy) == before
    (copy / "card" / "new.svg").write_text("<svg></svg>")
    assert "new.svg is damaged" in zoo.verify()[0]
    train(copy, 7, 4)
    assert "Found" not in (copy / "README.md").read_text()
    assert Zoo.open(copy).verify() == []
    assert Zoo.open(copy).content != content
    assert not (copy / "card").exists()
    (copy / "manifest.json").unlink()
    assert zoo.content == ""
    with pytest.raises(UserError, match="is not finished"):
        write_card(zoo, "Found.", {})


def test_the_card(finished: Zoo) -> None:
    card = (finished.path / "README.md").read_text()
    acc = scores(np.arange(7), 3)["test_acc"] * 100
    assert f"{acc.mean():.2f} ± {acc.std(ddof=0):.2f} %" in card
    assert "| models | 7 (4 train, 2 val, 1 test)" in card
    assert "| diverged | 1 models" in card
    assert "init " in card
    assert "`python run.py zoo=tiny_zoo`" in card
    snippet = card.split("```python\n")[1].split("```")[0].replace('"tiny_zoo"', repr(str(finished.path)))
    scope: dict[str, object] = {}
    exec(snippet, scope)
    assert scope["weights"].shape == (4, 1, PARAMETERS)
