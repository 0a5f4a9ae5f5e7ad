"""`task=sparsify` on real digits: twins of a stored zoo."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import initialize_config_dir
from rich.console import Console

import run
from analysis.show.report import write_report
from analysis.show.results import rich_table
from analysis.show.zoo_tables import shown_sparsity
from analysis.zoo_analysis import analyse_zoo
from tests.integration.test_command_line import problems
from tests.integration.test_train_zoo import configure, hashes, train
from tests.populations import copied
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.base.files import locked
from zoo.networks.architecture import Architecture
from zoo.store.block import Block
from zoo.training.opening import read_images
from zoo.training.sparsify import sparsify_zoo

ZOO = [
    "zoo=digits_seed",
    "zoo.models=20",
    "zoo.epochs=2",
    "dataset.train_size=200",
    "task=sparsify",
    "sparsify.epochs=3",
]


def sparsify(root, *words):
    config = configure(root, *ZOO, *words)
    config.overrides = [f"paths.root={root}", "logger=none", *ZOO, *words]
    with initialize_config_dir(str(run.CONFIG_DIR), version_base="1.3"):  # in which other command lines are composed
        sparsify_zoo(config)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("sparsify")
    train(path, *ZOO[:4])
    sparsify(path, "sparsify=vd", "sparsify.divergence_rate=0.01")
    sparsify(path, "sparsify=magnitude", "sparsify.share=0.5", "sparsify.steps=2")
    return path


def test_variational_twins(root):
    zoos = {name: Zoo.open(root / "zoos" / f"digits_seed{name}") for name in ("", "_vd", "_vd_masked")}
    source, twin, masked = zoos.values()
    arch = Architecture.from_dict(twin.description["arch"])
    assert arch.variational
    start = twin.weights(epochs=[0])[:, 0]
    np.testing.assert_array_equal(start, arch.with_variances(torch.tensor(source.weights(epochs=[2])[:, 0])).numpy())
    assert twin.models["seed"].tolist() == source.models["seed"].tolist()
    assert twin.models["start_model"].tolist() == source.models["model_id"].tolist()
    assert twin.models["split"].tolist() == source.models["split"].tolist()
    sparse = twin.metrics.groupby("epoch")["sparsity"].mean()
    assert sparse[3] > sparse[1] > 0
    for zoo in (twin, masked):
        assert zoo.finished
        assert zoo.epochs == [0, 1, 2, 3]
        assert zoo.verify() == []
    # The masked zoo is one of plain networks, whose own scores are those that are stored.
    images = read_images(configure(root, *ZOO[:4]))
    pictures, labels = images.normalise(images.test.pixels), images.test.labels
    for model in (0, 19):
        with torch.no_grad():
            accuracy = (masked.module(model, 3).eval()(pictures).argmax(1) == labels).double().mean().item()
        for zoo in (twin, masked):
            row = zoo.metrics[(zoo.metrics["model_id"] == model) & (zoo.metrics["epoch"] == 3)]
            assert row["test_acc"].item() == pytest.approx(accuracy)
    weights = masked.weights(epochs=[3])[:, 0]
    names = [slot for slot in arch.plain().layout if slot.name.endswith("weight")]
    zeros = sum((weights[:, s.offset : s.offset + s.size] == 0).sum(1) for s in names) / 2416
    np.testing.assert_allclose(masked.metrics[masked.metrics["epoch"] == 3]["sparsity"], zeros)
    assert "kept weights of digits_seed_vd" in masked.description["about"]


def test_pruned_twins(root):
    twin = Zoo.open(root / "zoos" / "digits_seed_magnitude")
    shares = twin.metrics.groupby("epoch")["sparsity"]
    np.testing.assert_allclose(shares.min(), [0, int(0.4375 * 2416) / 2416, 0.5, 0.5])
    np.testing.assert_allclose(shares.max(), shares.min())
    assert twin.description["protocol"]["pruned"] == {"share": 0.5, "epochs": 2}
    assert Zoo.open(root / "zoos" / "digits_seed").description["protocol"].keys() == {"batch_size", "schedule", "loss"}


def test_again_changes_nothing_and_what_is_missing_is_made(root):
    before = hashes(root)
    sparsify(root, "sparsify=vd", "sparsify.divergence_rate=0.01")
    assert hashes(root) == before
    last = root / "zoos" / "digits_seed_vd_masked"
    (last / "manifest.json").unlink()
    for file in last.glob("weights/*/epoch-0003*"):
        file.unlink()
    sparsify(root, "sparsify=vd", "sparsify.divergence_rate=0.01")
    assert hashes(root) == before


def test_twins_grow_with_their_source(tmp_path):
    for models in (6, 8):
        train(tmp_path, *ZOO[:4], f"zoo.models={models}", "zoo.epochs=0")
        sparsify(tmp_path, f"zoo.models={models}", "sparsify.epochs=1")
    for name in ("digits_seed_vd", "digits_seed_vd_masked"):
        zoo = Zoo.open(tmp_path / "zoos" / name)
        assert zoo.finished
        assert zoo.n_models == 8


def test_twins_in_shards(tmp_path):
    words = ["zoo.models=6", "zoo.epochs=0", "zoo.block_size=2", "sparsify.epochs=1", "sparsify.divergence_rate=0.01"]
    for folder, parts in (("whole", 1), ("parts", 3)):
        train(tmp_path / folder, *ZOO[:4], *words[:3])
        for part in range(1, parts + 1):
            sparsify(tmp_path / folder, *words, f"zoo.shard={part}/{parts}")
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("words", [["sparsify.divergence_rate=0.01"], ["sparsify=magnitude", "sparsify.steps=3"]])
def test_an_interrupted_training_ends_the_same(tmp_path, monkeypatch, words):
    commit = Block.commit

    def interrupted(block, epoch, *args):
        if (epoch, block.first, tmp_path / "cut" in block.path.parents) == (2, 2, True):
            raise KeyboardInterrupt
        commit(block, epoch, *args)

    words = [*words, "zoo.models=4", "zoo.block_size=2"]
    for folder in ("whole", "cut"):
        train(tmp_path / folder, *ZOO[:4], "zoo.models=4")
    sparsify(tmp_path / "whole", *words)
    with monkeypatch.context() as patch:
        patch.setattr(Block, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sparsify(tmp_path / "cut", *words)
    (twin,) = (path for path in (tmp_path / "cut" / "zoos").iterdir() if path.name != "digits_seed")
    assert Zoo.open(twin).pending == 2
    sparsify(tmp_path / "cut", *words)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


def test_the_state_that_twins_start_from(tmp_path):
    """A twin keeps its start when its source is trained on; its card says how to make it again."""
    train(tmp_path, *ZOO[:4], "zoo.models=4", "zoo.epochs=1")
    words = ["zoo.models=4", "sparsify.epochs=1"]
    sparsify(tmp_path, *words)
    train(tmp_path, *ZOO[:4], "zoo.models=4", "zoo.epochs=2")
    before = hashes(tmp_path)
    sparsify(tmp_path, *words)
    assert hashes(tmp_path) == before
    sparsify(tmp_path, *words, "sparsify.epochs=2")
    source, twin = (Zoo.open(tmp_path / "zoos" / name) for name in ("digits_seed", "digits_seed_vd"))
    assert twin.epochs == [0, 1, 2]
    assert twin.description["spec"]["start"]["epoch"] == 1
    for name in ("digits_seed_vd", "digits_seed_vd_masked"):
        made_by = Zoo.open(tmp_path / "zoos" / name).description["command"]
        assert "task=sparsify" in made_by
        assert made_by.endswith("sparsify.epoch=1")
    for kind in ("vd", "magnitude"):
        sparsify(tmp_path, *words, f"sparsify={kind}", "sparsify.epoch=0", f"sparsify.twin={kind}_of_0")
        early = Zoo.open(tmp_path / "zoos" / f"{kind}_of_0")
        for layer in ("conv1.weight", "fc2.weight"):
            began = source.weights(epochs=[0], layers=[layer])
            np.testing.assert_array_equal(early.weights(epochs=[0], layers=[layer]), began)
        assert early.description["command"].startswith("python run.py")
        assert "task=sparsify" in early.description["command"]
        assert "sparsify.epoch=0" in early.description["command"]
        assert "zoo.start" not in early.description["command"]
    with pytest.raises(UserError, match=r"^sparsify\.epoch: epoch 3 is not stored in zoo 'digits_seed'"):
        sparsify(tmp_path, *words, "sparsify.epoch=3", "sparsify.twin=late")


def test_a_source_that_was_made_again_is_told(tmp_path):
    """Its twin began as other networks: the finished one is not taken for its, nor is a half trained one gone on with."""
    source = train(tmp_path, *ZOO[:4], "zoo.models=4", "zoo.epochs=0")
    first = copied(source, "src", lambda _, weights: np.where(np.arange(4)[:, None] == 2, np.nan, weights))
    sparsify(tmp_path, "zoo.name=src", "zoo.models=4", "sparsify.epochs=1")
    sparsify(tmp_path, "zoo.name=src", "zoo.models=4", "sparsify.epochs=1")
    config = configure(tmp_path, *ZOO[:4], "zoo.name=src", "analysis.map_states=0", "analysis.probes=[]")
    analyse_zoo(config)
    write_report(config)
    assert "earlier state" not in (tmp_path / "report.html").read_text()
    shutil.rmtree(first.path)
    copied(source, "src")
    write_report(config)
    assert "The zoo src_vd began as models of an earlier state of zoo src" in (tmp_path / "report.html").read_text()
    before = hashes(tmp_path)
    for words in ([], ["sparsify.epochs=2"]):
        with pytest.raises(
            UserError, match="model 2 of zoo 'src_vd' began as another network than model 2 of zoo 'src' is at"
        ):
            sparsify(tmp_path, "zoo.name=src", "zoo.models=4", "sparsify.epochs=1", *words)
    assert (
        hashes(tmp_path)["zoos/src_vd/weights/00000-00003/epoch-0001.safetensors"]
        == (before["zoos/src_vd/weights/00000-00003/epoch-0001.safetensors"])
    )


def test_the_name_of_the_kept_weights_is_taken(root, tmp_path):
    (tmp_path / "zoos").mkdir()
    (tmp_path / "zoos" / "digits_seed").symlink_to(root / "zoos" / "digits_seed")
    sparsify(tmp_path, "sparsify=magnitude", "sparsify.epochs=1", "sparsify.twin=mine_masked")
    with pytest.raises(UserError, match=r"mine_masked is there, but holds no kept weights of a twin 'mine'"):
        sparsify(tmp_path, "sparsify.twin=mine", "sparsify.epochs=0")
    assert not (tmp_path / "zoos" / "mine").exists(), "nothing was trained"
    sparsify(tmp_path, "sparsify.twin=other", "sparsify.epochs=0")
    shutil.rmtree(tmp_path / "zoos" / "other")
    with pytest.raises(
        UserError, match=r"other_masked is there, but holds no kept weights of a twin 'other' that is there"
    ):
        sparsify(tmp_path, "sparsify.twin=other", "sparsify.epochs=0", "sparsify.divergence_rate=0.1")


def test_one_writes_the_kept_weights_and_others_wait(root, monkeypatch):
    """Several shards may find the twin finished."""
    written = []

    def write(twin):
        with pytest.raises(UserError, match="held"), locked(twin.path / ".lock", busy="held"):
            pass
        written.append(twin.name)

    monkeypatch.setattr("zoo.training.sparsify.store_masked", write)
    sparsify(root, "sparsify=vd", "sparsify.divergence_rate=0.01")
    assert written == ["digits_seed_vd"]


def test_imported_models_without_seeds_and_their_images(tmp_path, capsys):
    """Each has a seed of its own, its number; images are those on which their accuracies are those on record."""
    source = train(tmp_path, *ZOO[:4], "zoo.models=4")
    source.description["dataset"] = source.description["dataset"] | {"fingerprint": None}
    copied(source, "imp", rows=source.models.assign(seed=-1), spec={"kind": "imported"})
    sparsify(tmp_path, "zoo.name=imp", "zoo.models=4", "sparsify.epochs=0")
    assert Zoo.open(tmp_path / "zoos" / "imp_vd").models["seed"].tolist() == [0, 1, 2, 3]
    sparsify(
        tmp_path, "zoo.name=imp", "zoo.models=4", "sparsify.epochs=0", "sparsify.shared_seed=true", "sparsify.twin=one"
    )
    assert Zoo.open(tmp_path / "zoos" / "one").models["seed"].tolist() == [0] * 4
    with pytest.raises(UserError, match=r"train_size=200.*train_size=100"):
        sparsify(tmp_path, "zoo.name=imp", "zoo.models=4", "dataset.train_size=100")
    assert "off those on record" not in capsys.readouterr().out
    copied(source, "far", spec={"kind": "masked"}, scores=lambda rows: rows.assign(test_acc=rows["test_acc"] + 0.1))
    for _ in range(2):
        sparsify(tmp_path, "zoo.name=far", "zoo.models=4", "sparsify.epochs=0")
    told = "Test accuracies of 4 models of zoo far are up to 10.0 % off those on record"
    assert capsys.readouterr().out.count(told) == 1, "before the twin is begun"


def test_one_seed_for_all(root, tmp_path):
    (tmp_path / "zoos").mkdir()
    (tmp_path / "zoos" / "digits_seed").symlink_to(root / "zoos" / "digits_seed")
    sparsify(tmp_path, "sparsify.shared_seed=true", "sparsify.epochs=0")
    assert set(Zoo.open(tmp_path / "zoos" / "digits_seed_vd").models["seed"]) == {1}


def test_rates_of_twins(root, tmp_path):
    (tmp_path / "zoos").mkdir()
    (tmp_path / "zoos" / "digits_seed").symlink_to(root / "zoos" / "digits_seed")
    sparsify(tmp_path, "sparsify.lr=0.01", "sparsify.epochs=0")
    twin = Zoo.open(tmp_path / "zoos" / "digits_seed_vd")
    assert set(twin.models["lr"]) == {0.01}
    assert twin.description["protocol"]["schedule"] == "constant"


def test_twins_are_trained_as_their_sources_were(tmp_path):
    """Whatever the command line says: these are Adam and SGD at two rates, and the preset has one of each."""
    grid = ["zoo.grid.optimizer=[adam,sgd]", "zoo.grid.lr=[0.001,0.002]", "zoo.grid.dropout=[0.0,0.3]"]
    train(tmp_path, *ZOO[:4], *grid, "zoo.models=6", "zoo.epochs=0")
    sparsify(tmp_path, "sparsify.epochs=0", "zoo.models=5", "sparsify.twin=mine")
    source, twin = (Zoo.open(tmp_path / "zoos" / name) for name in ("digits_seed", "mine"))
    assert twin.n_models == 5, "as many as are asked for"
    factors = ["optimizer", "lr", "weight_decay", "dropout", "activation", "seed"]
    assert twin.models[factors].equals(source.models[factors].head(5))
    assert source.models[factors].nunique()[:2].tolist() == [2, 2]


def test_what_is_not_on_record_is_told(tmp_path):
    """Imported models may not tell how they were trained."""
    source = train(tmp_path, *ZOO[:4], "zoo.models=4", "zoo.epochs=0")
    copied(source, "some", rows=source.models.assign(optimizer=["adam", None, None, "sgd"]))
    with pytest.raises(UserError, match="with which optimizer 2 of its models were trained"):
        sparsify(tmp_path, "sparsify=magnitude", "zoo.name=some")
    words = ["zoo.start.zoo=some", "zoo.name=tuned", "zoo.epochs=0"]
    with pytest.raises(UserError, match=r"of 2 models of some the optimizer is not known: give zoo\.grid\.optimizer="):
        train(tmp_path, *ZOO[:2], *words, "zoo.grid.optimizer=[adam,sgd]", "zoo.models=null")
    assert train(tmp_path, *ZOO[:2], *words, "zoo.models=null").n_models == 4


def test_a_zoo_with_variances_is_refused(root):
    with pytest.raises(
        UserError, match="digits_seed_vd has variances already: sparsify its source, or digits_seed_vd_masked"
    ):
        sparsify(root, "zoo.name=digits_seed_vd")


def test_cards_say_what_twins_are(root):
    for name, words in (
        (
            "vd",
            ["4,898 weights and log variances", "variational dropout, whose divergence weighs 0.01 more each epoch"],
        ),
        ("vd_masked", ["2,464 weights |", "variational dropout", "Sparsity, the share of weights that are dropped: "]),
        ("magnitude", ["the smallest 50 % of the weights pruned in 2 steps", "are dropped: 50.00 ± 0.00 % (n = 20)"]),
    ):
        text = (root / "zoos" / f"digits_seed_{name}" / "README.md").read_text()
        for word in words:
            assert word in text
    assert "parsity" not in (root / "zoos" / "digits_seed" / "README.md").read_text()


def test_analysis_sets_sparsity_beside_accuracy(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    words = ["analysis.map_states=0", "analysis.probes=[]", "analysis.cka_images=5"]
    for name in ("digits_seed_vd_masked", "digits_seed"):
        analyse_zoo(configure(tmp_path, *ZOO[:4], f"zoo.name={name}", *words))
    folder, zoo = tmp_path / "analysis" / "digits_seed_vd_masked", Zoo.open(root / "zoos" / "digits_seed_vd_masked")
    found, metrics = pd.read_csv(folder / "sparsity.csv").set_index("epoch"), zoo.metrics.set_index("epoch")
    assert found.index.tolist() == [0, 1, 2, 3]
    assert found.columns.tolist() == [
        "n", "accuracy", "accuracy_std", "sparsity", "sparsity_std", "conv1", "conv2", "conv3", "fc1", "fc2"
    ]  # fmt: skip
    assert (found["n"] == 20).all()
    for column, mean, std in (("test_acc", "accuracy", "accuracy_std"), ("sparsity", "sparsity", "sparsity_std")):
        assert found.loc[3, mean] == pytest.approx(100 * metrics.loc[3, column].mean())
        assert found.loc[3, std] == pytest.approx(100 * metrics.loc[3, column].std(ddof=0))
    assert found.loc[2, "fc1"] == pytest.approx(100 * metrics.loc[2, "sparsity_fc1"].mean())
    assert "Sparsity of digits_seed_vd_masked and its layers" in (folder / "card.html").read_text()
    assert "Sparsity" not in (tmp_path / "analysis" / "digits_seed" / "card.html").read_text()


def test_twins_of_networks_with_batchnorm(tmp_path):
    """They are modules, trained with a schedule as ResNets are; their twins have running statistics of their own."""
    words = ["arch=resnet18", "arch.protocol=plain", "arch.module=tests.populations.Normed", "zoo.grid.activation=[relu]",
             "zoo.grid.optimizer=[sgd]", "zoo.schedule=onecycle", "zoo.models=2", "zoo.epochs=1"]  # fmt: skip
    train(tmp_path, *ZOO[:4], *words)
    sparsify(tmp_path, *words, "sparsify.epochs=2", "sparsify.schedule=constant", "sparsify.divergence_rate=0.01")
    own = "tests.populations.Normed"
    twin, masked = (Zoo.open(tmp_path / "zoos" / f"digits_seed_vd{end}", own) for end in ("", "_masked"))
    assert twin.description["protocol"]["schedule"] == "constant"
    images = read_images(configure(tmp_path, *ZOO[:4], *words))
    module = masked.module(1, 2)
    with torch.no_grad():
        accuracy = (module(images.normalise(images.test.pixels)).argmax(1) == images.test.labels).double().mean().item()
    assert twin.metrics.set_index(["model_id", "epoch"]).loc[(1, 2), "test_acc"] == pytest.approx(accuracy)
    np.testing.assert_array_equal(masked.buffers(), twin.buffers())
    assert not np.array_equal(masked.buffers(epochs=[0]), masked.buffers(epochs=[2]))


def test_the_sparsity_of_many_layers_can_be_read_on_a_console():
    """ResNet-18 has 21 of them: side by side they were columns without any room."""
    layers = {f"layer{i // 5}.{i % 5}.conv1": 1.5 + i for i in range(21)}
    table = {
        "epoch": range(26),
        "n": 100,
        "accuracy": 55.5,
        "accuracy_std": 10.5,
        "sparsity": 33.3,
        "sparsity_std": 10.2,
    }
    console = Console(width=80, file=io.StringIO())
    console.print(rich_table("sparsity", shown_sparsity(pd.DataFrame(table | layers))))
    text = console.file.getvalue()
    for word in (
        "epoch 0 ",
        "epoch 25 ",
        "55.5 ± 10.5 ",
        "33.3 ± 10.2 ",
        *(f" {layer} " for layer in layers),
        " 21.5 ",
    ):
        assert word in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sparsify.share=0.5"], "sparsify.share: sparsify=vd has no such option"),
        (["sparsify=magnitude", "sparsify.steps=null"], "sparsify.steps: is missing, and sparsify=magnitude needs it"),
        (["sparsify=magnitude", "sparsify.share=1.0"], "sparsify.share: got 1.0"),
        (["sparsify=magnitude", "sparsify.steps=10", "sparsify.epochs=3"], "sparsify.epochs=3 ends before the last"),
        (["arch.variational=true"], "task=sparsify sets it itself"),
        (["sparsify.twin=a/b"], "sparsify.twin: got 'a/b', but it is a folder's name"),
        (["sparsify.twin=digits_seed"], "sparsify.twin: got 'digits_seed', which is the zoo itself"),
        (["sparsify.name=vb"], "sparsify.name: got 'vb'"),
        (["sparsify.schedule=cosine"], "sparsify.schedule: got 'cosine'"),
        (["zoo.divergence_rate=0.1"], "only variances diverge: use task=sparsify and sparsify.divergence_rate"),
        (["zoo.name=a_masked", "sparsify.twin=a"], "kept weights would be 'a_masked', which is the zoo itself"),
    ],
)
def test_mistakes_are_told_before_anything_starts(words, said):
    assert said in problems("task=sparsify", *words)


def test_a_part_of_a_source_that_is_larger_than_the_preset():
    assert problems("task=sparsify", "zoo.name=imported", "zoo.models=100") == ""
    assert "the spec has 64 models" in problems("task=zoo", "zoo.models=100")


def test_a_twin_is_held_to_its_source(root):
    for words, said in (
        (["dataset.train_size=100"], "train_size=200"),
        (["dataset.split_seed=7"], "split_seed=42.*split_seed=7"),
        (["zoo.batch_size=20"], "was trained with 10"),
        (
            ["sparsify=magnitude", "sparsify.share=0.6", "sparsify.steps=2"],
            "choose another zoo.name .sparsify.twin of a twin",
        ),
    ):
        with pytest.raises(UserError, match=said):
            sparsify(root, *words)


def test_a_zoo_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"^zoo.name: there is no zoo 'digits_seed' under .*`python run.py paths.root="):
        sparsify(tmp_path)
    assert not list(tmp_path.iterdir())
