"""The torch dataset against a slow and obvious reference."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from tests.zoo.test_store import PARAMETERS, description, everything, rows, scores, train
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.store.writer import create_zoo

MODELS, EPOCHS = 7, 3
PROPERTIES = ["test_acc", "ggap", "epoch", "init", "activation", "lr", "seed", "status", "model_id", "val_loss"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """7 models, epochs 0-3; model 3 has a NaN from epoch 2 on; weights at epoch e are 1000 e + model + [0, 1)."""
    return train(tmp_path_factory.mktemp("dataset") / "tiny_zoo", MODELS, EPOCHS)


def reference(
    models: list[int], epochs: list[int], drop_nonfinite: bool, threshold: float | None
) -> list[tuple[np.ndarray, dict[str, object]]]:
    samples = []
    for model in models:
        for epoch in epochs:
            weights = everything(MODELS, EPOCHS)[model, epoch]
            if drop_nonfinite and not all(np.isfinite(w) for w in weights):
                continue
            if threshold is not None and any(abs(w) > threshold for w in weights):
                continue
            row = rows(MODELS).iloc[model]
            score = {name: values[model] for name, values in scores(np.arange(MODELS), epoch).items()}
            properties = {
                "test_acc": score["test_acc"],
                "ggap": score["train_acc"] - score["test_acc"],
                "epoch": epoch,
                "status": "diverged" if model == 3 else "ok",
                "val_loss": score["val_loss"],
                **{name: row[name] for name in ["init", "activation", "lr", "seed", "model_id"]},
            }
            samples.append((weights, properties))
    return samples


@given(
    models=st.none() | st.lists(st.integers(0, MODELS - 1), max_size=6),
    epochs=st.none() | st.lists(st.integers(0, EPOCHS), max_size=4),
    drop_nonfinite=st.booleans(),
    threshold=st.none() | st.sampled_from([2.0, 3.875, 1004.5, 2500.0]),  # 3.875: the largest weight of model 3
)
def test_samples_equal_the_reference(
    zoo: Zoo, models: list[int] | None, epochs: list[int] | None, drop_nonfinite: bool, threshold: float | None
) -> None:
    logging.getLogger("zoo.store.model_dataset").setLevel(logging.ERROR)
    try:
        dataset = zoo.dataset(
            epochs=epochs,
            properties=PROPERTIES,
            models=models,
            drop_nonfinite=drop_nonfinite,
            weight_threshold=threshold,
        )
    finally:
        logging.getLogger("zoo.store.model_dataset").setLevel(logging.NOTSET)
    models = list(range(MODELS)) if models is None else models
    epochs = list(range(EPOCHS + 1)) if epochs is None else epochs
    expected = reference(models, epochs, drop_nonfinite, threshold)
    assert len(dataset) == len(expected)
    finite = len(reference(models, epochs, drop_nonfinite, None))
    assert dataset.dropped_nonfinite == len(models) * len(epochs) - finite
    assert dataset.dropped_threshold == finite - len(expected)
    for i, (weights, properties) in enumerate(expected):
        got_weights, got = dataset[i]
        np.testing.assert_array_equal(got_weights.numpy(), weights)
        assert list(got) == PROPERTIES
        for name, value in properties.items():
            assert got[name] == value or (value != value and got[name] != got[name])


def test_splits_and_layers(zoo: Zoo) -> None:
    dataset = zoo.dataset("val", epochs=[1], properties=["split", "init"], layers=["fc1"])
    assert isinstance(dataset, Dataset)
    assert dataset.weights.dtype == torch.float32
    assert dataset.table["model_id"].tolist() == [2, 6]
    assert [properties["split"] for _, properties in dataset] == ["val", "val"]
    np.testing.assert_array_equal(dataset.weights, everything(MODELS, EPOCHS)[[2, 6], 1, 5:])


def test_a_viable_layer_of_a_broken_model_is_kept(zoo: Zoo) -> None:
    """Only the chosen layers are looked at, as the published filter does."""
    assert zoo.dataset(models=[3], epochs=[3], layers=["fc1"]).dropped_nonfinite == 0
    assert zoo.dataset(models=[3], epochs=[3], layers=["conv1"]).dropped_nonfinite == 1


def test_what_is_left_out_is_said_in_one_line(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    dataset = zoo.dataset(weight_threshold=2500)
    assert (dataset.dropped_nonfinite, dataset.dropped_threshold, len(dataset)) == (2, 6, 20)
    (record,) = caplog.records
    assert (
        "'tiny_zoo': 8 of 28 states left out (2 not finite, 6 beyond the weight threshold 2500)" in record.getMessage()
    )
    caplog.clear()
    zoo.dataset(epochs=[0])
    assert not caplog.records


def test_batches_collate_as_documented(zoo: Zoo) -> None:
    dataset = zoo.dataset("train", [0, 1], ["test_acc", "seed", "init", "diverged_epoch"])
    loader: DataLoader = DataLoader(dataset, batch_size=3)
    weights, properties = next(iter(loader))
    assert weights.shape == (3, PARAMETERS)
    assert properties["test_acc"].dtype == torch.float64
    assert properties["seed"].dtype == torch.int64
    assert properties["init"] == ["uniform", "uniform", "normal"]
    assert properties["diverged_epoch"].isnan().all()


def test_unknown_properties_are_refused_with_the_nearest(zoo: Zoo) -> None:
    with pytest.raises(UserError, match=r"no property 'test_ac': did you mean 'test_acc'.* it has model_id, epoch"):
        zoo.dataset(properties=["ggap", "test_ac"])


def test_rows_are_matched_by_model_and_epoch_not_by_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = train(tmp_path / "zoo", 4, 2)
    shuffled = zoo.metrics.sample(frac=1, random_state=0)
    monkeypatch.setattr(Zoo, "metrics", property(lambda self: shuffled))
    dataset = zoo.dataset(epochs=[2, 0], models=[2, 1], properties=["test_acc"])
    expected = [scores(np.array([m]), e)["test_acc"][0] for m in [2, 1] for e in [2, 0]]
    assert [properties["test_acc"] for _, properties in dataset] == expected


def test_finished_models_of_an_unfinished_zoo(tmp_path: Path) -> None:
    zoo = train(tmp_path / "zoo", 4, 1)
    zoo = create_zoo(zoo.path, description(1), rows(6))
    with pytest.raises(UserError, match="2 of the 6 models"):
        zoo.dataset()
    done = zoo.models.query("status != 'pending'").model_id
    assert len(zoo.dataset(models=done, properties=["test_acc", "status"])) == 8
