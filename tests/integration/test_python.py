"""hyperzoo from Python: tasks as functions, zoos as arrays, tensors, state dicts and data modules."""

import doctest
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

import hyperzoo as hz
import zoo.store.zoo
from zoo.base.errors import UserError
from zoo.config.reading import derive

ROOT = Path(__file__).parents[2]
SMALL = ["zoo=digits_seed", "zoo.models=20", "zoo.epochs=1", "dataset.train_size=50", "logger=none"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("python")


@pytest.fixture(scope="module")
def trained(root):
    return hz.train(*SMALL, f"paths.root={root}")


def test_a_zoo_is_trained_and_opened_again(root, trained):
    again = hz.open("digits_seed", root)
    assert repr(again) == "Zoo('digits_seed': 20 models, epochs 0 to 1, 2,464 parameters each, finished)"
    assert np.array_equal(hz.open(trained.path).weights(), trained.weights())
    with pytest.raises(UserError, match="no zoo"):
        hz.open("other", root)


def test_states_by_tensor_and_by_state_dict(trained):
    tensors, weights = trained.tensors("test", [0, 1]), trained.weights("test", [0, 1])
    assert np.array_equal(np.concatenate([t.reshape(3, 2, -1) for t in tensors.values()], axis=2), weights)
    found = list(trained.state_dicts("test", [0, 1]))
    assert [(model, epoch) for model, epoch, _ in found] == [
        (model, epoch) for model in trained.choose_models("test") for epoch in (0, 1)
    ]
    for i, (_, _, state) in enumerate(found):
        for name, values in state.items():
            assert np.array_equal(values, tensors[name][i // 2, i % 2])


def test_a_data_module_has_the_splits_by_model(trained):
    module = trained.datamodule([1], ["test_acc"], batch_size=8)
    loaders = {"train": module.train_dataloader(), "val": module.val_dataloader(), "test": module.test_dataloader()}
    for split, loader in loaders.items():
        weights = torch.cat([batch for batch, _ in loader])
        wanted = torch.from_numpy(trained.weights(split, [1])[:, 0])
        assert sorted(map(tuple, weights.tolist())) == sorted(map(tuple, wanted.tolist()))
    batch, properties = next(iter(loaders["val"]))
    assert (batch.shape, properties["test_acc"].shape) == ((3, 2464), (3,))


def test_values_of_a_configuration_may_be_changed(root, trained):
    config = hz.configure(*SMALL, f"paths.root={root}", "sampler=soup", "autoencoder.states=[1]")
    config.population.models, config.population.name = 3, "soups"
    population = hz.sample(config)
    assert (population.name, population.n_models) == ("soups", 3)
    assert hz.audit(config).verdict
    config.autoencoder.states = [99]
    with pytest.raises(UserError, match=r"autoencoder\.states: got \[99\]"):
        hz.sample(config)
    with pytest.raises(UserError, match="not both"):
        hz.sample(config, "population.models=3")


def test_presets_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "sampler").mkdir()
    text = (ROOT / "conf" / "sampler" / "soup.yaml").read_text()
    (tmp_path / "sampler" / "mine.yaml").write_text(text.replace("members: 10", "members: 3"))
    for words, options in (
        (["sampler=mine"], {"config_dir": tmp_path}),
        (["sampler=mine", f"hydra.searchpath=[{tmp_path}]"], {}),
    ):
        assert hz.configure(*words, **options).sampler.members == 3
    monkeypatch.setattr("hyperzoo.tasks.perform", lambda config: derive(config, "sampler=mine"))  # as comparisons do
    assert hz.run(config_dir=tmp_path).sampler.members == 3


def test_all_mistakes_are_told_at_once():
    with pytest.raises(UserError) as error:
        hz.run("zoo=mnist_sed", "zoo.epoch=3")
    assert "mnist_seed" in str(error.value)
    assert "zoo.epochs" in str(error.value)


def test_examples_in_docstrings(monkeypatch):
    monkeypatch.chdir(ROOT / "tests" / "earlier")
    done = doctest.testmod(zoo.store.zoo)
    assert done.attempted > 3
    assert done.failed == 0


def test_another_package_of_the_name_is_not_taken_for_ours(tmp_path):
    (tmp_path / "zoo.py").write_text("")
    code = "import zoo, hyperzoo"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert "import hyperzoo first" in done.stderr


@pytest.mark.slow
def test_installed_programs_are_not_shadowed_by_what_lies_around(tmp_path):
    """A wheel in an environment of its own; in the working directory and on PYTHONPATH a user's own run.py, zoo/, analysis/."""
    source = tmp_path / "source"
    source.mkdir()
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split():
        if (ROOT / name).exists() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, source], check=True, capture_output=True)
    venv.create(tmp_path / "venv", system_site_packages=False, with_pip=False)
    (packages,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    install = ["--python", tmp_path / "venv" / "bin" / "python", "install", "--no-deps", *tmp_path.glob("*.whl")]
    subprocess.run([*pip, *install], check=True)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "of_the_tests.pth").write_text(f"{here}\n")  # what it depends on
    mine = tmp_path / "mine"
    for name in ("zoo", "analysis", "hyperrep"):
        (mine / name).mkdir(parents=True)
        (mine / name / "__init__.py").write_text("raise ImportError('not ours')\n")
    (mine / "run.py").write_text("raise ImportError('not ours')\n")
    for program in (["hyperzoo", "--help"], ["hyperzoo", "zoo=mnist_sed"], ["python", "-m", "hyperzoo", "--help"]):
        command = [tmp_path / "venv" / "bin" / program[0], *program[1:]]
        for path in ("", "."):
            environment = os.environ | {"PYTHONPATH": path}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=mine)
            assert "not ours" not in done.stderr
            assert "mnist_seed" in done.stdout + done.stderr, done.stderr
