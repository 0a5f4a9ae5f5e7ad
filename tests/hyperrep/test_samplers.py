"""Every sampler goes through one tester; then each against statistics that are computed by others, or slowly."""

import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf, ShrunkCovariance
from sklearn.neighbors import KernelDensity

from hyperrep.config import SamplerConfig
from hyperrep.samplers import SAMPLERS, Anchors, Sampler, fit_sampler, sampler_class, sampler_problems, top
from hyperrep.samplers.kde import KDESampler
from zoo.base.errors import UserError
from zoo.config.typed import typed

PRESETS = Path(__file__).parents[2] / "conf" / "sampler"
NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def preset(name: str, **changes) -> SamplerConfig:
    """The config of conf/sampler/<name>.yaml, read as the command line would, with some values changed."""
    with initialize_config_dir(str(PRESETS), version_base="1.3"):
        plain = OmegaConf.to_container(compose(name))
    problems: list[str] = []
    config = typed(plain | changes, SamplerConfig, {}, "sampler", problems)
    assert not problems
    return config


def make_anchors(embeddings, properties=None) -> Anchors:
    """Anchors at `embeddings` whose accuracy grows with the row on validation, and falls on test images."""
    n = len(embeddings)
    accuracy = np.linspace(0.1, 0.9, n)
    embeddings = np.asarray(embeddings, np.float32)
    return Anchors(embeddings, np.arange(n), np.full(n, 25), accuracy, properties, accuracy[::-1])


def correlated(n=240, dimensions=12, share=0.7) -> np.ndarray:
    """Points in (-1, 1)^D, all of whose dimensions depend on one factor (with another sign in every second)."""
    draws = np.random.RandomState(0)
    factor = draws.standard_normal((n, 1)) * np.resize([1, -1], dimensions)
    return np.tanh(0.6 * (share * factor + np.sqrt(1 - share**2) * draws.standard_normal((n, dimensions))))


def nearest_anchor(draws, anchors) -> np.ndarray:
    """Distance of each draw to its nearest anchor, in units of the median distance between nearest anchors."""
    between = cdist(anchors, anchors)
    np.fill_diagonal(between, np.inf)
    return cdist(draws, anchors).min(axis=1) / np.median(between.min(axis=1))


def clusters(n=400, dimensions=6) -> tuple[np.ndarray, pd.DataFrame]:
    """Two clusters on either side of the origin, each with correlated dimensions; and which one a point is in."""
    draws = np.random.RandomState(1)
    side = draws.permutation(np.resize([1, -1], n))
    shared = draws.standard_normal((n, 1))
    points = 0.5 * side[:, None] + 0.08 * (shared + draws.standard_normal((n, dimensions)))
    return points, pd.DataFrame({"side": np.where(side > 0, "right", "left"), "position": side * 1.0})


# ----------------------------------------------------------------------------------------------- every sampler


@pytest.fixture(scope="class")
def sampler(request):
    tester = request.cls
    return fit_sampler(preset(tester.name, **tester.changes), tester.anchors)


class SamplerTester:
    """What holds for every sampler. Subclasses name the sampler, and options that make its fitting short."""

    name: str
    changes: dict = {}  # noqa: RUF012
    variants: tuple[dict, ...] = ()  # other options under which draws must hardly move
    anchors = make_anchors(correlated())

    def test_shape_and_type(self, sampler):
        draws = sampler.sample(7, seed=1)
        assert draws.shape == (7, 12)
        assert draws.dtype == np.float32
        assert np.isfinite(draws).all()

    def test_the_seed_decides(self, sampler):
        draws = sampler.sample(9, seed=1)
        np.testing.assert_array_equal(draws, sampler.sample(9, seed=1))
        assert not np.array_equal(draws, sampler.sample(9, seed=2))

    def test_global_state_is_neither_read_nor_changed(self, sampler):
        results = []
        for seed in (3, 4):
            random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)  # noqa: NPY002
            before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
            fitted = fit_sampler(preset(self.name, **self.changes), self.anchors)
            results.append(fitted.sample(5, seed=1))
            assert random.getstate() == before[0]
            np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
            assert torch.equal(torch.get_rng_state(), before[2])
            assert torch.get_num_threads() == 1  # as set for these tests; numba would change it
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], sampler.sample(5, seed=1))

    def test_anchors_are_not_changed(self, sampler):
        draws = sampler.sample(5, seed=1)
        draws[:] = 7
        np.testing.assert_array_equal(self.anchors.embeddings, np.asarray(correlated(), np.float32))

    def test_the_declared_kind_is_true(self, sampler):
        distance = nearest_anchor(sampler.sample(100, seed=1), self.anchors.embeddings)
        if sampler.kind == "anchored":
            assert distance.max() < 0.5
        else:
            assert np.median(distance) > 0.5

    # How far draws may move when every number of the anchors is moved by one unit in its last place; None: as far as any two
    # draws, because the method itself amplifies what it is given.
    moves: float | None = 2e-6

    @pytest.mark.parametrize(("n", "dimensions"), [(240, 12), (18, 40)])
    def test_draws_hardly_move_when_the_anchors_hardly_do(self, n, dimensions):
        """With fewer anchors than dimensions, and two dimensions that never change: eigenvalues are equal there."""
        if self.moves is None:
            pytest.skip("chaotic by nature")
        points = np.float32(correlated(n, dimensions))
        points[:, :2] = 0.25
        up = np.random.RandomState(5).rand(n, dimensions) < 0.5
        moved = np.where(up, np.nextafter(points, np.float32(2)), np.nextafter(points, np.float32(-2)))
        moved[:, :2] = points[:, :2]
        for changes in (self.changes, *self.variants):
            fitted = [fit_sampler(preset(self.name, **changes), make_anchors(z)) for z in (points, moved)]
            draws, others = (sampler.sample(50, seed=1) for sampler in fitted)
            np.testing.assert_allclose(draws, others, atol=self.moves)

    def test_latent_draws_stay_near_the_cube(self, sampler):
        if sampler.space == "latent":
            assert abs(sampler.sample(100, seed=1)).max() < 1.2


class TestUniform(SamplerTester):
    name = "uniform"

    def test_distribution(self, sampler):
        draws = sampler.sample(2000, seed=1)
        assert stats.kstest(draws.ravel(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
        assert abs(stats.spearmanr(draws).statistic - np.eye(12)).max() < 0.1


class TestKDE(SamplerTester):
    name = "kde"


class TestKDEJoint(SamplerTester):
    name = "kde_joint"

    def test_noise(self, sampler):
        draws, z = sampler.sample(3000, seed=1), self.anchors.embeddings
        noise = draws - z[cdist(draws, z).argmin(axis=1)]
        np.testing.assert_allclose(noise.std(axis=0), 0.1 * z.std(axis=0), rtol=0.1)
        assert abs(np.corrcoef(noise.T) - np.eye(12)).max() < 0.1


class TestKDEAnchor(SamplerTester):
    name = "kde_anchor"


class TestCounterfactual(SamplerTester):
    name = "counterfactual"

    def test_draws_lie_where_the_density_is_low(self, sampler):
        """By the densities of scipy: among the lowest on the interval, and far below the KDE's own draws."""
        usual = fit_sampler(preset("kde"), self.anchors).sample(500, seed=1)
        draws = sampler.sample(500, seed=1)
        grid = np.linspace(-1, 1, 1001)
        for values, low, high in zip(self.anchors.embeddings.T.astype(float), draws.T, usual.T):
            density = stats.gaussian_kde(values, bw_method=0.1)
            assert density(low).max() <= np.quantile(density(grid), 0.11) + 1e-6
            assert np.median(density(low)) < 0.3 * np.median(density(high))

    def test_a_share_of_the_interval_is_left(self):
        """Uniform anchors have no region that is empty: the share is what decides."""
        anchors = make_anchors(np.random.RandomState(0).uniform(-1, 1, (2000, 2)))
        draws = fit_sampler(preset("counterfactual", density_quantile=0.25), anchors).sample(5000, seed=1)
        for column in draws.T:
            assert 0.2 <= (np.histogram(column, 512, (-1, 1))[0] > 0).mean() <= 0.25
        assert stats.kstest((draws.ravel() + 1) * 256 % 1, "uniform").pvalue > 1e-3  # anywhere within a cell

    def test_a_dead_dimension(self):
        points = correlated()
        points[:, 0] = 0.3
        draws = fit_sampler(preset("counterfactual"), make_anchors(points)).sample(500, seed=1)
        assert abs(draws[:, 0] - 0.3).min() > 1e-3
        assert draws[:, 0].min() < -0.9
        assert draws[:, 0].max() > 0.9


class TestGaussian(SamplerTester):
    name = "gaussian"
    variants = ({"shrinkage": 0.0}, {"shrinkage": 1.0}, {"rotate": False}, {"spread": 3.0})

    def test_a_constant_dimension_stays_unless_shrinkage_moves_it(self):
        points = correlated(10, 40)
        points[:, 0] = 0.25
        for shrinkage, spread in ((0.0, 0.0), (0.5, 0.3)):
            draws = fit_sampler(preset("gaussian", shrinkage=shrinkage), make_anchors(points)).sample(200, seed=1)
            assert abs(draws[:, 0].std() - spread) <= 0.3 * spread
            assert abs(draws[:, 0].mean() - 0.25) < 0.1

    def test_the_first_draws_are_those_of_fewer(self, sampler):
        """However many are drawn at once."""
        np.testing.assert_allclose(sampler.sample(2500, seed=1)[:900], sampler.sample(900, seed=1), atol=1e-6)

    def test_the_covariance_is_that_of_scikit_learn(self):
        """Far from the bounds, with fewer anchors than dimensions."""
        z = np.float32(0.1 * correlated(10, 40))
        for shrinkage, expected in ((None, LedoitWolf()), (0.3, ShrunkCovariance(shrinkage=0.3))):
            draws = fit_sampler(preset("gaussian", shrinkage=shrinkage), make_anchors(z)).sample(60000, seed=1)
            wanted = expected.fit(z.astype(np.float64)).covariance_
            np.testing.assert_allclose(np.cov(draws.T), wanted, atol=0.03 * wanted.diagonal().max())

    def test_moments(self, sampler):
        """Far from the bounds, so that nothing is clipped: the moments are those of many anchors."""
        z = 0.3 * correlated(n=5000)
        draws = fit_sampler(preset("gaussian"), make_anchors(z)).sample(20000, seed=1)
        np.testing.assert_allclose(draws.mean(axis=0), z.mean(axis=0), atol=5e-3)
        np.testing.assert_allclose(np.cov(draws.T), np.cov(z.T), atol=1e-3)
        assert abs(np.cov(z.T)[0, 1]) > 5e-3  # so the tolerance would show a covariance that is missing

    def test_clipped_to_the_cube(self):
        z = np.random.RandomState(0).choice([-0.99, 0.99], (50, 3))
        draws = fit_sampler(preset("gaussian"), make_anchors(z)).sample(1000, seed=1)
        assert abs(draws).max() == 1

    def test_more_dimensions_than_anchors(self):
        draws = fit_sampler(preset("gaussian"), make_anchors(correlated(10, 40))).sample(20, seed=1)
        assert np.linalg.matrix_rank(draws - draws.mean(axis=0)) == 19  # shrinkage: not stuck in the anchors' span

    @pytest.mark.parametrize(("shrinkage", "kept"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
    def test_shrinkage_and_spread(self, shrinkage, kept):
        """Covariances scale with the square of the spread, those between dimensions with what shrinkage keeps."""
        z = 0.2 * correlated(n=5000)
        chosen = preset("gaussian", shrinkage=shrinkage, spread=1.5)
        found = np.cov(fit_sampler(chosen, make_anchors(z)).sample(20000, seed=1).T)
        expected = 1.5**2 * np.cov(z.T)
        np.testing.assert_allclose(found[0, 1], kept * expected[0, 1], atol=6e-4)
        np.testing.assert_allclose(np.trace(found), np.trace(expected), rtol=0.02)

    def test_without_rotation_dimensions_are_independent(self):
        z = 0.3 * correlated(n=5000)
        draws = fit_sampler(preset("gaussian", rotate=False, shrinkage=0.0), make_anchors(z)).sample(20000, seed=1)
        np.testing.assert_allclose(draws.std(axis=0), z.std(axis=0), rtol=0.03)
        assert abs(np.corrcoef(z.T)[0, 1]) > 0.3 > 0.03 > abs(np.corrcoef(draws.T)[0, 1])


class TestNoise(SamplerTester):
    name = "noise"


class TestSoup(SamplerTester):
    name = "soup"

    def test_mean_of_distinct_anchors(self):
        """Anchors are unit vectors: a draw shows its members."""
        draws = fit_sampler(preset("soup", members=3), make_anchors(np.eye(12))).sample(50, seed=1)
        np.testing.assert_allclose(np.sort(draws, axis=1)[:, -3:], 1 / 3, rtol=1e-6)
        assert (np.sort(draws, axis=1)[:, :-3] == 0).all()
        assert (draws.sum(axis=0) > 0).all()

    def test_all_members(self):
        draws = fit_sampler(preset("soup", members=None), self.anchors).sample(2, seed=1)
        np.testing.assert_allclose(draws, [self.anchors.embeddings.mean(axis=0)] * 2, rtol=1e-5)


class TestPCA(SamplerTester):
    name = "pca"

    def test_components_of_equal_size_have_no_basis_of_their_own(self):
        """Two equal variances: any rotation of the two components is as good, and rounding chooses one."""
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        circle = np.zeros((24, 6))
        circle[:, 0], circle[:, 1] = np.cos(angle), np.sin(angle)
        circle += 0.1 * np.random.RandomState(0).standard_normal((24, 1)) * np.eye(6)[2]
        tilt = 1e-7 * np.random.RandomState(1).standard_normal(circle.shape)
        draws = [
            fit_sampler(preset("pca", components=2), make_anchors(np.float32(z))).sample(20, seed=1)
            for z in (circle, circle + tilt)
        ]
        np.testing.assert_allclose(*draws, atol=1e-5)

    def test_distribution(self):
        """The covariance is that of the anchors without what lies outside the components (by an eigendecomposition)."""
        z = correlated(share=0.9)
        draws = fit_sampler(preset("pca", components=2), make_anchors(z)).sample(50000, seed=1)
        values, vectors = np.linalg.eigh(np.cov(z.T))
        expected = (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T
        np.testing.assert_allclose(np.cov(draws.T), expected, atol=0.02 * values[-1])
        np.testing.assert_allclose(draws.mean(axis=0), z.mean(axis=0), atol=0.01)
        assert np.linalg.matrix_rank(draws[:100] - draws.mean(axis=0), tol=1e-3) == 2


class TestNearest(SamplerTester):
    name = "nearest"

    def test_every_anchor_once_before_any_comes_twice(self, sampler):
        n = len(self.anchors)
        copies = cdist(sampler.sample(2 * n, seed=1), self.anchors.embeddings) == 0
        for half in (copies[:n], copies[n:]):
            assert (half.sum(axis=0) == 1).all()
            assert (half.sum(axis=1) == 1).all()


class TestGAN(SamplerTester):
    name = "gan"
    changes = {"steps": 60}  # noqa: RUF012
    moves = None

    @pytest.mark.slow
    def test_learns_where_the_anchors_are(self):
        points, _ = clusters()
        sampler = fit_sampler(preset("gan", steps=1500), make_anchors(points))
        draws = sampler.sample(500, seed=1)
        untrained = fit_sampler(preset("gan", steps=1), make_anchors(points)).sample(500, seed=1)
        distance, before = (cdist(d, points).min(axis=1).mean() for d in (draws, untrained))
        assert distance < 0.5 * before


class TestFlow(SamplerTester):
    name = "flow"
    changes = {"steps": 60}  # noqa: RUF012

    @pytest.mark.slow
    def test_learns_two_clusters(self):
        points, _ = clusters()
        draws = fit_sampler(preset("flow", steps=800), make_anchors(points)).sample(2000, seed=1)
        right = draws.mean(axis=1) > 0
        assert 0.4 < right.mean() < 0.6
        assert (abs(draws.mean(axis=1)) > 0.2).mean() > 0.95  # hardly any between the clusters
        for mask, side in ((right, 1), (~right, -1)):
            cluster = points[points.mean(axis=1) * side > 0]
            np.testing.assert_allclose(draws[mask].mean(axis=0), cluster.mean(axis=0), atol=0.03)
            np.testing.assert_allclose(np.cov(draws[mask].T), np.cov(cluster.T), atol=0.004)
            assert np.cov(cluster.T)[0, 1] > 0.005

    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "left", "right"), [("side", "left", "right"), ("position", -1, 1)])
    def test_condition(self, name, left, right):
        points, properties = clusters()
        config = preset("flow", steps=400, condition={name: None, "val_accuracy": None})
        sampler = fit_sampler(config, make_anchors(points, properties))
        assert (sampler.sample(200, 1, {name: left}).mean(axis=1) < 0).mean() > 0.98
        assert (sampler.sample(200, 1, {name: right}).mean(axis=1) > 0).mean() > 0.98
        assert 0.35 < (sampler.sample(400, 1).mean(axis=1) > 0).mean() < 0.65  # as the anchors have it

    def test_the_configured_value_is_the_default(self):
        points, properties = clusters()
        anchors = make_anchors(points, properties)
        sampler = fit_sampler(preset("flow", steps=30, condition={"side": "left"}), anchors)
        np.testing.assert_array_equal(sampler.sample(5, 1), sampler.sample(5, 1, {"side": "left"}))
        assert not np.array_equal(sampler.sample(5, 1), sampler.sample(5, 1, {"side": "right"}))

    def test_wrong_conditions(self):
        anchors = make_anchors(*clusters(n=20))
        for name in ("colour", "test_accuracy"):
            with pytest.raises(UserError, match=f"{name} unknown; these anchors have val_accuracy, epoch, side"):
                fit_sampler(preset("flow", steps=1, condition={name: None}), anchors)
        sampler = fit_sampler(preset("flow", steps=1, condition={"side": None, "epoch": None}), anchors)
        for condition, message in (
            ({"position": 1}, "position was not trained with; trained with: side, epoch"),
            ({"side": "up"}, "side: got 'up'; the anchors have .'left', 'right'."),
            ({"epoch": "last"}, "epoch: got 'last', which is not a number"),
        ):
            with pytest.raises(UserError, match=message):
                sampler.sample(2, 1, condition)


@pytest.mark.slow
class TestNeighbour(SamplerTester):
    name = "neighbour"
    moves = None

    @pytest.mark.parametrize("cube", ["per_axis", "global"])
    def test_box(self, cube):
        sampler = fit_sampler(preset("neighbour", cube=cube), self.anchors)
        places = sampler.map.embedding_
        for axis in range(3):
            bounds = places[:, axis] if cube == "per_axis" else places
            assert (sampler.low[axis], sampler.high[axis]) == (bounds.min(), bounds.max())

    def test_draws_resemble_the_anchors(self, sampler):
        """UMAP's map and back: far nearer to the anchors than what is uniform in the cube."""
        uniform = fit_sampler(preset("uniform"), self.anchors).sample(100, seed=1)
        distance = nearest_anchor(sampler.sample(100, seed=1), self.anchors.embeddings)
        assert np.median(distance) < 0.7 * np.median(nearest_anchor(uniform, self.anchors.embeddings))


def test_every_sampler_is_tested():
    assert {tester.name for tester in SamplerTester.__subclasses__()} == set(SAMPLERS)


@pytest.mark.parametrize("name", ["gan", "flow"])
def test_training_writes_no_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit_sampler(preset(name, steps=2), make_anchors(correlated()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # a fresh interpreter
def test_umap_is_not_imported_at_import_time():
    code = "import sys, hyperrep.samplers; sys.exit('umap' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --------------------------------------------------------------------------------- the KDE of the paper and of the code


def assert_dimensions_are_independent(draws: np.ndarray) -> None:
    """Spearman's rank correlation vanishes for each pair of dimensions (Bonferroni-corrected)."""
    result = stats.spearmanr(draws)
    pairs = np.triu_indices(draws.shape[1], 1)
    assert result.pvalue[pairs].min() > 0.001 / len(pairs[0])


@pytest.mark.parametrize("seed", range(5))
def test_kde_takes_each_dimension_for_itself(seed):
    anchors = make_anchors(correlated(share=0.95))
    assert_dimensions_are_independent(fit_sampler(preset("kde"), anchors).sample(2000, seed))


@pytest.mark.parametrize("name", ["kde_anchor", "kde_joint", "nearest"])
def test_anchored_samplers_fail_the_test_of_independence(name):
    """The released behaviour (and its kin) is not the sampler that the paper describes."""
    anchors = make_anchors(correlated(share=0.95))
    with pytest.raises(AssertionError):
        assert_dimensions_are_independent(fit_sampler(preset(name), anchors).sample(400, seed=0))


@pytest.mark.parametrize("name", ["kde", "kde_joint"])
@pytest.mark.parametrize("bandwidth", [0.05, 0.5])
def test_kde_marginals_are_those_of_scipy(name, bandwidth):
    anchors = make_anchors(correlated())
    draws = fit_sampler(preset(name, bandwidth=bandwidth), anchors).sample(4000, seed=1)
    for values, drawn in zip(anchors.embeddings.T.astype(float), draws.T):
        # scipy's unit is the standard deviation with n - 1
        density = stats.gaussian_kde(values, bw_method=bandwidth * values.std() / values.std(ddof=1))
        assert stats.ks_2samp(drawn, density.resample(4000, seed=2)[0]).pvalue > 1e-3 / 12


@pytest.mark.parametrize("name", ["kde", "kde_joint"])
def test_an_absolute_bandwidth_is_taken_as_it_is(name):
    anchors = make_anchors(np.zeros((20, 3)))
    draws = fit_sampler(preset(name, bandwidth=0.002, bandwidth_absolute=True), anchors).sample(5000, seed=1)
    np.testing.assert_allclose(draws.std(axis=0), 0.002, rtol=0.05)
    still = fit_sampler(preset(name, bandwidth=0.002), anchors).sample(5, seed=1)  # relative: no spread, no noise
    assert (still == 0).all()


def released_draws(z: np.ndarray, n: int) -> np.ndarray:
    """What the released code draws: one KDE of scikit-learn a dimension, each with the same random state."""
    columns = [KernelDensity(bandwidth=0.002).fit(column[:, None]).sample(n, random_state=42) for column in z.T]
    return np.concatenate(columns, axis=1)


def anchor_and_noise(draws: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each draw its nearest anchor's index, and what was added to it."""
    index = cdist(draws, z).argmin(axis=1)
    return index, draws - z[index]


def test_kde_anchor_has_the_statistics_of_the_released_code():
    z = make_anchors(correlated()).embeddings.astype(np.float64)
    ours = fit_sampler(preset("kde_anchor"), make_anchors(z)).sample(3000, seed=1).astype(np.float64)
    released = released_draws(z, 3000)
    numbers = []
    for draws, precision in ((released, 1e-12), (ours, 2e-7)):
        index, noise = anchor_and_noise(draws, z)
        assert np.ptp(noise, axis=1).max() < precision  # the same in all dimensions
        distance = np.linalg.norm(draws - z[index], axis=1)
        np.testing.assert_allclose(distance, np.sqrt(12) * abs(noise[:, 0]), atol=1e-6)
        assert stats.kstest(noise[:, 0] / 0.002, "norm").pvalue > 1e-3
        uses = np.bincount(index, minlength=len(z))
        assert stats.chisquare(uses).pvalue > 1e-3  # every anchor as often
        numbers.append(noise[:, 0])
    assert stats.ks_2samp(*numbers).pvalue > 1e-3


def test_kde_is_far_from_the_anchors_where_the_released_code_is_not():
    z = make_anchors(np.random.RandomState(0).uniform(-1, 1, (700, 50))).embeddings
    paper = fit_sampler(preset("kde", bandwidth=0.002, bandwidth_absolute=True), make_anchors(z)).sample(50, seed=1)
    assert cdist(released_draws(z, 50), z).min(axis=1).max() < 0.1
    assert cdist(paper, z).min(axis=1).min() > 2


# ------------------------------------------------------------------------------------------------- top and presets


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "neighbour" in n else ()) for n in NAMES if n.endswith("30")]
)
def test_30_uses_only_the_top_anchors(name):
    """The best anchors on validation images lie around 0.7, the others around -0.7."""
    draws = np.random.RandomState(0)
    best = np.arange(100) >= 70
    points = np.where(best, 0.7, -0.7)[:, None] + 0.05 * draws.standard_normal((100, 4))
    changes = {"steps": 300} if "gan" in name or "flow" in name else {}
    config = preset(name, **changes)
    assert config.top == 0.3
    assert config.top_by == "validation"
    assert fit_sampler(config, make_anchors(points)).sample(50, seed=1).min() > 0.2
    # all anchors, and those that are best on test images, are somewhere else
    if not changes:
        for other in ({"top": None}, {"top_by": "test"}):
            assert fit_sampler(preset(name, **other), make_anchors(points)).sample(50, seed=1).min() < 0.2


@settings(max_examples=50)
@given(st.lists(st.sampled_from([0.1, 0.5, 0.7, 0.8, 0.9]), min_size=1, max_size=40), st.floats(0.01, 1))
def test_top(accuracy, share):
    """Slowly: the share is kept, no kept anchor is worse than a dropped one, and ties stay together."""
    n = len(accuracy)
    values = np.array(accuracy)
    factors = pd.DataFrame({"row": np.arange(n)})
    anchors = Anchors(np.zeros((n, 1), np.float32), np.arange(n), np.zeros(n, int), values, factors, -values)
    for by in ("val_accuracy", "test_accuracy"):
        kept = top(anchors, share, by)
        chosen = set(kept.model_id)
        assert list(kept.properties["row"]) == list(kept.model_id)
        assert len(kept) >= max(1, int(share * n - 1e-9))
        score = dict(zip(anchors.model_id, getattr(anchors, by)))
        dropped = [score[i] for i in score if i not in chosen]
        unknown = Anchors(np.zeros((n + 2, 1), np.float32), np.arange(n + 2), np.zeros(n + 2, int),
                          np.append(values, [np.nan] * 2), None, np.append(-values, [np.nan] * 2))  # fmt: skip
        assert set(top(unknown, share, by).model_id) == chosen, "those of unknown accuracy change nothing"
        assert all(score[i] > worst for i in chosen for worst in dropped)
        # no more than the share, but for ties at the quantile and the one that the quantile falls on
        strictly = [i for i in chosen if score[i] > min(score[j] for j in chosen)]
        assert len(strictly) <= share * n + 1


@pytest.mark.parametrize(
    "config", [("kde", {}), ("kde30", {}), ("kde30", {"top_by": "test"}), ("kde", {"top_by": "test"})]
)
def test_what_fit_is_handed_knows_nothing_of_the_test_images(config, monkeypatch):
    """Also where anchors are selected by their test accuracy: that is all that it is for."""
    seen = []
    monkeypatch.setattr(KDESampler, "fit", lambda self, anchors, accelerator="cpu": seen.append(anchors))
    name, changes = config
    fit_sampler(preset(name, **changes), make_anchors(correlated()))
    (anchors,) = seen
    assert anchors.test_accuracy is None
    assert len(anchors) == (72 if "30" in name else 240)
    best_on_test = changes.get("top_by") == "test" and "30" in name
    assert anchors.model_id.min() == (0 if best_on_test or "30" not in name else 168)
    for column in ("test_acc", "test_loss", "test_acc_3"):
        with pytest.raises(ValueError, match=f"nothing of the test images, but properties has {column}"):
            make_anchors(correlated(3), pd.DataFrame({"lr": [1.0] * 3, column: [0.5] * 3}))
    with pytest.raises(ValueError, match="no test_accuracy"):
        top(anchors, by="test_accuracy")


def test_no_anchors_and_broken_anchors_are_the_users_to_mend():
    with pytest.raises(UserError, match="no anchors"):
        make_anchors(np.zeros((0, 3)))
    broken = np.zeros((4, 3))
    broken[2, 1] = np.nan
    with pytest.raises(UserError, match=r"1 of 4 anchors are not finite \(model 2 is the first\)"):
        make_anchors(broken)
    with pytest.raises(ValueError, match="lengths"):
        Anchors(np.zeros((2, 3), np.float32), np.arange(2), np.arange(2), np.arange(2.0), None, np.arange(3.0))
    unknown = Anchors(np.zeros((2, 3), np.float32), np.arange(2), np.arange(2), np.full(2, np.nan), None, np.ones(2))
    with pytest.raises(UserError, match=r"none of 2 has a finite val_accuracy.*\(sampler\.top_by=test\)"):
        top(unknown)
    assert len(top(unknown, by="test_accuracy")) == 2


@pytest.mark.parametrize(("name", "least"), [("gaussian", 2), ("pca", 5), ("soup", 10), ("neighbour", 16)])
def test_too_few_anchors(name, least):
    with pytest.raises(UserError, match=f"sampler={name} needs at least {least} anchors, got {least - 1}"):
        fit_sampler(preset(name), make_anchors(correlated(least - 1)))


@pytest.mark.parametrize("name", NAMES)
def test_presets(name):
    config = preset(name)
    assert sampler_problems(config) == []
    assert config.name == name.removesuffix("30").removesuffix("_wide")
    assert (config.best_of, config.variety) == ((32, 0.8) if "wide" in name else (1, 0.0))
    assert (config.top == 0.3) == name.endswith("30")
    kind = sampler_class(config.name).kind
    first = (PRESETS / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(f" {kind.capitalize()}.")


def test_options_that_are_missing_or_of_another_sampler():
    config = preset("kde", bandwidth=None, steps=3)
    assert sampler_problems(config) == [
        "sampler.bandwidth: is missing, and sampler=kde needs it",
        "sampler.steps: sampler=kde has no such option; it has: bandwidth, bandwidth_absolute",
    ]
    with pytest.raises(UserError, match=r"bandwidth: is missing.*\n.*steps"):
        fit_sampler(config, make_anchors(correlated()))
    assert sampler_problems(preset("soup", members=None)) == []
    (problem,) = sampler_problems(preset("kde", variety=0.5))
    assert problem.startswith("sampler.variety: got 0.5, but with sampler.best_of=1 every draw is kept")


@dataclass
class Doubled(Sampler):
    """A sampler of a user: random anchors times a factor."""

    factor: float
    offset: float = 0.0
    kind = "anchored"
    space = "latent"

    def fit(self, anchors, accelerator="cpu"):
        self.anchors = anchors.embeddings

    def sample(self, n, seed):
        return self.factor * self.anchors[np.random.default_rng(seed).integers(len(self.anchors), size=n)] + self.offset


@dataclass
class Nowhere(Doubled):
    """A sampler of a user that does not say where its draws are."""

    space = None


@dataclass
class Idle(Sampler):
    """A sampler of a user that cannot sample."""

    kind = "anchored"
    space = "latent"

    def fit(self, anchors, accelerator="cpu"):
        pass


MINE = f"{__name__}.Doubled"


def test_a_class_of_the_user_is_a_sampler():
    config = SamplerConfig(MINE, "mine", None, "validation", 1, 0.0, options={"factor": 2.0})
    assert sampler_problems(config) == []
    z = correlated()
    draws = fit_sampler(config, make_anchors(z)).sample(5, seed=0)
    assert cdist(draws, 2 * z).min(axis=1).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("kda", None, "got 'kda'; did you mean kde?"),
        ("nowhere.Sampler", None, "nowhere.Sampler cannot be imported"),
        ("numpy.ndarray", None, "no dataclass derived from"),
        (f"{__name__}.Nowhere", {"factor": 1.0}, "needs fit and sample, kind .independent or anchored. and space"),
        (f"{__name__}.Idle", {}, "needs fit and sample, kind"),
        (MINE, {}, "sampler.factor: is missing"),
        (MINE, {"factor": "abc"}, "sampler.options.factor: got 'abc', which is not a number"),
        (MINE, {"factor": 1.0, "factr": 2}, "sampler.factr: .* has no such option; it has: factor, offset"),
    ],
)
def test_mistakes_with_own_samplers_are_told(name, options, words):
    (problem,) = sampler_problems(SamplerConfig(name, "mine", None, "validation", 1, 0.0, options=options))
    assert re.search(words, problem)
