"""What earlier versions made goes on: tests/earlier/ is what the version of 2026-11-28 (ee65185) wrote on two cores.

A zoo of 20 small networks after one epoch, an autoencoder of it, and a population drawn with that.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from hyperrep.sampling import sample_population
from hyperrep.training import train_hyperrep
from tests.integration.test_train_zoo import configure
from zoo import Zoo
from zoo.networks.architecture import Architecture
from zoo.training.train import train_zoo

EARLIER = Path(__file__).parents[1] / "earlier"
LAYERS = "[{conv:2,kernel:5},{pool:2},activation,{conv:2,kernel:5},{pool:2},activation,flatten,{linear:10}]"
WORDS = [
    "zoo=digits_seed", "zoo.name=before", "arch.name=tiny", f"arch.layers={LAYERS}", "zoo.models=20", "zoo.block_size=10",
    "dataset.train_size=50", "logger=none", "zoo.published=null",
]  # fmt: skip
LEARNT = [
    "autoencoder.states=[1]", "autoencoder.d_model=52", "autoencoder.heads=2", "autoencoder.feedforward=16",
    "autoencoder.latent=4", "autoencoder.projection_layers=1", "autoencoder.projection_width=4",
    "autoencoder.projection_outputs=4", "autoencoder.optimizer.batch_size=8", "autoencoder.optimizer.schedule=constant",
    "sampler=kde30", "population.name=drawn", "population.models=4", "zoo.epochs=1",
]  # fmt: skip
# sha256 of what that version made of it with zoo.epochs=2.
EPOCH_2 = {
    "00000-00009": "ab891762906d21a7620fc91a546164614379434be2862f25e488f3e9aeddb779",
    "00010-00019": "aabf78fbb45b88bcb28699795bc9589929f46a59763b30732b38620aaa7a11db",
}


@pytest.fixture
def root(tmp_path):
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    return tmp_path


def sha(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["before", "drawn"])
def test_stores_are_intact(root, name):
    zoo = Zoo.open(root / "zoos" / name)
    assert zoo.verify() == []
    assert isinstance(zoo.architecture, Architecture)


def test_a_zoo_goes_on_with_the_same_bits(root):
    train_zoo(configure(root, *WORDS, "zoo.epochs=2"))
    zoo = Zoo.open(root / "zoos" / "before")
    assert zoo.verify() == []
    assert {path.name: sha(path / "epoch-0002.safetensors") for path in (zoo.path / "weights").glob("*-*")} == EPOCH_2


def test_a_zoo_made_anew_has_the_same_bits(root, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    train_zoo(configure(again, *WORDS, "zoo.epochs=1"))
    old, new = (Zoo.open(path / "zoos" / "before") for path in (root, again))
    assert np.array_equal(old.weights(), new.weights())
    assert old.identity == new.identity


def test_an_autoencoder_and_a_population_are_taken_as_they_are(root):
    before = {file: sha(file) for file in root.rglob("*.safetensors")}
    train_hyperrep(configure(root, *WORDS, *LEARNT, "autoencoder.optimizer.epochs=1", "task=hyperrep"))
    sample_population(configure(root, *WORDS, *LEARNT, "autoencoder.optimizer.epochs=1", "task=sample"))
    assert {file: sha(file) for file in root.rglob("*.safetensors")} == before


def test_an_autoencoder_goes_on(root):
    train_hyperrep(configure(root, *WORDS, *LEARNT, "autoencoder.optimizer.epochs=2", "task=hyperrep"))
    (folder,) = (root / "hyperreps" / "before").glob("*/last.safetensors")
    assert sha(folder) != sha(EARLIER / folder.relative_to(root))
