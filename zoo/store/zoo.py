"""The zoo store: a population of models in one folder, safe against a kill at any instant, read without pickle.

`docs/FORMAT.md` specifies the files. Two rules carry everything: a file is written beside its name, flushed to the
disk and renamed into place; and it counts only once a manifest lists its hash.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from zoo.base.errors import UserError
from zoo.base.files import read_file, reading
from zoo.base.names import SPLITS
from zoo.store.block import Block, epoch_file
from zoo.store.entries import as_json_bytes, entry_of, open_tensors
from zoo.store.files import ZooFiles
from zoo.store.schema import (
    MOST_MODELS,
    check_metrics,
    check_models,
    read_table,
)
from zoo.store.selection import columns_of, known_numbers
from zoo.store.stored import MAY_CHANGE, read_description
from zoo.store.tables import collect_metrics, with_status

if TYPE_CHECKING:  # torch takes seconds to import and reading arrays and tables does not need it
    from torch import Tensor, nn

    from zoo.store.datamodule import ZooDataModule
    from zoo.store.model_dataset import ModelDataset


class Zoo(ZooFiles):
    """A zoo on disk. Open one with `Zoo.open`; `zoo.store.writer` makes or continues one.

    >>> zoo = Zoo.open("zoos/before")
    >>> zoo
    Zoo('before': 20 models, epochs 0 to 1, 484 parameters each, finished)
    >>> zoo.weights(split="val", epochs=[1]).shape
    (3, 1, 484)
    >>> zoo.tensors(split="val", epochs=[0, 1])["conv1.weight"].shape
    (3, 2, 2, 1, 5, 5)
    >>> zoo.models["status"].unique().tolist()
    ['ok']

    Attributes:
        path: the zoo's folder.
        description: what zoo.json holds, as plain JSON values.
        name: the zoo's name.
        layout: the slots of a weight vector, in order: [{"name": "conv1.weight", "shape": [8, 1, 5, 5], "offset": 0}].
        buffer_layout: the same for the buffer vector; empty for architectures without buffers.
        n_parameters: length of a weight vector.
        epochs: the epochs that every model of a finished zoo has: [0, 1, ..., last]; 0 is the state before training.
    """

    def __repr__(self) -> str:
        """E.g. `Zoo('digits_seed': 64 models, epochs 0 to 25, 2,464 parameters each, finished)`."""
        state = "finished" if self.finished else f"{self.pending} models lack epochs"
        return (
            f"Zoo({self.name!r}: {self.n_models:,} models, epochs 0 to {self.epochs[-1]}, {self.n_parameters:,} parameters each, "
            f"{state})"
        )

    @classmethod
    def open(cls, path: str | Path, module: str | None = None) -> Zoo:
        """Open the zoo in the folder `path` for reading, finished or not. Nothing that it holds is run or believed: see
        `zoo.store.schema` for what is checked.

        Args:
            path: the zoo's folder.
            module: the dotted path of your own network's class, where the zoo is of one (`arch.module`): a store does not
                choose what code is imported. Classes of the package `zoo` need no word.

        Raises:
            UserError: if there is none, it has another format version, or a file is damaged or is a link.
        """
        path = Path(path)
        description, entry = read_description(path)
        zoo = cls(path, description, module)
        listed = zoo.manifest()
        if listed and listed.get("zoo.json") != entry:
            raise UserError(
                f"{path / 'zoo.json'} or manifest.json was altered after the zoo was finished (the hashes differ): "
                f"restore them from a copy, or move {path} away and train again"
            )
        return zoo

    @property
    def models(self) -> pd.DataFrame:
        """One row a model: model_id, seed, init, activation, optimizer, lr, weight_decay, dropout, split, status, ...

        `status` is "pending" (not all epochs are there yet), "ok", "diverged" or "partial" (of an imported model that has not
        diverged, a state or a loss could not be read); the last column, `diverged_epoch`
        (Int64, else NA), is the first epoch at which a weight, the training loss or the test loss was not finite.
        """
        models = self.read_models()
        return models if self.finished else with_status(models, self._collected_metrics(), self.epochs[-1])

    @property
    def metrics(self) -> pd.DataFrame:
        """One row a model and epoch, in this order; of an unfinished zoo, the rows that are there.

        Columns: model_id, epoch, then train_loss, train_acc, val_loss, val_acc, test_loss, test_acc (accuracies are
        fractions in [0, 1]; validation is NaN where the dataset has none), the zoo's further ones, and weight_max_abs
        (the largest absolute weight; NaN or inf in a diverged model).
        """
        return self._read_metrics() if self.finished else self._collected_metrics()

    def _collected_metrics(self) -> pd.DataFrame:
        return collect_metrics(self.stored_blocks(), self.description["metrics"])

    def read_models(self) -> pd.DataFrame:
        """The rows of `models` as they are stored: of an unfinished zoo, all are pending."""

        # While a zoo is being extended the table may already have rows that zoo.json does not promise yet.
        def check(table: pd.DataFrame) -> None:
            check_models(table, self.epochs[-1])

        return self._read_table("models.parquet", self.n_models, MOST_MODELS, check).iloc[: self.n_models]

    def _read_metrics(self) -> pd.DataFrame:
        def check(table: pd.DataFrame) -> None:
            check_metrics(table, self.n_models, self.epochs[-1], self.description["metrics"])

        rows = self.n_models * len(self.epochs)
        return self._read_table("metrics.parquet", rows, rows, check)

    def _read_table(self, name: str, least: int, most: int, check: Callable[[pd.DataFrame], None]) -> pd.DataFrame:
        listed = self.manifest()
        with reading(self.path / name, f"{self.redo} to restore it"):
            data = read_file(self.path / name)
            if listed and listed.get(name) != entry_of(data):
                raise ValueError("its hash is not the one in manifest.json")
            table = read_table(data, least, most)
            check(table)
            return table

    @property
    def identity(self) -> str:
        """sha256 of all that determines the models, their splits among it: equal for a zoo that was made again."""
        kept = {k: v for k, v in self.description.items() if k not in MAY_CHANGE | {"name"}}
        rows = self.read_models().drop(columns=["status", "diverged_epoch"])
        return hashlib.sha256(as_json_bytes(kept) + rows.to_csv(index=False).encode()).hexdigest()

    def weights(
        self,
        split: str | None = None,
        epochs: Iterable[int] | None = None,
        models: Iterable[int] | None = None,
        layers: Sequence[str] | None = None,
        columns: slice | None = None,
    ) -> np.ndarray:
        """Weights of the chosen states: float32 [models, epochs, parameters]. Only what is chosen is read.

        Args:
            split: "train", "val" or "test"; all models if None.
            epochs: in the order wanted; all if None.
            models: ids, in the order wanted; instead of `split`.
            layers: e.g. "conv1" (its weight, then its bias) or "conv1.weight", in the order wanted; all if None.
            columns: a range of the vector (step 1), instead of `layers`.

        Raises:
            UserError: if something asked for is not stored (yet), or a file is damaged.
        """
        ranges = columns_of(self.layout, layers)
        if columns is not None:
            start, stop, step = columns.indices(self.n_parameters)
            if step != 1 or layers is not None:
                raise UserError(f"columns is {columns}: give a range of step 1, and no layers beside it")
            ranges = [(start, max(start, stop))]
        return self._states("weights", ranges, split, epochs, models)

    def buffers(
        self,
        split: str | None = None,
        epochs: Iterable[int] | None = None,
        models: Iterable[int] | None = None,
        layers: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Buffers (BatchNorm's running statistics) of the chosen states: float32 [models, epochs, buffers]; as `weights`.

        Raises:
            UserError: as `weights`, and if the architecture has no buffers.
        """
        if not self.buffer_layout:
            raise UserError(f"the architecture of zoo {self.name!r} has no buffers")
        return self._states("buffers", columns_of(self.buffer_layout, layers), split, epochs, models)

    def state_dict(self, model: int, epoch: int) -> dict[str, Tensor]:
        """The state dict of one model at one epoch, for `module`'s class. Raises UserError as `weights`."""
        import torch

        weights = torch.from_numpy(self.weights(models=[model], epochs=[epoch])[0, 0])
        buffers = None
        if self.buffer_layout:
            buffers = torch.from_numpy(self.buffers(models=[model], epochs=[epoch])[0, 0])
        return self.architecture.state_dict(weights, buffers)

    def state_dicts(
        self, split: str | None = None, epochs: Iterable[int] | None = None, models: Iterable[int] | None = None
    ) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
        """Model, epoch and state dict of each chosen state, one after another. Arguments and errors as of `weights`."""
        for model in self.choose_models(split, models):
            for epoch in self.choose_epochs(epochs):
                yield int(model), epoch, self.state_dict(int(model), epoch)

    def tensors(
        self, split: str | None = None, epochs: Iterable[int] | None = None, models: Iterable[int] | None = None
    ) -> dict[str, np.ndarray]:
        """The chosen states tensor by tensor, e.g. "conv1.weight": float32 [models, epochs, *shape]. Arguments and errors as of
        `weights`."""
        weights = self.weights(split, epochs, models)
        parts = {slot["name"]: (slot["offset"], slot["shape"]) for slot in self.layout}
        return {
            name: weights[..., at : at + math.prod(shape)].reshape(*weights.shape[:2], *shape)
            for name, (at, shape) in parts.items()
        }

    def optimizer(self, model: int) -> dict[str, np.ndarray]:
        """The optimiser state of one model after the last epoch, as its engine names it: e.g. first_moment float32
        [parameters], step int64. Raises UserError as `weights`."""
        (model,) = self.choose_models(models=[model])
        blocks = self.stored_blocks()
        self._refuse_pending(np.array([model]), self.epochs[-1], blocks)
        block = next(block for block in blocks if model in block.models)
        return {name: array[0] for name, array in block.load_optimizer(model).items()}

    def module(self, model: int, epoch: int) -> nn.Module:
        """One model at one epoch as an ordinary module in evaluation mode. Raises UserError as `weights` and `architecture`, and
        for a model of an activation that there is not here."""
        import torch

        state = self.state_dict(model, epoch)
        row = self.read_models().iloc[model]
        dropout = 0.0 if pd.isna(row["dropout"]) else float(row["dropout"])
        if not self.architecture.runs([row["activation"]])[0]:
            raise UserError(
                f"model {model} of zoo {self.name!r} has the activation {row['activation']}, which is not known here"
            )
        with torch.random.fork_rng(devices=[]):  # building it draws weights that are not wanted
            module = self.architecture.module(row["activation"], dropout)
        module.load_state_dict(state)
        return module.eval()

    def dataset(
        self,
        split: str | None = None,
        epochs: Iterable[int] | None = None,
        properties: Sequence[str] = (),
        *,
        models: Iterable[int] | None = None,
        layers: Sequence[str] | None = None,
        drop_nonfinite: bool = True,
        weight_threshold: float | None = None,
    ) -> ModelDataset:
        """The chosen states with their properties as a torch dataset. See `ModelDataset` for its items.

        Args:
            split, epochs, models, layers: which states and which part of their vectors, as in `weights`.
            properties: names of columns of `metrics` or `models`, or "ggap" (generalisation gap: train_acc - test_acc at the
                same epoch). Matched by model and epoch, never by position.
            drop_nonfinite, weight_threshold: as of `ModelDataset`.

        Raises:
            UserError: if a property or something else asked for is not stored.
        """
        from zoo.store.model_dataset import ModelDataset

        ids, chosen = self.choose_models(split, models), self.choose_epochs(epochs)
        table = self.properties(ids, chosen, properties)
        weights = self.weights(models=ids, epochs=chosen, layers=layers)
        return ModelDataset(
            weights.reshape(len(table), weights.shape[2]),
            table,
            properties,
            drop_nonfinite=drop_nonfinite,
            weight_threshold=weight_threshold,
            name=f"zoo {self.name!r}",
        )

    def datamodule(
        self,
        epochs: Iterable[int] | None = None,
        properties: Sequence[str] = (),
        *,
        batch_size: int = 32,
        layers: Sequence[str] | None = None,
        weight_threshold: float | None = None,
    ) -> ZooDataModule:
        """The chosen states of the splits by model, as a Lightning data module: train, val and test loaders of `dataset`s."""
        from zoo.store.datamodule import ZooDataModule

        sets = {
            split: self.dataset(split, epochs, properties, layers=layers, weight_threshold=weight_threshold)
            for split in SPLITS
        }
        return ZooDataModule(sets, batch_size)

    def properties(self, ids: np.ndarray, epochs: Sequence[int], names: Sequence[str]) -> pd.DataFrame:
        """One row a state, model by model: model_id, epoch and the properties, looked up by these two.

        Args:
            ids: of the models.
            epochs: of each.
            names: see `dataset`.

        Raises:
            UserError: if a property is not stored.
        """
        states = pd.DataFrame({"model_id": np.repeat(ids, len(epochs)), "epoch": np.tile(epochs, len(ids))})
        if not len(names):
            return states
        metrics = self.metrics.assign(ggap=lambda rows: rows["train_acc"] - rows["test_acc"])
        # "Not diverged" is NaN among numbers: torch cannot collate pandas' NA.
        models = self.models.astype({"diverged_epoch": "float64"})
        known = {**dict.fromkeys(metrics.columns), **dict.fromkeys(models.columns)}
        unknown = [name for name in names if name not in known]
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"zoo {self.name!r} has no property {unknown[0]!r}: {hint}it has {', '.join(known)}")
        keys = ["model_id", "epoch"]
        of_state = [name for name in metrics.columns if name in names and name not in keys]
        of_model = [name for name in models.columns if name in names and name != "model_id"]
        table = states.merge(metrics[keys + of_state], on=keys, how="left", validate="many_to_one")
        table = table.merge(models[["model_id", *of_model]], on="model_id", how="left", validate="many_to_one")
        return table[list(dict.fromkeys([*keys, *names]))]

    def choose_models(self, split: str | None = None, models: Iterable[int] | None = None) -> np.ndarray:
        """The ids, int64 [models], that `split` and `models` mean in `weights`. Raises UserError for unknown ones."""
        if split is not None and models is not None:
            raise UserError("give either split or models, not both")
        if split is not None and split not in SPLITS:
            raise UserError(f"split is {split!r}, but may be {', '.join(SPLITS)} or None")
        if models is None:
            table = self.read_models()
            chosen = table if split is None else table[table["split"] == split]
            return chosen["model_id"].to_numpy()
        return known_numbers(models, range(self.n_models), "model", self.name)

    def choose_epochs(self, epochs: Iterable[int] | None = None) -> list[int]:
        """The epochs that `epochs` means in `weights`. Raises UserError for unknown ones."""
        if epochs is None:
            return self.epochs
        return known_numbers(epochs, self.epochs, "epoch", self.name).tolist()

    def _states(
        self,
        tensor: str,
        columns: list[tuple[int, int]],
        split: str | None,
        epochs: Iterable[int] | None,
        models: Iterable[int] | None,
    ) -> np.ndarray:
        ids, chosen = self.choose_models(split, models), self.choose_epochs(epochs)
        blocks = self.stored_blocks()
        if chosen:
            self._refuse_pending(ids, max(chosen), blocks)
        parts = [(block, np.flatnonzero((ids >= block.first) & (ids <= block.last))) for block in blocks]
        parts = [(block, places) for block, places in parts if len(places)]
        self._refuse_unlisted([block for block, _ in parts])
        files = [(block, places, block.listed_files(map(epoch_file, chosen))) for block, places in parts]
        # Only now that files of this size are there is memory asked for.
        out = np.empty((len(ids), len(chosen), sum(stop - start for start, stop in columns)), np.float32)
        width = {"weights": self.n_parameters, "buffers": self.n_buffers}[tensor]
        for block, places, listed in files:
            rows = ids[places] - block.first
            low, high = int(rows.min()), int(rows.max()) + 1
            for i, file in enumerate(listed):
                with open_tensors(file) as tensors:
                    values = tensors.slice(tensor, "F32", (len(block.models), width))
                    at = 0
                    for start, stop in columns:
                        out[places, i, at : at + stop - start] = values[low:high, start:stop][rows - low]
                        at += stop - start
        return out

    def _refuse_pending(self, ids: np.ndarray, epoch: int, blocks: list[Block]) -> None:
        there = [np.array(block.models) for block in blocks if epoch in block.epochs]
        pending = int((~np.isin(ids, np.concatenate([np.empty(0, np.int64), *there]))).sum())
        if pending and self.finished:
            raise UserError(
                f"{pending} of the {len(ids)} models asked of zoo {self.name!r} are missing in {self.path / 'weights'}: download "
                f"them too if the zoo was downloaded, or {self.redo}"
            )
        if pending:
            raise UserError(
                f"{pending} of the {len(ids)} models asked of zoo {self.name!r} do not have epoch {epoch} yet: {self.redo} "
                "to finish it, or select those that have it, for example "
                "models=zoo.models.query(\"status != 'pending'\").model_id"
            )
