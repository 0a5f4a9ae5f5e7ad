"""The audit cannot be fooled: populations of copies, reconstructions, soups, one network, noise and new networks, mixed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.audit.findings import Audit
from analysis.audit.novelty import audit, audit_population
from analysis.show.report import LeftOut, _audits
from hyperrep.samplers import Sampler
from hyperrep.sampling import sample_population
from hyperrep.symmetry import Permutations
from hyperrep.training import train_hyperrep
from tests.integration.test_hyperrep import TINY
from tests.integration.test_train_zoo import configure, train
from zoo import Zoo
from zoo.networks.architecture import Architecture
from zoo.training.opening import read_images

MANY = [
    *TINY, "zoo.models=40", "zoo.epochs=8", "dataset.train_size=500", "zoo.name=many", "autoencoder.states=[7,8]",
    "population.models=20", "autoencoder.optimizer.epochs=4",
]  # fmt: skip
NEW: list[np.ndarray] = []  # networks that were trained on their own, float32 [20, P]


@dataclass
class Mixed(Sampler):
    """Calls itself independent: a share of copies of training models, slightly changed, and something else."""

    share: float
    rest: str
    noise: float = 0.0
    kind = "independent"
    space = "weights"

    def fit(self, anchors, accelerator="cpu"):
        last = anchors.epoch == anchors.epoch.max()
        self.anchors = anchors.embeddings[last]

    def sample(self, n, seed):
        random, count = np.random.default_rng(seed), round(self.share * n)
        copies = self.anchors[random.permutation(len(self.anchors))[:count]]
        copies = copies + self.noise * self.anchors.std(0) * random.standard_normal(copies.shape)
        return np.concatenate([copies, self.others(n - count, random)]).astype(np.float32)

    def others(self, n, random):
        if self.rest == "noise":
            return random.standard_normal((n, self.anchors.shape[1]))
        if self.rest == "one":
            return NEW[0][:1] + 1e-3 * random.standard_normal((n, NEW[0].shape[1]))
        if self.rest == "one, and noise":
            few = n // 4
            return np.concatenate([np.repeat(NEW[0][:1], n - few, 0), random.standard_normal((few, NEW[0].shape[1]))])
        if self.rest == "soups":
            return np.stack([self.anchors[random.permutation(len(self.anchors))[:6]].mean(0) for _ in range(n)])
        return NEW[0][:n]


@dataclass
class Permuted(Mixed):
    """Each draw in another order of neurons."""

    def sample(self, n, seed):
        permutations = Permutations(ARCH[0])
        order = permutations.random(n, torch.Generator().manual_seed(seed))
        return permutations.apply(torch.from_numpy(super().sample(n, seed)), order).numpy()


@dataclass
class Decoded(Mixed):
    """The same in the latent space, whose copies are reconstructions, and whose others are decoded from anywhere."""

    space = "latent"

    def others(self, n, random):
        return random.uniform(-1, 1, (n, self.anchors.shape[1]))


ARCH: list[Architecture] = []


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A zoo of models that have learnt something, with an autoencoder, and others that were trained on their own."""
    path = tmp_path_factory.mktemp("many")
    zoo = train(path, *MANY)
    other = train(path, *MANY, "zoo.name=other", "zoo.seeds.mode=drawn", "zoo.seeds.drawn_from=7", "zoo.models=20")
    NEW[:] = [other.weights(epochs=[8])[:, 0]]
    ARCH[:] = [Architecture.from_dict(zoo.description["arch"])]
    train_hyperrep(configure(path, *MANY))
    return path


def audited(root, sampler: type, **options) -> Audit:
    given = ",".join(f"{key}:{value!r}" for key, value in options.items())
    name = "_".join([sampler.__name__, *map(str, options.values())])
    config = configure(
        root, *MANY, "sampler=nearest", f"sampler.name={__name__}.{sampler.__name__}", "sampler.label=mixed",
        f"+sampler.options={{{given}}}", "population.name=" + "".join(c if c.isalnum() else "_" for c in name),
    )  # fmt: skip
    sample_population(config)
    return audit_population(config)


SHARES = {0.0: "new", 0.15: "partly", 0.5: "copies", 0.85: "copies", 1.0: "copies"}


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("rest", ["noise", "new"])
def test_copies_are_told_however_many_others_there_are(many, rest, noise):
    """Of 85 % copies and 15 % noise the audit once said: new networks, as various as the zoo's."""
    for share, word in SHARES.items():
        found = audited(many, Mixed, share=share, rest=rest, noise=noise)
        assert found.copies == pytest.approx(share)
        assert found.zoo_copies == 0
        assert found.verdict == word or (share == 0 and found.verdict == "narrow")
        assert found.kind == ("independent" if share == 0 else "anchored, though declared independent")
        assert np.isnan(found.reconstructions)
        if share == 1:
            assert found.iou > found.zoo_iou_q95
            assert found.iou == 1 or noise


def test_permuted_copies_are_copies(many):
    """In another order of neurons, with noise that shows in what they predict."""
    found = audited(many, Permuted, share=1.0, rest="new", noise=0.1)
    assert found.distance > 0.3
    assert found.copies > 0.8
    assert found.verdict == "copies"


def test_one_network_many_times_is_told_beside_noise(many):
    """Noise is far from everything, so that a mean over pairs does not show that all others are one."""
    for rest in ("one", "one, and noise"):
        found = audited(many, Mixed, share=0.0, rest=rest)
        assert found.repeats == pytest.approx(1.0 if rest == "one" else 0.75)
        assert found.copies == 0
        assert found.verdict == "collapsed"


def test_soups_are_no_copies(many):
    found = audited(many, Mixed, share=0.0, rest="soups")
    assert found.copies == 0
    assert found.verdict in ("new", "narrow", "collapsed")
    assert audited(many, Mixed, share=0.5, rest="soups").verdict == "copies"


def test_reconstructions_are_told_however_many_others_there_are(many):
    for share, word in SHARES.items():
        found = audited(many, Decoded, share=share, rest="latent")
        assert found.reconstructions == pytest.approx(share)
        assert found.copies <= share
        assert found.verdict in (
            (word.replace("copies", "reconstructions"),) if share else ("new", "narrow", "collapsed")
        )


def test_audits_from_before_networks_were_judged_one_by_one(many, monkeypatch):
    """The report shows them; a population from then is audited by what is known of it."""
    config = configure(many, *MANY, "sampler=kde_anchor", "sampler.bandwidth=1e-5", "population.name=older")
    population = sample_population(config)
    found = audit_population(config)
    assert (found.reconstructions, found.verdict) == (1.0, "reconstructions")
    file = many / "audits" / "older.csv"
    (many / "audits" / "manifest.json").unlink()  # which there was none of
    new = [
        item
        for item in pd.read_csv(file).columns
        if item in ("copies", "zoo_copies", "reconstructions", "repeats") or "iou" in item
    ]
    pd.read_csv(file).drop(columns=new).assign(verdict="new", kind="independent").to_csv(file, index=False)
    shown = _audits(many, LeftOut()).set_index("population").loc["older"]
    assert "new networks" in shown["the audit finds"]
    assert shown["copies"] == shown["zoo iou"] == "not measured"

    measured = population.description["measured"]
    for name in ("copies_by_weights", "reconstructions"):
        measured.pop(name)
    again = audit(population, Zoo.open(many / "zoos" / "many"), read_images(config), config)
    assert again.verdict == "reconstructions"
    assert np.isnan(again.reconstructions)

    assert audit_population(config) == found, "the older file is not taken for one of today"
    assert _audits(many, LeftOut()).set_index("population").loc["older", "reconstructions"] == "100.0"
