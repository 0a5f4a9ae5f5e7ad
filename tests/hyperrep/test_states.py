"""What is learnt from: the alignment of a zoo looks at its train split alone, and is computed once."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from hyperrep import states
from hyperrep.states import zoo_permutations
from tests.populations import architecture, image_data
from zoo.base.errors import UserError

ARCH = architecture("cnn_s")


def zoo_of(folder, weights) -> SimpleNamespace:
    """As much of a zoo as alignment reads."""
    models = pd.DataFrame({"split": ["train", "val", "train", "test", "train"], "activation": ["tanh"] * 5})
    content = hashlib.sha256(weights.tobytes()).hexdigest()
    return SimpleNamespace(
        path=folder,
        name="z",
        n_models=len(models),
        models=models,
        content=content,
        weights=lambda epochs: weights[:, None],
    )


def config(mode: str, weight_threshold: float | None = None) -> SimpleNamespace:
    return SimpleNamespace(align=mode, states=[1, 3], weight_threshold=weight_threshold)


def weights_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, (5, ARCH.n_parameters)).astype(np.float32)


@pytest.mark.parametrize("mode", ["weights", "activations"])
def test_other_splits_do_not_enter_the_alignment_of_the_train_split(tmp_path, mode):
    images, weights = image_data(train=40), weights_of(0)
    table = zoo_permutations(zoo_of(tmp_path / "a", weights), ARCH, config(mode), tmp_path / "kept_a", images)
    assert sorted(table[0, :8].tolist()) == list(range(8))
    others = weights.copy()
    others[[1, 3]] = weights_of(1)[[1, 3]]
    again = zoo_permutations(zoo_of(tmp_path / "b", others), ARCH, config(mode), tmp_path / "kept_b", images)
    assert torch.equal(table[[0, 2, 4]], again[[0, 2, 4]])
    assert not torch.equal(table[[1, 3]], again[[1, 3]])
    trained = weights.copy()
    trained[4] = weights_of(1)[4]
    other = zoo_permutations(zoo_of(tmp_path / "c", trained), ARCH, config(mode), tmp_path / "kept_c", images)
    assert not torch.equal(table[[0, 1, 2, 3]], other[[0, 1, 2, 3]]), "the mean of the train split counts for all"


def test_an_alignment_is_kept_until_the_zoo_changes(tmp_path, monkeypatch):
    calls, align = [], states.align

    def counted(*args, **kwargs):
        calls.append(args)
        return align(*args, **kwargs)

    monkeypatch.setattr(states, "align", counted)
    images, weights = image_data(), weights_of(0)
    first = zoo_permutations(zoo_of(tmp_path / "a", weights), ARCH, config("weights"), tmp_path / "kept", images)
    again = zoo_permutations(zoo_of(tmp_path / "a", weights), ARCH, config("weights"), tmp_path / "kept", images)
    assert len(calls) == 1
    assert torch.equal(first, again)
    other = zoo_permutations(zoo_of(tmp_path / "a", weights_of(1)), ARCH, config("weights"), tmp_path / "kept", images)
    assert len(calls) == 2
    assert not torch.equal(first, other)


def test_a_model_beyond_the_threshold_is_not_matched_and_moves_no_other(tmp_path):
    images, weights = image_data(), weights_of(0)
    weights[4] *= 1000
    moved = zoo_permutations(zoo_of(tmp_path / "a", weights), ARCH, config("weights"), tmp_path / "kept", images)
    table = zoo_permutations(zoo_of(tmp_path / "a", weights), ARCH, config("weights", 15), tmp_path / "kept", images)
    assert (moved >= 0).all()
    assert (table[4] == -1).all()
    assert (table[:4] >= 0).all()
    assert not torch.equal(moved[:4], table[:4]), "all were matched to the large one, nearly"
    again = zoo_permutations(zoo_of(tmp_path / "a", weights), ARCH, config("weights", 15), tmp_path / "kept", images)
    assert torch.equal(table, again)


def test_a_diverged_model_has_no_order(tmp_path):
    weights = weights_of(0)
    weights[2, 7] = np.nan
    table = zoo_permutations(zoo_of(tmp_path / "a", weights), ARCH, config("weights"), tmp_path / "kept", image_data())
    assert (table[2] == -1).all()
    assert (table[[0, 1, 3, 4]] >= 0).all()


def test_a_split_without_models_is_said_to_have_none(tmp_path):
    zoo = zoo_of(tmp_path, weights_of(0))
    zoo.models["split"] = ["val", "val", "val", "test", "test"]
    with pytest.raises(UserError, match=r"has no model in its train split \(its 5 models: 3 val, 2 test\)"):
        zoo_permutations(zoo, ARCH, config("weights"), tmp_path, image_data(train=40))
