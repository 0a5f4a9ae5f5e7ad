"""`zoo.start`: models of a stored zoo are trained on."""

import numpy as np
import pytest

from tests.integration.test_train_zoo import configure, hashes, train
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.training.plan import plan_zoo


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Zoo:
    return train(tmp_path_factory.mktemp("source"), "zoo=digits_hyp10f", "zoo.models=20", "zoo.name=source")


def fine_tune(source: Zoo, *overrides: str) -> Zoo:
    return train(source.path.parents[1], "zoo=digits_hyp10f", "zoo.start.zoo=source", "zoo.models=null", *overrides)


def test_from_epoch_0_the_zoo_itself_grows_again(source):
    again = fine_tune(source, "zoo.name=again", "zoo.start.epoch=0", "zoo.block_size=7")
    np.testing.assert_array_equal(again.weights(), source.weights())
    assert again.metrics.equals(source.metrics)
    assert again.models.drop(columns="start_model").equals(source.models)


def test_training_goes_on_from_the_last_state_with_fresh_optimisers(source):
    tuned = fine_tune(source, "zoo.name=tuned", "zoo.models=5")
    np.testing.assert_array_equal(tuned.weights(epochs=[0])[:, 0], source.weights(models=range(5), epochs=[2])[:, 0])
    assert (tuned.metrics["test_acc"][0] == source.metrics["test_acc"][2]).all()
    whole = train(
        source.path.parents[1],
        "zoo=digits_hyp10f",
        "zoo.name=whole",
        "zoo.models=5",
        "zoo.epochs=3",
        "zoo.block_size=5",
    )
    first, third = tuned.weights(epochs=[1]), whole.weights(epochs=[3])
    assert not np.array_equal(first, third), "moments and the order of images are not those of the third epoch"
    assert tuned.verify() == []
    assert tuned.description["spec"]["start"] | {"first_model": ""} == {
        "zoo": "source", "epoch": 2, "split": None, "seed": None, "dataset": "digits", "first_model": "",
    }  # fmt: skip


def test_a_split_with_the_training_of_another_grid_in_one_order(source):
    words = [
        "zoo.start.split=val",
        "zoo.start.seed=7",
        "zoo.grid.lr=[0.01]",
        "zoo.grid.optimizer=[sgd]",
    ]
    tuned = fine_tune(source, "zoo.name=val", *words)
    chosen = source.models[source.models["split"] == "val"]
    assert tuned.models["start_model"].tolist() == chosen["model_id"].tolist()
    assert set(tuned.models["seed"]) == {7}
    assert (set(tuned.models["lr"]), set(tuned.models["optimizer"])) == ({0.01}, {"sgd"})
    for kept in ("activation", "init", "dropout"):  # the grid has several values of each
        assert tuned.models[kept].tolist() == chosen[kept].tolist()


def test_longer_later_is_the_same_as_at_once(source):
    words = ["zoo.models=4", "zoo.block_size=2", "zoo.name=longer"]
    fine_tune(source, *words, "zoo.epochs=1")
    longer = fine_tune(source, *words)
    before = hashes(longer.path)
    assert hashes(fine_tune(source, *words).path) == before
    at_once = fine_tune(source, *words[:2], "zoo.name=at_once")
    np.testing.assert_array_equal(longer.weights(), at_once.weights())


def test_a_plan(source, capsys):
    plan_zoo(
        configure(
            source.path.parents[1],
            "zoo=digits_hyp10f",
            "zoo.start.zoo=source",
            "zoo.start.split=train",
        )
    )
    assert "6 of source, epoch 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zoo.start.zoo=sauce"], "there is no zoo in"),
        (["zoo.start.epoch=3"], "got 3, but source has the epochs 0 to 2"),
        (["zoo.models=21"], "zoo.models: got 21, but source has 20 models$"),
        (["zoo.start.split=test", "zoo.models=4"], "got 4, but source has 3 models of split test"),
        (
            ["arch=cnn_m"],
            "source has models of arch=cnn_s for images of 1×28×28 and 10 classes, but asked are arch=cnn_m",
        ),
        (["zoo.name=source"], "which is where zoo.start.zoo lies"),
        (["zoo.start.zoo=../source"], r"zoo\.start\.zoo: got '\.\./source', but it is a folder's name"),
        (
            ["zoo.start.zoo=null", "zoo.start.epoch=1", "zoo.models=3"],
            "has no effect without zoo.start.zoo",
        ),
    ],
)
def test_refused_before_anything_is_written(source, words, message):
    before = hashes(source.path)
    with pytest.raises(UserError, match=message):
        fine_tune(source, "zoo.name=refused", *words)
    assert hashes(source.path) == before
    assert not (source.path.parent / "refused").exists()


def test_another_start_under_the_same_name_is_refused(source):
    fine_tune(source, "zoo.name=first", "zoo.models=2")
    with pytest.raises(UserError, match=r"spec\.start\.epoch=2, now 1"):
        fine_tune(source, "zoo.name=first", "zoo.models=2", "zoo.start.epoch=1")


def test_an_unfinished_zoo_is_refused(source, tmp_path):
    zoo = train(tmp_path, "zoo.name=source")
    (zoo.path / "manifest.json").unlink()
    with pytest.raises(UserError, match="source is not finished; run"):
        train(tmp_path, "zoo.start.zoo=source", "zoo.name=tuned")
