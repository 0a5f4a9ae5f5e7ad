"""What a zoo's weights tell of its models, as tables: properties (Model Zoos, 2022, Table 3), the end of a training from its
beginning, and whether what was learnt on one zoo holds on another."""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.benchmark.probes import PROBES, split_of
from analysis.config import Config
from analysis.measures.summary import in_parts, viable_models
from zoo import Zoo
from zoo.base.console import tracked
from zoo.base.errors import UserError, naming
from zoo.base.names import FACTORS
from zoo.base.plugins import find
from zoo.store.model_dataset import ModelDataset

log = logging.getLogger(__name__)

TOLD_BY = 200  # of a model's first weights: enough to tell it from others
PUBLISHED = Path(__file__).with_name("published_zoos.csv")  # Model Zoos (2022), Tables 2 and 3


def probes_table(config: Config, zoo: Zoo) -> pd.DataFrame:
    """Table 3's row: every feature, probe and target that varies, on the states of some epochs that are viable there.

    Columns: feature, probe, target, the fields of `Score`, published (as a share, like value) and unclear (how it is
    printed).
    """
    chosen = config.analysis
    states, features = _states(config, zoo, probe_epochs(config, zoo), chosen.targets)
    published = pd.read_csv(PUBLISHED)
    published = published[(published["zoo"] == zoo.name) & (published["table"] == 3)].set_index(["feature", "column"])
    targets, lines = _varying(states, chosen.targets), []
    for feature, target in tracked([*product(features, targets)], "probing weights", "pairs of feature and target"):
        splits = [split_of(features[feature], states, target, split) for split in ("train", "val", "test")]
        for probe in chosen.probes:
            same = probe == "linear" and (feature, target) in published.index
            theirs: Any = published.loc[(feature, target)] if same else {"value": np.nan, "unclear": False}
            if score := PROBES[probe](*splits):
                line = {"feature": feature, "probe": probe, "target": target, **vars(score)}
                lines.append(line | {"published": theirs["value"] / 100, "unclear": bool(theirs["unclear"])})
    return pd.DataFrame(lines)


def early_table(config: Config, zoo: Zoo) -> pd.DataFrame:
    """The test accuracy that a model will end with, from its state at an early epoch.

    All models whose state is viable at that epoch count, also those that diverge later: these are what one wants to foresee.

    Columns: epoch, feature, probe and the fields of `Score`. The feature "validation accuracy" is what one would go by
    without looking at weights: that of the same epoch.

    Args:
        config: with `analysis.early_epochs`; those that are not before the last epoch are left out.
        zoo: whose models.
    """
    last = zoo.metrics[zoo.metrics["epoch"] == zoo.epochs[-1]].set_index("model_id")["test_acc"]
    lines = []
    early = [epoch for epoch in config.analysis.early_epochs if epoch < zoo.epochs[-1]]
    for epoch in tracked(early, "foretelling the end", "epochs"):
        states, features = _states(config, zoo, [epoch], ["val_acc"])
        states = states.assign(final=last[states["model_id"]].to_numpy())
        features["validation accuracy"] = states[["val_acc"]].to_numpy(np.float64)
        for feature, values in features.items() if _varying(states, ["final"]) else ():
            known = np.isfinite(values).all(1)  # the validation accuracy of an imported model may not be
            splits = [split_of(values[known], states[known], "final", split) for split in ("train", "val", "test")]
            for probe in config.analysis.probes:
                if score := PROBES[probe](*splits):
                    lines.append({"epoch": epoch, "feature": feature, "probe": probe, **vars(score)})
    return pd.DataFrame(lines)


def check(config: Config, zoo: Zoo) -> None:
    """What forbids the tables of a zoo, told before anything is measured; each feature is tried on a viable model.

    Raises:
        UserError: if a target is no property of a zoo, an epoch is not stored, no model is viable, or another zoo is not
            there, unfinished or of another architecture; or if a feature is none, see `feature_of`.
    """
    _check(config, zoo)
    for name in config.analysis.others:
        with naming("analysis.others"):
            other = Zoo.open(zoo.path.with_name(name), config.arch.module)
            if not other.finished:
                raise UserError(f"{name} is not finished; {other.redo}")
            if other.description["arch"] != zoo.description["arch"]:
                raise UserError(f"{name} has models of another architecture than {zoo.name}")
            _check(config, other)


def _check(config: Config, zoo: Zoo) -> None:
    with naming("analysis.probe_epochs"):
        epochs = probe_epochs(config, zoo)
    with naming("analysis.targets"):
        zoo.properties(np.empty(0, np.int64), [], config.analysis.targets)
    viable, _ = viable_models(zoo, zoo.epochs[-1], config.analysis.weight_threshold)
    _states(config, zoo, epochs[-1:], [], viable[:1])


def across_table(config: Config, zoo: Zoo) -> pd.DataFrame:
    """Probes fitted on other zoos (`analysis.others`, see `check`), on this one's test models; states as in `probes_table`.

    Nothing is fitted or chosen on this zoo's test models, which the other zoo may have in its train or validation split.

    Columns: source, feature, probe, target and the fields of `Score`.

    Raises:
        UserError: if a feature of the other zoo has another width than of this one.
    """
    chosen, lines = config.analysis, []
    if not chosen.others:
        return pd.DataFrame()
    states, features = _states(config, zoo, probe_epochs(config, zoo), chosen.targets)
    for name in chosen.others:
        other = Zoo.open(zoo.path.with_name(name), config.arch.module)
        if not len(untested := _untested(zoo, other)):
            continue
        fitted, known = _states(config, other, probe_epochs(config, other), chosen.targets, untested)
        for feature, values in [(name, values) for name, values in features.items() if name in known]:
            if known[feature].shape[1] != values.shape[1]:
                raise UserError(
                    f"analysis.features.{feature}: gave {known[feature].shape[1]} numbers a state of {name} and "
                    f"{values.shape[1]} of {zoo.name}, but as many are wanted"
                )
            targets = [t for t in _varying(fitted, chosen.targets) if t in _varying(states, chosen.targets)]
            for target in tracked(targets, f"probing {feature} of {name} on {zoo.name}", "targets"):
                train, val = (split_of(known[feature], fitted, target, split) for split in ("train", "val"))
                test = split_of(values, states, target, "test")
                for probe in chosen.probes:
                    if score := PROBES[probe](train, val, test):
                        line = {"source": name, "feature": feature, "probe": probe, "target": target}
                        lines.append(line | vars(score))
    return pd.DataFrame(lines)


def _untested(zoo: Zoo, other: Zoo) -> np.ndarray:
    """The ids of another zoo's models without those of its train and validation splits that are this zoo's test models:
    of the same seed and factors, trained on the same images from the same weights."""
    images, theirs = ([z.description["dataset"].get(key) for key in ("name", "fingerprint")] for z in (zoo, other))
    if images != theirs:
        return other.models["model_id"].to_numpy()
    same = ["seed", *FACTORS, "began"]
    rows, tested = (
        z.models.assign(began=[row.tobytes() for row in z.weights(epochs=[0], columns=slice(TOLD_BY))[:, 0]])
        for z in (other, zoo)
    )
    tested = tested.loc[tested["split"] == "test", same].drop_duplicates()
    matched = rows[same].merge(tested, how="left", on=same, indicator="where")["where"].to_numpy() == "both"
    leaks = matched & (rows["split"] != "test").to_numpy()
    if leaks.any():
        log.warning("zoo %r: nothing is fitted on %d models, test models of %r", other.name, leaks.sum(), zoo.name)
    return rows.loc[~leaks, "model_id"].to_numpy()


def probe_epochs(config: Config, zoo: Zoo) -> list[int]:
    """The epochs whose states are probed: a tenth, three tenths and the end of the training unless the config says others.

    The paper does not say which it used; the published notebook means 5, 15 and 25 and uses 5, 15 and 50.
    """
    if config.analysis.probe_epochs is not None:
        return list(zoo.choose_epochs(config.analysis.probe_epochs))
    last = zoo.epochs[-1]
    return sorted({min(last, max(1, round(last / 10))), min(last, max(1, round(3 * last / 10))), last})


def _states(
    config: Config, zoo: Zoo, epochs: list[int], properties: list[str], models: np.ndarray | None = None
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The viable states of epochs with their split and properties, and the features [states, F] they have, by name.

    Whether a state is viable is its own matter: models that fail later count before. `models`: None for all.
    """
    models = zoo.models["model_id"].to_numpy() if models is None else models
    tables: list[pd.DataFrame] = []
    features: dict[str, list[np.ndarray]] = {}
    for some in in_parts(zoo, models, len(epochs)):
        threshold = config.analysis.weight_threshold
        data = zoo.dataset(None, epochs, ["split", *properties], models=some, weight_threshold=threshold)
        tables.append(data.table)
        for name in config.analysis.features if len(data) else ():
            if (values := feature_of(config, name, zoo, data)) is not None:
                features.setdefault(name, []).append(values)
    states = pd.concat(tables, ignore_index=True)
    for name, parts in features.items():
        widths = sorted({part.shape[1] for part in parts})
        if len(widths) > 1 or sum(map(len, parts)) < len(states):
            raise UserError(
                f"analysis.features.{name}: gave {' or '.join(map(str, widths))} numbers a state, for {sum(map(len, parts))} of "
                f"{len(states)} states of {zoo.name}; but as many for every state are wanted"
            )
    return states, {name: np.concatenate(parts) for name, parts in features.items()}


def feature_of(config: Config, name: str, zoo: Zoo, data: ModelDataset) -> np.ndarray | None:
    """One of `analysis.features` of some states: float [states, F], or None for zoos that it is not for.

    Raises:
        UserError: if the function fails, or gives something else.
    """
    path = config.analysis.features[name]
    with naming(f"analysis.features.{name}"):
        try:
            found = find(path)(config, zoo, data.table.copy(), data.weights.numpy().copy())
        except UserError:
            raise
        except Exception as error:  # it is the user's own, and may fail in any way
            raise UserError(f"{path} failed: {type(error).__name__}: {error}") from error
        if found is None:
            return None
        values = np.asarray(found)
        if values.dtype.kind not in "fiub" or values.ndim != 2 or len(values) != len(data) or not values.shape[1]:
            raise UserError(f"{path} gave {values.dtype} {list(values.shape)} for {len(data)} states, but a row of numbers a "
                            "state is wanted")  # fmt: skip
        if not (np.abs(values) <= np.finfo(np.float32).max).all():
            raise UserError(f"{path} gave numbers that are not finite, or not in float32")
        return values


def _varying(states: pd.DataFrame, targets: list[str]) -> list[str]:
    """The targets that have several values among models of the train split; none where a split has no model."""
    if not {"train", "val", "test"} <= set(states["split"]):
        return []
    return [name for name in targets if states.loc[states["split"] == "train", name].nunique() > 1]
