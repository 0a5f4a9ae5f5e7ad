"""`task=downstream` end to end on real digits, at toy scale: each comparison makes what it needs and measures what it says."""

import re
import shutil
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from playwright.sync_api import sync_playwright

import run
from analysis.measures.statistics import adjust, compare
from analysis.show.results import accuracy_table, comparisons, highest_table, overlap_table, read_results
from hyperrep.downstream.decoded import noisy
from hyperrep.downstream.ensemble import _accuracy, _logits
from hyperrep.downstream.smoothness import _pairs
from tests.integration.test_train_zoo import configure
from tests.populations import copied
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.config.command_line import command_line_problems
from zoo.config.reading import read_config
from zoo.training.opening import read_images

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TINY = [
    "zoo=digits_seed", "zoo.models=24", "zoo.epochs=4", "dataset.train_size=300", "logger=none", "autoencoder.states=[3,4]",
    "autoencoder.d_model=204", "autoencoder.heads=2", "autoencoder.feedforward=32", "autoencoder.latent=8",
    "autoencoder.optimizer.batch_size=8", "autoencoder.optimizer.epochs=3", "population.models=6",
]  # fmt: skip


def do(root: Path, *words: str):
    """A command, in this process; its configuration."""
    overrides = [f"paths.root={root}", *TINY, *words]
    with initialize_config_dir(str(run.CONFIG_DIR), version_base="1.3"):
        config = read_config(compose("config", overrides), run.Config)
        config.overrides = overrides
        for function in config.task.run:
            resolve_name(function)(config)
    return config


def results(root: Path, comparison: str) -> pd.DataFrame:
    return read_results(root / "results" / comparison)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where Table 1 has been made, with one method."""
    path = tmp_path_factory.mktemp("downstream")
    do(path, "task=downstream", "downstream.epochs=2", "downstream.reported=[0]")  # 2, the last, is shown anyway
    return path


def test_initialisation(root):
    table = results(root, "init")
    assert list(table.columns) == ["method", "dataset", "epoch", "model", "x", "metric", "value", "source"]
    zoos = {"B_T": "digits_seed", "S_KDE30": "digits_seed_small_kde30_0_on_digits_seed"}
    zoos["B_KDE30"] = "digits_seed_small_unnormalised_kde30_0_on_digits_seed"
    assert set(table["method"]) == set(zoos)
    for method, name in zoos.items():
        zoo, rows = Zoo.open(root / "zoos" / name), table[table["method"] == method]
        models = zoo.models if method != "B_T" else zoo.models[zoo.models["split"] == "test"]
        metrics = zoo.metrics[zoo.metrics["model_id"].isin(models["model_id"])]
        np.testing.assert_array_equal(rows["value"], metrics["test_acc"])
        np.testing.assert_array_equal(rows["epoch"], metrics["epoch"])
        assert set(rows["epoch"]) == set(range(5 if method == "B_T" else 3))
    population = Zoo.open(root / "zoos" / "digits_seed_small_kde30_0")
    start = table[(table["method"] == "S_KDE30") & (table["epoch"] == 0)]["value"]
    np.testing.assert_allclose(start, population.metrics["test_acc"])
    normalised = {}
    for name in ("digits_seed_small_kde30_0", "digits_seed_small_unnormalised_kde30_0"):
        spec = Zoo.open(root / "zoos" / name).description["spec"]
        normalised[name] = spec["autoencoder"]["loss"]["normalise"]
    assert list(normalised.values()) == [True, False]
    shown = (root / "results" / "init" / "init.md").read_text()
    for epoch in (0, 2):  # the second, where the fine-tuning ends, without being asked for
        assert re.search(rf"^\| {epoch} \| S_KDE30 \|", shown, re.MULTILINE)


def test_what_is_there_is_used(root, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in (root / "zoos").rglob("weights/**/*")}
    for name in ("hyperrep.sampling.draw", "analysis.audit.novelty.audit", "zoo.training.train._train_block"):
        monkeypatch.setattr(name, None)
    do(root, "task=downstream", "downstream.epochs=2", "downstream.reported=[0,2]")
    assert {path: path.stat().st_mtime_ns for path in (root / "zoos").rglob("weights/**/*")} == before


def test_tables_show_ours_and_the_published(root):
    table = results(root, "init").assign(dataset="mnist", source="mnist_seed")
    shown = accuracy_table(table, "init", [0, 2]).set_index(["epoch", "method"])
    values = 100 * table[(table["method"] == "S_KDE30") & (table["epoch"] == 0)]["value"]
    assert shown.loc[("0", "S_KDE30"), "mnist_seed"] == f"{values.mean():.1f} ± {values.std(ddof=0):.1f} (6)"
    assert shown.loc[("0", "S_KDE30"), "mnist_seed, published"] == "68.6 ± 6.7"
    assert shown.loc[("2", "S_KDE30"), "mnist_seed, published"] == "–"
    two = pd.concat([table, table.assign(source="mnist_hyp10f", value=table["value"] / 2)], ignore_index=True)
    both = accuracy_table(two, "init", [0, 2]).set_index(["epoch", "method"])
    assert both["mnist_seed"].equals(shown["mnist_seed"]), "zoos of the same images have columns of their own"
    assert both.loc[("0", "S_KDE30"), "mnist_hyp10f"] == f"{values.mean() / 2:.1f} ± {values.std(ddof=0) / 2:.1f} (6)"
    assert "mnist_hyp10f, published" not in both, "the paper learnt Seed zoos only"
    found = comparisons(table, [0, 2])
    assert len(found) == 2 * 3
    row = found[(found["epoch"] == 2) & (found["first"] == "S_KDE30") & (found["second"] == "B_T")].iloc[0]
    samples = [table[(table["method"] == m) & (table["epoch"] == 2)]["value"].to_numpy() for m in ("S_KDE30", "B_T")]
    expected = compare(*samples)
    assert (row["p"], row["effect"], row["difference"]) == (expected.p, expected.effect, expected.difference)
    np.testing.assert_allclose(found["p_adjusted"], adjust(found["p"].to_numpy()))


def test_transfer(root):
    words = [
        "downstream=transfer",
        "downstream.target=digits_hyp10f",
        'downstream.target_words=["zoo.models=14","zoo.name=target"]',
        "downstream.epochs=1",
        "downstream.reported=[0,1]",
    ]
    do(root, "task=downstream", *words, "downstream.methods.S_GAN30=null", "downstream.methods.S_Neigh30=null")
    table, source = results(root, "transfer"), Zoo.open(root / "zoos" / "digits_seed")
    assert set(table["method"]) == {"B_T", "B_F", "S_KDE30"}
    tuned = Zoo.open(root / "zoos" / "digits_seed_on_target")
    trained = source.models[source.models["split"] == "train"]["model_id"].tolist()[:6]
    assert tuned.models["start_model"].tolist() == trained
    np.testing.assert_array_equal(tuned.weights(epochs=[0]), source.weights(models=trained, epochs=[4]))
    chosen = table[(table["method"] == "B_F") & (table["epoch"] == 1)]["value"]
    np.testing.assert_array_equal(chosen, tuned.metrics[tuned.metrics["epoch"] == 1]["test_acc"])
    target = Zoo.open(root / "zoos" / "target")
    assert target.n_models == 14
    assert table[table["method"] == "B_T"]["model"].nunique() == (target.models["split"] == "test").sum()
    assert (root / "results" / "transfer" / "digits_seed_to_digits_hyp10f.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("combine", ["logits", "probabilities", "vote"])
def test_ensembles(root, combine):
    config = do(
        root, "task=downstream", "downstream=ensemble", f"downstream.combine={combine}", "downstream.sizes=[1,3,6]",
        "downstream.repeats=4", '+downstream.methods.MINE=["sampler=soup"]',
    )  # fmt: skip
    table, images = results(root, "ensemble"), read_images(config)
    population = Zoo.open(root / "zoos" / "digits_seed_small_kde30_0")
    ours = table[table["method"] == "S_KDE30"]
    assert ours.groupby("x").size().to_dict() == {1.0: 4, 3.0: 4, 6.0: 4}
    assert set(table["method"]) == {"B_T", "B_KDE30", "S_KDE30", "MINE"}
    single = population.metrics["test_acc"]
    assert all(np.isclose(single, value).any() for value in ours[ours["x"] == 1]["value"])
    assert ours[ours["x"] == 6]["value"].nunique() == 1  # all six, in any order
    pixels = images.normalise(images.test.pixels)
    with torch.no_grad():
        logits = torch.stack([population.module(i, 0)(pixels) for i in (1, 4, 5)])
    if combine == "probabilities":
        logits = logits.softmax(2)
    if combine == "vote":
        said = logits.argmax(2)
        logits = torch.stack([torch.stack([(said[m] == c).float() for c in range(10)], 1) for m in range(3)])
    slow = float((logits.mean(0).argmax(1) == images.test.labels).float().mean())
    found = _logits(population, population.models, 0, images, config)[[1, 4, 5]]
    assert _accuracy(found, images, combine) == pytest.approx(slow, abs=1 / 300)  # a tie may fall either way
    assert table[table["method"] == "B_T"]["x"].max() == 3  # there are but four test models


def test_robustness(root):
    config = do(root, "task=downstream", "downstream=robustness", "downstream.levels=[0.0,0.5]")
    table = results(root, "robustness")
    reconstructed = pd.read_csv(root / "hyperreps" / "digits_seed" / "small" / "results.csv").set_index("model_id")
    still = table[(table["method"] == "normalised") & (table["x"] == 0)]
    for metric, column in (("test_acc", "reconstructed"), ("r2", "r2")):
        rows = still[still["metric"] == metric]
        np.testing.assert_allclose(rows["value"], reconstructed.loc[rows["model"], column], atol=1e-4)
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    originals = table[table["method"] == "originals"]
    last = zoo.metrics[zoo.metrics["epoch"] == 4].set_index("model_id")["test_acc"]
    np.testing.assert_array_equal(originals["value"], last[originals["model"]])
    assert set(originals["model"]) == set(zoo.models[zoo.models["split"] == "test"]["model_id"])
    assert config.downstream.levels == [0.0, 0.5]


def test_noise_is_relative_to_each_dimension():
    spread = torch.tensor([0.1, 1.0, 0.0])
    embeddings = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * spread
    moved = noisy(embeddings, 0.3, 1) - embeddings
    np.testing.assert_allclose(moved.std(0), 0.3 * embeddings.std(0), rtol=0.05, atol=1e-9)
    assert torch.equal(noisy(embeddings, 0.0, 1), embeddings)


def test_members_of_ensembles_are_finite(root):
    """A diverged model would make every team it is in say the first class."""
    zoo, config = Zoo.open(root / "zoos" / "digits_seed"), configure(root, *TINY)
    rows, images = zoo.models[zoo.models["split"] == "test"], read_images(config)
    spoilt = int(rows["model_id"].iloc[1])

    def weights(epoch, values):
        values[spoilt] = np.nan
        return values

    logits = _logits(copied(zoo, "spoilt", weights), rows, 4, images, config)
    assert torch.equal(logits, _logits(zoo, rows, 4, images, config)[[i for i in range(len(rows)) if i != 1]])
    with pytest.raises(UserError, match=r"downstream.sizes: got \[50\], but no method has as many networks"):
        do(root, "task=downstream", "downstream=ensemble", "downstream.sizes=[50]")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [
                "downstream=robustness",
                "downstream.methods.normalised=null",
                "downstream.methods.unnormalised=null",
                '+downstream.methods.MINE=["autoencoder.states=[3]","autoencoder.name=three"]',
            ],
            "its last state is of epoch 3, but methods are compared at epoch 4",
        ),
        (
            [
                "downstream=unseen_zoo",
                "downstream.target=digits_seed",
                'downstream.target_words=["arch=cnn_4","zoo.name=four"]',
            ],
            r"downstream.target: got digits_seed, whose architecture \(arch=cnn_4, images 1×28×28\) is another than that of",
        ),
    ],
)
def test_what_cannot_be_compared_is_told_before_it_is_trained(root, words, said):
    before = sorted((root / "zoos").iterdir()), sorted((root / "hyperreps" / "digits_seed").iterdir())
    with pytest.raises(UserError, match=said):
        do(root, "task=downstream", *words)
    assert (sorted((root / "zoos").iterdir()), sorted((root / "hyperreps" / "digits_seed").iterdir())) == before


def test_lines_are_between_models_of_one_activation():
    """What lies between two weights or embeddings is run with it."""
    activations = np.array(["tanh", "relu", "tanh", "gelu", "relu", "tanh"])
    i, j = _pairs(activations, 10, 0)
    assert sorted(zip(i.tolist(), j.tolist())) == [(0, 2), (0, 5), (1, 4), (2, 5)]
    assert len(_pairs(np.array(["tanh"] * 6), 7, 0)[0]) == 7


def test_smoothness(root):
    do(
        root,
        "task=downstream",
        "downstream=smoothness",
        "downstream.points=3",
        "downstream.pairs=4",
        "downstream.from_epoch=1",
    )
    table, zoo = results(root, "smoothness"), Zoo.open(root / "zoos" / "digits_seed")
    ids = zoo.models[zoo.models["split"] == "test"]["model_id"].tolist()
    accuracy = zoo.metrics.set_index(["model_id", "epoch"])["test_acc"]
    along = table[(table["method"] == "weights") & (table["metric"] == "along")]
    for x, epoch in ((0.0, 1), (1.0, 4)):
        np.testing.assert_allclose(along[along["x"] == x]["value"], [accuracy[m, epoch] for m in ids], atol=1e-6)
    across = table[(table["method"] == "weights") & (table["metric"] == "across")]
    assert (across.groupby("x").size() == 4).all()
    assert all(np.isclose([accuracy[m, 4] for m in ids], v).any() for v in across[across["x"] == 0]["value"])
    decoded = table[(table["method"] == "normalised") & (table["metric"] == "along") & (table["x"] == 1)]["value"]
    reconstructed = pd.read_csv(root / "hyperreps" / "digits_seed" / "small" / "results.csv").set_index("model_id")
    np.testing.assert_allclose(decoded, reconstructed.loc[ids, "reconstructed"], atol=1e-4)
    assert set(table["method"]) == {"weights", "unnormalised", "normalised"}


@pytest.mark.slow
def test_weight_distribution(root):
    do(root, "task=downstream", "downstream=weight_distribution", "downstream.bins=20")
    table, zoo = results(root, "weight_distribution"), Zoo.open(root / "zoos" / "digits_seed")
    weights = zoo.weights(split="test", epochs=[4], layers=["fc1.weight"]).ravel()
    density, edges = np.histogram(weights, 20, density=True)
    ours = table[(table["method"] == "originals") & (table["metric"] == "fc1")]
    np.testing.assert_allclose(ours["x"], (edges[1:] + edges[:-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(ours["value"], density, rtol=0.02)  # a weight on an edge may be counted on either side
    overlap = overlap_table(table).set_index("layer")
    assert (overlap["originals"] == "100.0").all()
    assert list(overlap.index) == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert {"S_KDE30", "S_KDE30 reconstructions", "B_KDE30", "B_KDE30 reconstructions"} < set(overlap.columns)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["downstream=ensemble", "downstream.sizes=null"],
            "downstream.sizes: is missing, and downstream=ensemble needs it",
        ),
        (["+downstream.levels=[0.1]"], "downstream.levels: downstream=init has no such option"),
        (["downstream.methods.S_KDE30=[kde30]"], "downstream.methods.S_KDE30: got 'kde30', which is not KEY=VALUE"),
        (
            ["downstream=transfer", "downstream.target_words=[small]"],
            "downstream.target_words: got 'small', which is not",
        ),
        (
            ["downstream=transfer", "downstream.target=mnist_sed"],
            "downstream.target: zoo: got 'mnist_sed'; did you mean",
        ),
        (['+downstream.methods.MINE=["sampler=kda30"]'], "downstream.methods.MINE: sampler: got 'kda30'"),
        (['+downstream.methods.MINE=["autoencoder.lr=3"]'], "downstream.methods.MINE: autoencoder.lr: unknown key"),
        (
            ["downstream=transfer", 'downstream.target_words=["zoo.models=0"]'],
            "downstream.target_words: zoo.models: got 0",
        ),
        (["downstream=ensemble", "downstream.combine=average"], "downstream.combine: got 'average'"),
        (["downstream=intit"], "downstream: got 'intit'; did you mean init?"),
        (["autoencoder.d_model=100"], "longest token has 201 values"),
    ],
)
def test_mistakes_are_told_before_anything_starts(words, message):
    found = command_line_problems(["task=downstream", *words], run.CONFIG_DIR, False, run.Config)
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    "words",
    [
        [
            "downstream=transfer",
            "zoo=mnist_seed",
            "downstream.target=fmnist_seed",
            'downstream.target_words=["zoo.models=200"]',
        ],
        ["zoo=mnist_seed", '+downstream.methods.MINE=["sampler=gaussian_wide30"]'],
        ["sampler=flow", '+downstream.methods.F=["sampler.steps=500"]'],
        ["zoo=mnist_seed", '+downstream.methods.F=["population.models=70"]'],
    ],
)
def test_words_are_checked_with_those_of_the_command_line(words):
    assert command_line_problems(["task=downstream", *words], run.CONFIG_DIR, False, run.Config) == []


def test_reconstructions_are_fine_tuned_beside_their_originals(root):
    do(root, "task=downstream", "downstream=reconstruction", "downstream.epochs=2", "downstream.reported=[0,2]")
    table, zoo = results(root, "reconstruction"), Zoo.open(root / "zoos" / "digits_seed")
    ids = zoo.models[zoo.models["split"] == "test"]["model_id"].tolist()
    accuracy = zoo.metrics.set_index(["model_id", "epoch"])["test_acc"]
    tests = table[table["metric"] == "test_acc"]
    originals = tests[(tests["method"] == "originals") & (tests["epoch"] == 0)]["value"]
    np.testing.assert_allclose(originals, [accuracy[m, 4] for m in ids], atol=1e-6)  # in another order of neurons
    reconstructed = pd.read_csv(root / "hyperreps" / "digits_seed" / "small" / "results.csv").set_index("model_id")
    start = tests[(tests["method"] == "reconstructions") & (tests["epoch"] == 0)]["value"]
    np.testing.assert_allclose(start, reconstructed.loc[ids, "reconstructed"], atol=1e-4)
    pair = [Zoo.open(root / "zoos" / f"digits_seed_small_{n}_on_digits_seed") for n in ("originals", "reconstructions")]
    assert pair[0].models["seed"].equals(pair[1].models["seed"])
    w, v = (tuned.weights(models=[1], epochs=[2])[0, 0] for tuned in pair)
    of = table[(table["model"] == 1) & (table["epoch"] == 2)].set_index("metric")["value"]
    assert of["l2"] == pytest.approx(np.linalg.norm(w - v) / np.linalg.norm(w), rel=1e-5)
    assert of["cosine"] == pytest.approx(w @ v / np.linalg.norm(w) / np.linalg.norm(v), rel=1e-4)


def test_models_of_an_unseen_zoo(root):
    words = [
        "downstream=unseen_zoo",
        "downstream.target=digits_hyp10f",
        "downstream.sizes=[1,3]",
        "downstream.repeats=2",
        '+downstream.methods.A=["autoencoder.align=activations","autoencoder.name=a"]',
    ]
    do(root, "task=downstream", *words)
    table, target = results(root, "unseen_zoo"), Zoo.open(root / "zoos" / "digits_hyp10f")
    ids = target.models[target.models["split"] == "train"]["model_id"].tolist()
    accuracy = target.metrics.set_index(["model_id", "epoch"])["test_acc"]
    originals = table[(table["method"] == "originals") & (table["x"] == 1)]["value"]
    np.testing.assert_allclose(originals, [accuracy[m, 4] for m in ids], atol=1e-6)  # aligned: the same networks
    counts = table.groupby(["method", "x"]).size()
    assert counts["S", 1.0] == counts["A", 1.0] == len(ids)
    assert counts["S", 3.0] == 2
    shown = highest_table(table.assign(source="mnist_seed", dataset="svhn"))
    assert shown[(shown["method"] == "S") & (shown["of"] == "single models")]["published"].item() == "12.7 / 19.8"


@pytest.mark.slow
def test_other_architectures(root):
    words = [
        "downstream=unseen_arch",
        "downstream.target=digits_seed",
        "downstream.epochs=1",
        "downstream.reported=[0,1]",
    ]
    do(root, "task=downstream", *words, "downstream.archs=[cnn_4,cnn_s_res]")
    table = results(root, "unseen_arch")
    assert set(table["method"]) == {
        f"{arch} {what}" for arch in ("cnn_4", "cnn_s_res") for what in ("random", "S_KDE30")
    }
    assert (table.groupby(["method", "epoch"]).size() == 6).all()
    population = Zoo.open(root / "zoos" / "digits_seed_small_kde30_0")
    tuned = Zoo.open(root / "zoos" / "digits_seed_small_kde30_0_as_cnn_4_on_digits_seed_cnn_4")
    np.testing.assert_array_equal(tuned.weights(epochs=[0]), population.weights())  # as many values, in their order
    assert isinstance(tuned.module(0, 1), torch.nn.Sequential)
    start = table[(table["method"] == "cnn_4 S_KDE30") & (table["epoch"] == 0)]["value"]
    np.testing.assert_array_equal(start, tuned.metrics[tuned.metrics["epoch"] == 0]["test_acc"])


def test_the_report_holds_all_of_it(root):
    do(root, "task=report")
    page = (root / "report.html").read_text()
    made = {file.parent.name for file in (root / "results").rglob("*.parquet")}
    assert "init" in made
    for comparison in made:
        assert f'<section id="{comparison}">' in page
        assert f'<figure id="figure-{comparison}-' in page
    assert "digits_seed_small_kde30_0" in page
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*|url\((?!#)[^)]*|@import|<script|<link""", page)
    assert outside == [], "self-contained"


def test_the_report_tells_what_is_of_an_earlier_state_of_a_zoo(root, tmp_path):
    after = tmp_path / "after"
    shutil.copytree(root, after)
    do(after, "task=report")
    assert "earlier state" not in (after / "report.html").read_text()
    do(after, "task=zoo", "zoo.models=26")
    do(after, "task=report")
    page = (after / "report.html").read_text()
    for what in ("The comparison init of digits_seed", "The population digits_seed_small_kde30_0"):
        assert f"{what} is of an earlier state of zoo digits_seed" in page
    made_by = re.findall(r"It was made by:</p><pre>(.*?)</pre>", page)
    assert len(made_by) == page.count("earlier state")
    assert all(command.startswith("python run.py ") for command in made_by)


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium (apt-get install chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_in_a_browser(root, tmp_path, width):
    """On a phone and on a desk: all tables are there and have rows, and the page itself does not scroll sideways."""
    do(root, "task=report")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": width, "height": 844})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((root / "report.html").as_uri())
        page.screenshot(path=tmp_path / "report.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        rows = page.eval_on_selector_all(
            "table", "tables => tables.map(table => table.querySelectorAll('tbody tr').length)"
        )
        heights = page.eval_on_selector_all("figure svg", "all => all.map(svg => svg.getBoundingClientRect().height)")
        assert page.locator("#novelty table").is_visible()
        assert page.locator("#init table").first.is_visible()
        browser.close()
    assert errors == []
    assert len(rows) >= 4
    assert min(rows) > 0
    assert min(heights) > 100
    pixels = np.asarray(Image.open(tmp_path / "report.png").convert("L"))
    assert pixels.shape[1] == width
    assert 0.01 < (pixels < 128).mean() < 0.3, "there is something to read, on paper that is mostly white"


def test_a_report_needs_results(tmp_path):
    with pytest.raises(
        UserError, match=r"there are no results under .*: make some with .* task=analysis or task=downstream"
    ):
        do(tmp_path, "task=report")


EXPERIMENTS = sorted(path.stem for path in (run.CONFIG_DIR / "experiment").glob("*.yaml"))
NOT_HERE = ["zoo=digits_seed", "autoencoder.d_model=204", "autoencoder.blocks=1", "autoencoder.optimizer.bf16=false"]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_at_toy_scale(tmp_path, name):
    """All that conf/experiment/ describes runs from nothing to its table; on digits, which are there without a network."""
    small = {
        "init": ["downstream.epochs=1"], "transfer": ["downstream.epochs=1", "downstream.target=digits_hyp10r"],
        "ensemble": ["downstream.sizes=[1,2]", "downstream.repeats=2"], "reconstruction": ["downstream.epochs=1"],
        "unseen_zoo": ["downstream.target=digits_hyp10r", "downstream.sizes=[1,2]", "downstream.repeats=2"],
        "robustness": ["downstream.levels=[0.0,0.3]"], "smoothness": ["downstream.points=3", "downstream.from_epoch=1"],
        "weight_distribution": ["downstream.bins=10"],
        "unseen_arch": ["downstream.epochs=1", "downstream.target=digits_seed", "downstream.archs=[cnn_4_id]"],
    }  # fmt: skip
    first = (run.CONFIG_DIR / "experiment" / f"{name}.yaml").read_text().splitlines()[1]
    assert first.startswith("# python run.py ")
    assert f"experiment={name}" in first
    with initialize_config_dir(str(run.CONFIG_DIR), version_base="1.3"):
        composed = read_config(compose("config", [f"experiment={name}", f"paths.root={tmp_path}"]), run.Config)
    words = [f"experiment={name}", *NOT_HERE, "zoo.name=toy", "zoo.models=20", "population.models=4"]
    if composed.task.name == "downstream":
        comparison = composed.downstream.name
        words += small[comparison]
        words += [f"downstream.methods.{m}=null" for m in composed.downstream.methods if "GAN" in m or "Neigh" in m]
    do(tmp_path, *words)
    if composed.task.name == "downstream":
        assert len(results(tmp_path, comparison)) > 0
        assert (tmp_path / "report.html").stat().st_size > 10_000
    assert Zoo.open(tmp_path / "zoos" / "toy").finished
