"""`task=analysis` on real digits: what it writes, against plain modules and plain loops over pairs."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist

import run
from analysis.benchmark.prediction import PUBLISHED, across_table, check, early_table, probe_epochs, probes_table
from analysis.benchmark.probes import ridge, split_of
from analysis.measures.maps import alike
from analysis.measures.summary import measure, viable
from analysis.measures.table import Measures
from analysis.show import side_by_side
from analysis.show.card import pairs_figure
from analysis.show.maps import map_figure
from analysis.show.report import write_report
from analysis.show.side_by_side import analysed
from analysis.show.zoo_tables import shown_across, shown_measures, shown_probes
from analysis.zoo_analysis import analyse_zoo, measures_table
from tests.integration.test_command_line import problems
from tests.integration.test_hyperrep import TINY, ZOO
from tests.integration.test_train_zoo import configure, train
from tests.populations import copied
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.engines.evaluation import predictions
from zoo.networks.architecture import Architecture
from zoo.training.opening import read_images

WORDS = [*ZOO, "analysis.cka_images=20", "analysis.map_states=60"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("analysis")
    train(path, *ZOO, "zoo.license=MIT")
    analyse_zoo(configure(path, *WORDS))
    return path


def table(root, name):
    return pd.read_csv(root / "analysis" / "digits_seed" / f"{name}.csv")


@pytest.mark.slow
def test_measures_are_those_of_plain_modules(root):
    zoo, images = Zoo.open(root / "zoos" / "digits_seed"), read_images(configure(root, *ZOO))
    pictures = images.normalise(images.test.pixels)
    with torch.no_grad():
        predicted = np.stack([zoo.module(m, 4).eval()(pictures).argmax(1).numpy() for m in range(24)])
    weights = zoo.weights(epochs=[4])[:, 0].astype(np.float64)
    pairs = {
        "agreement": [(predicted[i] == predicted[j]).mean() for i in range(24) for j in range(i + 1, 24)],
        "l2": pdist(weights) / np.linalg.norm(weights, axis=1).mean(),
        "cosine": pdist(weights, "cosine"),
    }
    found = table(root, "measures").set_index("measure")
    for name, values in pairs.items():
        assert found.loc[name, "n"] == 24 * 23 / 2
        np.testing.assert_allclose(
            found.loc[name, ["mean", "std"]], [100 * np.mean(values), 100 * np.std(values)], rtol=1e-4
        )
    accuracy = (predicted == images.test.labels.numpy()).mean(1)
    np.testing.assert_allclose(found.loc["accuracy", ["mean", "std"]], [100 * accuracy.mean(), 100 * accuracy.std()])
    np.testing.assert_allclose(
        found.loc["weights", ["mean", "std"]], [100 * weights.mean(), 100 * weights.std()], rtol=1e-5
    )
    layers = [found.loc[f"cka {i}", "mean"] for i in range(1, 6)]
    assert found.loc["cka", "mean"] == pytest.approx(np.mean(layers), abs=1e-4)
    assert 0 < min(layers) < max(layers) <= 100
    assert "cka 6" not in found.index
    assert found["published_mean"].isna().all()


NORMED = ["zoo.name=normed", "arch=resnet18", "arch.protocol=plain", "arch.module=tests.populations.Normed",
          "zoo.grid.activation=[relu]", "zoo.models=20", "zoo.epochs=2"]  # fmt: skip


def test_networks_with_batchnorm(tmp_path, monkeypatch):
    """With their running statistics, and a part at a time, as a zoo of ResNets that does not fit into memory."""
    train(tmp_path, *ZOO, *NORMED)
    config, zoo = (
        configure(tmp_path, *WORDS, *NORMED),
        Zoo.open(tmp_path / "zoos" / "normed", "tests.populations.Normed"),
    )
    images = read_images(config)
    limit, read, weights_of = 3 * 4 * zoo.n_parameters, [], Zoo.weights
    monkeypatch.setattr("analysis.measures.summary.BYTES_AT_ONCE", limit)
    monkeypatch.setattr("analysis.features.LARGEST", zoo.n_parameters - 1)
    monkeypatch.setattr(Zoo, "weights", lambda *args, **words: read.append(weights_of(*args, **words)) or read[-1])
    measure(zoo, images, config)
    assert 0.5 * limit < max(part.nbytes for part in read) <= limit
    analyse_zoo(config)
    with torch.no_grad():
        pictures = images.normalise(images.test.pixels)
        predicted = [zoo.module(m, 2)(pictures).argmax(1) for m in range(20)]
    agreement = [(predicted[i] == predicted[j]).double().mean() for i in range(20) for j in range(i + 1, 20)]
    folder = tmp_path / "analysis" / "normed"
    found = pd.read_csv(folder / "measures.csv").set_index("measure")
    assert found.loc["agreement", "mean"] == pytest.approx(100 * np.mean(agreement))
    assert "cka" not in found.index
    assert set(pd.read_csv(folder / "probes.csv")["feature"]) == {"s(w)"}
    assert zoo.verify() == []


def test_distributions_and_performance(root):
    shares = table(root, "pairs").groupby("measure")["share"].sum()
    np.testing.assert_allclose(shares, 1)
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    metrics = zoo.metrics[zoo.metrics["epoch"] == 3]["test_acc"]
    row = table(root, "performance").set_index("epoch").loc[3]
    assert (row["n"], row["q0"], row["q100"]) == (24, metrics.min(), metrics.max())
    np.testing.assert_allclose(row[["mean", "std", "q50"]], [metrics.mean(), metrics.std(ddof=0), metrics.median()])


def test_models_that_are_not_viable_are_left_out_and_counted(root):
    zoo, config = Zoo.open(root / "zoos" / "digits_seed"), configure(root, *WORDS)
    largest = np.sort(np.abs(zoo.weights(epochs=[4])[:, 0]).max(1))
    config.analysis.weight_threshold = float(largest[20])
    found = measure(zoo, read_images(config), config)
    assert (len(found.models), found.left_out) == (21, {"beyond the weight threshold": 3})
    assert len(found.accuracy) == 21
    assert len(found.pairs["l2"]) == 210
    config.analysis.weight_threshold = 1e-9
    with pytest.raises(UserError, match=r"no model is viable at epoch 4 \(24 beyond the weight threshold\); see"):
        analyse_zoo(config)
    weights = np.array([[1.0, 2.0], [np.nan, 0.0], [-3.0, 0.0], [np.inf, 0.0]])
    assert [part.tolist() for part in viable(np.abs(weights).max(1), 2.0)] == [
        [True, False, True, False],
        [True, False, False, False],
    ]
    assert viable(np.abs(weights).max(1), None)[1].tolist() == [True, False, True, False]


def test_probes(root):
    found = table(root, "probes")
    assert found.columns[:3].tolist() == ["feature", "probe", "target"]
    assert set(found["target"]) == {"test_acc", "ggap", "epoch"}  # a Seed zoo varies in nothing else
    assert len(found) == 3 * 3  # trees are of s(w) alone
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    assert (found["models"] == (zoo.models["split"] == "test").sum()).all()
    assert (found["n"] == 2 * found["models"]).all()  # states of the epochs 1 and 4


def test_the_end_from_the_beginning(root):
    found, zoo = table(root, "early"), Zoo.open(root / "zoos" / "digits_seed")
    assert set(found["epoch"]) == {1, 2}  # the training ends at 4: 5 is not before it
    assert set(found["feature"]) == {"w", "s(w)", "validation accuracy"}
    states = zoo.metrics.merge(zoo.models[["model_id", "split"]])
    at = {e: states[states["epoch"] == e].set_index("model_id") for e in (2, 4)}
    x = np.c_[at[2]["val_acc"], np.ones(24)]
    y, split = at[4]["test_acc"].to_numpy(), at[4]["split"].to_numpy()
    known = found[(found["epoch"] == 2) & (found["feature"] == "validation accuracy") & (found["probe"] == "linear")]
    train, test = split == "train", split == "test"
    beta = np.linalg.solve(x[train].T @ x[train] + known["chosen"].item() * np.eye(2), x[train].T @ y[train])
    expected = 1 - ((x[test] @ beta - y[test]) ** 2).mean() / y[test].var()
    assert known["value"].item() == pytest.approx(expected)
    assert early_table(configure(root, *WORDS, "analysis.early_epochs=[]"), zoo).empty


def test_models_that_diverge_later_are_foreseen(root):
    """A test model with a weight beyond the threshold at the end is not viable there, but counts at the beginning."""
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    model = int(zoo.models.query("split == 'test'")["model_id"].iloc[0])

    def spoilt(epoch, weights):
        if epoch == 4:
            weights[model, 0] = 100
        return weights

    copy, config = copied(zoo, "spoilt", spoilt), configure(root, *WORDS, "analysis.early_epochs=[2]")
    found = measure(copy, read_images(configure(root, *ZOO)), config)
    assert found.not_viable == "1 beyond the weight threshold"
    probed = probes_table(config, copy)
    assert set(probed["models"]) == {4}
    assert set(probed["n"]) == {7}, "its state at epoch 1 counts, that of epoch 4 does not"
    assert set(early_table(config, copy)["models"]) == {4}


def test_models_of_an_unknown_activation_are_left_out(root):
    """Imported zoos may have them: they are counted, and nothing of them is measured."""
    config = configure(root, *WORDS, "zoo.name=strange", "analysis.map_states=9")
    zoo, images = Zoo.open(root / "zoos" / "digits_seed"), read_images(config)
    rows = zoo.models.assign(activation=["leakyrelu", None, *["tanh"] * 22])
    copied(zoo, "strange", rows=rows)
    analyse_zoo(config)
    folder = root / "analysis" / "strange"
    found = pd.read_csv(folder / "measures.csv").set_index("measure")
    assert found.loc["accuracy", "n"] == 22
    assert "2 of an unknown activation; left out below" in (folder / "card.html").read_text()
    assert not (folder / "map.csv").exists(), "nine states make no map"
    arch = Architecture.from_dict(zoo.description["arch"])
    with pytest.raises(UserError, match=r"2 of 24 networks have an activation that is not known here \(leakyrelu, "):
        predictions(arch, zoo.weights(epochs=[4])[:, 0], rows, images.test, images, config.engine)


def test_what_imported_models_do_not_tell(root):
    """A factor or a score that one model lacks costs that model only."""
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    rows = zoo.models.assign(init=[None, *["uniform", "normal"] * 11, "normal"], lr=[np.nan] * 12 + [0.1, 0.2] * 6)
    rows = rows.astype({"init": object})
    unknown = int(rows.query("split == 'test'")["model_id"].iloc[0])

    def scores(table):
        lacking = table.assign(
            test_loss=np.where(table["model_id"] == 23, np.nan, table["test_loss"]),
            test_acc=np.where(table["model_id"] == unknown, np.nan, table["test_acc"]),
        )
        return lacking.assign(val_acc=np.where(table["model_id"] == 1, np.nan, table["val_acc"]))

    copied(zoo, "lacking", rows=rows, scores=scores, spec={"kind": "imported"})
    analyse_zoo(configure(root, *WORDS, "zoo.name=lacking", "analysis.early_epochs=[2]"))
    folder = root / "analysis" / "lacking"
    accuracy = pd.read_csv(folder / "measures.csv").set_index("measure").loc["accuracy"]
    assert accuracy["n"] == 22
    assert np.isfinite(accuracy["mean"])
    assert "1 diverged; left out below" in (folder / "card.html").read_text()
    near = pd.read_csv(folder / "neighbours.csv").set_index("factor")
    assert near.loc["init", "n"] == 22
    assert near.loc["lr", "n"] == 11
    assert near.loc["lr", "chance"] == pytest.approx((6 * 5 + 5 * 4) / (11 * 10))
    early = pd.read_csv(folder / "early.csv")
    assert set(early["feature"]) == {"w", "s(w)", "validation accuracy"}
    assert set(early["models"]) == {3}


def test_probes_of_another_zoo(root):
    """What is fitted is fitted on the other zoo: on its train and validation splits, as by hand."""
    train(root, *ZOO, "zoo.name=other_seeds", "zoo.split_seed=1", "zoo.grid.init=[normal]")
    zoo, other = Zoo.open(root / "zoos" / "digits_seed"), Zoo.open(root / "zoos" / "other_seeds")
    config = configure(root, *WORDS, "analysis.others=[other_seeds]")
    found = across_table(config, zoo)
    assert set(found["source"]) == {"other_seeds"}
    score = found.set_index(["feature", "probe", "target"]).loc[("w", "linear", "test_acc")]
    there, here = (z.dataset(None, [1, 4], ["split", "test_acc"]) for z in (other, zoo))
    fitted, validated = (split_of(there.weights.numpy(), there.table, "test_acc", part) for part in ("train", "val"))
    by_hand = ridge(fitted, validated, split_of(here.weights.numpy(), here.table, "test_acc", "test"))
    assert score["value"] == by_hand.value
    own = probes_table(config, zoo).set_index(["feature", "probe", "target"])
    assert score["value"] != own.loc[("w", "linear", "test_acc"), "value"]
    assert len(shown_across(found)) == 3
    with pytest.raises(UserError, match="no zoo in"):
        check(configure(root, *WORDS, "analysis.others=[nowhere]"), zoo)
    train(root, *ZOO, "zoo.name=other", "arch=cnn_4", "zoo.models=2", "zoo.epochs=0")
    with pytest.raises(UserError, match="another architecture"):
        check(configure(root, *WORDS, "analysis.others=[other]"), zoo)
    with pytest.raises(UserError, match=r"^analysis\.targets: .*no property 'test_accc': did you mean 'test_acc'"):
        analyse_zoo(configure(root, *WORDS, "analysis.targets=[test_accc]"))


def test_no_probe_is_fitted_on_models_that_are_tested(root, caplog):
    """The other zoo has this one's models, dealt otherwise: those that are tested here are not learnt from there."""
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    tested = zoo.models["split"] == "test"
    rows = zoo.models.assign(split=np.where(tested, "train", zoo.models["split"]))
    rows.loc[rows.index[~tested][:2], "split"] = "test"
    other = copied(zoo, "dealt_otherwise", rows=rows)
    found = across_table(configure(root, *WORDS, "analysis.others=[dealt_otherwise]"), zoo)
    assert "nothing is fitted on 4 models, test models of 'digits_seed'" in caplog.text
    score = found.set_index(["feature", "probe", "target"]).loc[("w", "linear", "test_acc")]
    there, here = (z.dataset(None, [1, 4], ["split", "test_acc"]) for z in (other, zoo))
    kept = ~there.table["model_id"].isin(np.flatnonzero(tested)).to_numpy()
    values, states = there.weights.numpy()[kept], there.table[kept]
    fitted, validated = (split_of(values, states, "test_acc", part) for part in ("train", "val"))
    by_hand = ridge(fitted, validated, split_of(here.weights.numpy(), here.table, "test_acc", "test"))
    assert score["value"] == by_hand.value
    began = {0: np.random.default_rng(0).normal(size=(24, zoo.n_parameters)).astype(np.float32)}
    copied(zoo, "of_other_weights", lambda epoch, weights: began.get(epoch, weights), rows)
    across_table(configure(root, *WORDS, "analysis.others=[of_other_weights]"), zoo)
    assert caplog.text.count("nothing is fitted on") == 1, "populations and twins are of like seeds and other weights"
    few = rows[tested].assign(model_id=range(tested.sum()))
    copied(zoo, "all_tested", lambda _, weights: weights[tested], few, lambda scores: scores[tested.to_numpy()])
    assert across_table(configure(root, *WORDS, "analysis.others=[all_tested]"), zoo).empty
    leaking = split_of(there.weights.numpy(), there.table, "test_acc", "train")
    tested_here = split_of(here.weights.numpy(), here.table, "test_acc", "test")
    assert score["value"] != ridge(leaking, validated, tested_here).value


def one_dimensional(config, zoo, states, weights):
    return weights[:, 0]


def too_few(config, zoo, states, weights):
    return weights[1:]


def not_finite(config, zoo, states, weights):
    return weights * np.nan


def failing(config, zoo, states, weights):
    return states["no such column"]


def of_no_width(config, zoo, states, weights):
    return weights[:, :0]


def beyond_float32(config, zoo, states, weights):
    return np.full((len(states), 1), 1e200)


def greedy(config, zoo, states, weights):
    weights[:] = 0
    states["epoch"] = states["epoch"].to_numpy()[::-1]
    return np.ones((len(states), 1))


def as_wide_as_models(config, zoo, states, weights):
    return np.ones((len(states), states["model_id"].nunique()))


def test_a_feature_cannot_spoil_the_others(root):
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    words = [*WORDS, "analysis.probes=[linear]"]
    alone = probes_table(configure(root, *words), zoo)
    path = f"+analysis.features.a={__name__}.greedy"
    config = configure(root, *words, path)
    config.analysis.features = {"a": config.analysis.features["a"], **config.analysis.features}
    beside = probes_table(config, zoo)
    pd.testing.assert_frame_equal(beside[beside["feature"] != "a"].reset_index(drop=True), alone)


def test_a_feature_has_one_width(root, monkeypatch):
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    monkeypatch.setattr("analysis.measures.summary.BYTES_AT_ONCE", 4 * zoo.n_parameters * 2 * 5)
    mine = f"+analysis.features.mine={__name__}.as_wide_as_models"
    config = configure(root, *WORDS, mine)
    with pytest.raises(UserError, match=r"features\.mine: gave 4 or 5 numbers a state, for 48 of 48 states"):
        probes_table(config, zoo)
    monkeypatch.setattr("analysis.measures.summary.BYTES_AT_ONCE", 2**30)
    copied(zoo, "fewer", lambda _, weights: weights[:20], zoo.models.head(20), lambda rows: rows.head(20))
    with pytest.raises(UserError, match=r"features\.mine: gave 20 numbers a state of fewer and 24 of dig"):
        across_table(configure(root, *WORDS, "analysis.others=[fewer]", mine), zoo)


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (one_dimensional, r"gave float32 \[1\] for 1 states"),
        (too_few, r"gave float32 \[0, 2464\] for 1 states"),
        (not_finite, "gave numbers that are not finite"),
        (failing, "failed: KeyError: 'no such column'"),
        (of_no_width, r"gave float32 \[1, 0\] for 1 states"),
        (beyond_float32, "gave numbers that are not finite, or not in float32"),
    ],
)
def test_a_feature_that_is_none_is_told_before_anything_is_measured(root, tmp_path, feature, said):
    (tmp_path / "zoos").symlink_to(root / "zoos")
    path = f"{__name__}.{feature.__name__}"
    with pytest.raises(UserError, match=rf"^analysis\.features\.mine: {path} {said}"):
        analyse_zoo(configure(tmp_path, *WORDS, f"+analysis.features.mine={path}"))
    assert not (tmp_path / "analysis").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["analysis.probe_epochs=[]"], "analysis.probe_epochs: got [], but at least one"),
        (["analysis.targets=[test_acc,test_acc]"], "analysis.targets: got ['test_acc', 'test_acc'], but none may be"),
        (["analysis.others=[a/b]"], "analysis.others: got 'a/b', but it is a folder's name"),
        (["analysis.others=[digits_seed]"], "analysis.others: got 'digits_seed', which is the zoo itself"),
        (["analysis.cka_images=1000"], "analysis.cka_images: got 1000, but it must be at least 2 and at most 200"),
        (["+analysis.features.mine=os.no_such"], "analysis.features.mine: os.no_such cannot be imported"),
    ],
)
def test_mistakes_are_told_before_anything_starts(words, said):
    assert said in problems("task=analysis", *words)


def test_embeddings_are_features(root):
    from hyperrep.training import train_hyperrep

    words = [
        *TINY,
        "+analysis.features.z=hyperrep.features.embeddings",
        "analysis.probes=[linear]",
        "analysis.probe_epochs=[3,4]",
    ]
    config = configure(root, *words)
    with pytest.raises(UserError, match="task=hyperrep"):
        analyse_zoo(config)
    train_hyperrep(config)
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    found = probes_table(config, zoo)
    assert set(found["feature"]) == {"w", "s(w)", "z"}


def test_embeddings_of_another_zoo(root):
    """Its models come in the order of neurons that the autoencoder knows: copies of models with other orders are embedded
    as the models are."""
    from hyperrep.features import embeddings
    from hyperrep.symmetry import Permutations
    from hyperrep.training import train_hyperrep

    config, zoo = configure(root, *TINY), Zoo.open(root / "zoos" / "digits_seed")
    train_hyperrep(config)
    states = zoo.dataset(None, [3, 4])
    expected = embeddings(config, zoo, states.table, states.weights.numpy())
    permutations = Permutations(Architecture.from_dict(zoo.description["arch"]))
    orders = permutations.random(24, torch.Generator().manual_seed(0))
    other = copied(zoo, "shuffled", lambda _, weights: permutations.apply(torch.from_numpy(weights), orders).numpy())
    shuffled = other.dataset(None, [3, 4])
    assert not torch.equal(shuffled.weights, states.weights)
    values = shuffled.weights.numpy()

    def recognised(found):
        return np.isclose(found, expected, atol=1e-3).all(1).mean()

    # The matching finds a local optimum: many models come back exactly (by chance none would), not all.
    assert recognised(embeddings(config, Zoo.open(other.path), shuffled.table, values)) > 0.2
    assert recognised(embeddings(config, zoo, states.table, values)) < 0.1, (
        "which is not what they are without matching"
    )


def test_models_without_an_order_are_embedded_as_they_are(root):
    """A model that fails before the epoch at which neurons are matched, of the own zoo and of another."""
    from hyperrep.features import embeddings
    from hyperrep.models.stored import hyperrep_folder, load_autoencoder
    from hyperrep.states import in_batches
    from hyperrep.training import train_hyperrep

    zoo = Zoo.open(root / "zoos" / "digits_seed")
    model = int(zoo.models.query("split == 'test'")["model_id"].iloc[0])

    def spoilt(epoch, weights):
        if epoch == 4:
            weights[model, 0] = np.nan
        return weights

    failing = copied(zoo, "failing", spoilt)
    states = failing.dataset(None, [3])
    values, its = states.weights.numpy(), (states.table["model_id"] == model).to_numpy()
    for name in ("failing", "digits_seed"):
        config = configure(root, *TINY, f"zoo.name={name}")
        train_hyperrep(config)
        found = embeddings(config, failing, states.table, values)
        autoencoder = load_autoencoder(hyperrep_folder(config), config.autoencoder, Zoo.open(root / "zoos" / name))
        as_they_are = in_batches(autoencoder.encode, states.weights).numpy()
        np.testing.assert_allclose(found[its], as_they_are[its], atol=1e-5)
        assert not np.allclose(found[~its], as_they_are[~its], atol=1e-2)
        others = embeddings(config, failing, states.table[~its], values[~its])
        np.testing.assert_allclose(found[~its], others, atol=1e-5)


def test_published_rows(root):
    zoos = {file.stem for file in (run.CONFIG_DIR / "zoo").glob("*.yaml")}
    published = pd.read_csv(PUBLISHED)
    assert set(published["zoo"]) <= zoos
    whole = published[(published["zoo"] == "stl10_m_hyp10r") & (published["value"] <= -100)]
    assert len(whole) == 2, "printed without a decimal point"
    assert whole["unclear"].all()
    assert published.groupby("table")["zoo"].nunique().to_dict() == {2: 27, 3: 27}
    config = configure(root, *WORDS)
    found = measure(Zoo.open(root / "zoos" / "digits_seed"), read_images(config), config)
    row = measures_table(found, "mnist_seed").set_index("measure")
    assert row.loc["accuracy", ["published_mean", "published_std"]].tolist() == [91.1, 0.9]
    assert row.loc["l2", ["published_mean", "published_std"]].tolist() == [124.1, 4.9]
    unclear = measures_table(found, "stl10_m_seed").set_index("measure").loc["agreement"]
    assert unclear["published_unclear"]
    assert shown_measures(unclear.to_frame().T.reset_index(names="measure"))["published"].item().endswith("?")
    lines = table(root, "probes").assign(published=0.988, unclear=True)
    assert "(98.8?)" in shown_probes(lines)["w, linear"].iloc[0]
    assert (
        shown_measures(row.reset_index()).set_index("measure").loc["CKA, mean over layers", "published"] == "77.2 ± 5.2"
    )


def test_neighbours_that_share_a_factor():
    random = np.random.default_rng(0)
    labels = np.array(["a", "b", "b", "b"])[np.arange(60) % 4]
    apart = random.normal(size=(60, 5)) + 50 * (labels == "a")[:, None]
    near, chance = alike(pdist(apart), labels)
    # Each "a" has 14 others of its kind: enough neighbours. Of its 59 others 14 are "a"; of those of a "b" 44 are "b".
    assert near == 1
    assert chance == pytest.approx(0.25 * 14 / 59 + 0.75 * 44 / 59)
    assert alike(pdist(random.normal(size=(60, 5))), labels)[0] == pytest.approx(chance, abs=0.07)
    assert alike(pdist(apart), np.arange(60)) == (0, 0), "nobody is its own neighbour"
    assert alike(np.array([2.0, 1.0, 3.0]), np.array(["a", "a", "b"])) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert np.isnan(alike(np.zeros(0), labels[:1])[0])


def test_labels_that_are_not_known_are_nobodys():
    random = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 20 + [None] * 20, object)
    points = random.normal(size=(60, 3))
    assert alike(pdist(points), labels) == alike(pdist(points[:40]), labels[:40])
    numbers = np.where(np.arange(60) < 40, np.arange(60) % 2, np.nan)
    assert alike(pdist(points), numbers) == alike(pdist(points[:40]), labels[:40])


def test_models_that_are_nearly_one_can_be_drawn():
    for values in (
        np.float32([141.42136, 141.42137]),
        np.float32(1 - 1e-7 * (np.arange(15) % 3)),
        np.ones(3, np.float32),
    ):
        pairs = dict.fromkeys(("agreement", "cka", "l2", "cosine"), values)
        figure = pairs_figure(Measures(1, np.arange(3), {}, np.ones(3), 0.0, 1.0, pairs), "z")
        assert [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes] == [len(values)] * 4


def test_factors_on_the_map():
    table = pd.DataFrame({"model_id": range(8), "epoch": 0, "x": range(8), "y": range(8), "init": ["a", "b"] * 4,
                          "activation": "tanh", "optimizer": "adam", "lr": 0.1, "weight_decay": 0.0, "dropout": 0.0})  # fmt: skip
    clusters = pd.DataFrame({"factor": ["lr", "init"], "alike": [0.5, 0.9], "chance": [0.5, 0.25]})
    figure = map_figure(table, "z", clusters)
    assert [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes][1] == "init"
    assert "near models share init in 90 % of cases, any two in 25 %" in figure.get_suptitle()
    assert "seeds alone" in map_figure(table, "z", pd.DataFrame()).get_suptitle()
    partly = map_figure(table.assign(init=[None, *"babab", None, "b"]), "z", clusters)
    drawn = {points.get_label(): len(points.get_offsets()) for points in partly.axes[1].collections}
    assert drawn == {"not known": 2, "a": 2, "b": 4}


def test_the_card(root):
    card = (root / "analysis" / "digits_seed" / "card.html").read_text()
    assert card.count("<svg") == 3
    shown = table(root, "map")
    assert len(shown) == 60
    assert set(shown["epoch"]) == {0, 1, 2, 3, 4}
    assert np.isfinite(shown[["x", "y"]]).all(axis=None)
    for words in (
        "24 (15 train, 5 val, 4 test)",
        "half of the models end between",
        "agree on",
        "s(w), linear",
        "Zoo.open",
    ):
        assert words in card
    assert "http://" not in re.sub(r'(xmlns(:\w+)?|rdf:\w+|href)="[^"]*"', "", card), "it must stand by itself"


def test_the_zoos_own_card(root):
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    text = (zoo.path / "README.md").read_text()
    for words in (
        "| agreement κ |",
        "What weights of digits_seed tell",
        "licence | MIT",
        "init kaiming_uniform",
        "Make it again",
    ):
        assert words in text
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(shown) == 3
    for name in shown:
        assert (zoo.path / name).read_text().startswith("<svg")
    assert zoo.verify() == []


def test_several_zoos_side_by_side(tmp_path):
    words = [
        "dataset.train_size=200",
        "zoo.models=24",
        "zoo.epochs=1",
        "analysis.cka_images=10",
        "analysis.map_states=50",
    ]
    names = ["digits_seed", "digits_hyp10f"]
    with pytest.raises(UserError, match="task=analysis or task=downstream"):
        write_report(configure(tmp_path, f"zoo={names[0]}"))
    for name in names:
        train(tmp_path, f"zoo={name}", *words[:3])
        analyse_zoo(configure(tmp_path, f"zoo={name}", *words))
    write_report(configure(tmp_path, f"zoo={names[0]}"))
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "Zoos side by side" in page
    assert "earlier state" not in page
    folders = analysed(tmp_path)
    assert [folder.name for folder in folders] == sorted(names)
    for folder in folders:
        accuracy = pd.read_csv(folder / "measures.csv").set_index("measure").loc["accuracy"]
        assert f"{accuracy['mean']:.1f} ± {accuracy['std']:.1f}" in page
    told = side_by_side.tables(folders)
    assert set(next(table for title, table in told.items() if "weights tell" in title)["zoo"]) == set(names)
    assert set(next(table for title, table in told.items() if "share a factor" in title)["zoo"]) == {"digits_hyp10f"}
    train(tmp_path, "zoo=digits_hyp10f", *words[:2], "zoo.epochs=1")
    write_report(configure(tmp_path, f"zoo={names[0]}"))
    assert "earlier state" not in (tmp_path / "report.html").read_text(), "the same command changes nothing"
    train(tmp_path, "zoo=digits_hyp10f", *words[:2], "zoo.epochs=2")
    write_report(configure(tmp_path, f"zoo={names[0]}"))
    page = (tmp_path / "report.html").read_text()
    assert "The analysis of digits_hyp10f is of an earlier state of zoo digits_hyp10f" in page
    assert "The analysis of digits_seed is" not in page


def test_small_zoos(root, caplog):
    """One model, and a zoo of epoch 0 alone: what can be measured is measured, whether the zoo can be written or not."""
    train(root, *ZOO[1:], "zoo.name=one", "zoo.models=1")
    (root / "zoos" / "one" / "card").write_text("in the way, as if the folder could only be read")
    analyse_zoo(configure(root, *WORDS, "zoo.name=one"))
    assert "'one' keeps its own card" in caplog.text
    assert pd.read_csv(root / "analysis" / "one" / "measures.csv").set_index("measure").loc["accuracy", "n"] == 1
    train(root, *ZOO[1:], "zoo.name=start", "zoo.models=24", "zoo.epochs=0")
    analyse_zoo(configure(root, *WORDS, "zoo.name=start"))
    assert set(pd.read_csv(root / "analysis" / "start" / "probes.csv")["target"]) == {"test_acc", "ggap"}


def test_a_zoo_with_variances_is_refused(root):
    train(root, *ZOO[1:], "zoo.name=vd", "zoo.models=2", "zoo.epochs=0", "arch.variational=true")
    with pytest.raises(UserError, match="analyse vd_masked"):
        analyse_zoo(configure(root, *WORDS, "zoo.name=vd"))


def test_epochs_that_are_probed(root):
    zoo = Zoo.open(root / "zoos" / "digits_seed")
    assert probe_epochs(configure(root, *WORDS), zoo) == [1, 4]
    assert probe_epochs(configure(root, *WORDS, "analysis.probe_epochs=[2,3]"), zoo) == [2, 3]
    with pytest.raises(UserError, match="9"):
        probe_epochs(configure(root, *WORDS, "analysis.probe_epochs=[9]"), zoo)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["zoo.name=nowhere"], "there is no zoo 'nowhere' under"),
        (["dataset.train_size=200"], "trained on other images"),
    ],
)
def test_what_is_not_there_is_told(root, words, said):
    with pytest.raises(UserError, match=said):
        analyse_zoo(configure(root, *WORDS, *words))
