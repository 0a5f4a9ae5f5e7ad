"""The zoo store: a population of models in one folder, safe against a kill at any instant, read without pickle.

`docs/FORMAT.md` specifies the files. Two rules carry everything: a file is written beside its name, flushed to the
disk and renamed into place; and it counts only once a manifest lists its hash.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from zoo.base.errors import UserError
from zoo.base.files import known_hash, owner_of, read_file, reading
from zoo.base.names import SPLITS
from zoo.base.text import printable
from zoo.store.block import Block, epoch_file
from zoo.store.entries import as_json_bytes, damage_of, entry_of, open_tensors
from zoo.store.schema import (
    MOST_MODELS,
    ROOT_FILES,
    check_metrics,
    check_models,
    read_table,
)
from zoo.store.selection import columns_of, known_numbers
from zoo.store.stored import MAY_CHANGE, PROVENANCE, StoredZoo, read_description
from zoo.store.tables import collect_metrics, with_status

if TYPE_CHECKING:  # torch takes seconds to import and reading arrays and tables does not need it
    from torch import Tensor, nn

    from zoo.store.model_dataset import ModelDataset


class Zoo(StoredZoo):
    """A zoo on disk. Open one with `Zoo.open`; `zoo.store.writer` makes or continues one.

    Attributes:
        path: the zoo's folder.
        description: what zoo.json holds, as plain JSON values.
        name: the zoo's name.
        layout: the slots of a weight vector, in order: [{"name": "conv1.weight", "shape": [8, 1, 5, 5], "offset": 0}].
        buffer_layout: the same for the buffer vector; empty for architectures without buffers.
        n_parameters: length of a weight vector.
        epochs: the epochs that every model of a finished zoo has: [0, 1, ..., last]; 0 is the state before training.
    """

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
    def pending(self) -> int:
        """How many models lack epochs."""
        return self.n_models - sum(len(block.models) for block in self.stored_blocks() if not block.pending)

    def at_work(self) -> list[str]:
        """The processes that are training blocks of this zoo at the moment."""
        owners = [owner_of(file) for file in sorted((self.path / "weights").glob("*.lock"))]
        return [owner for owner in owners if owner]

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

    @property
    def content(self) -> str:
        """sha256 over the hashes of all files but the card's: it changes with any state, table or description; "" while the
        zoo is unfinished."""
        listed = {
            name: entry for name, entry in self.manifest().items() if name.split("/")[0] not in ("README.md", "card")
        }
        return hashlib.sha256(as_json_bytes(listed)).hexdigest() if listed else ""

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

    def blocks(self, size: int, within: range | None = None) -> list[Block]:
        """The blocks of the zoo: first those that exist, then new ones of at most `size` models for the rest.

        To train, open each (`with block:`), which checks its files, and commit its `pending` epochs.

        Args:
            size: of new blocks.
            within: only existing blocks that begin in this range of models, and new ones that lie in it; None: all.
        """
        within = range(self.n_models) if within is None else within
        existing = self.stored_blocks()
        new, first = [], within.start
        for gap_end, after in [(block.first, block.last + 1) for block in existing] + [(self.n_models, 0)]:
            stop = min(gap_end, within.stop)
            new += [Block(self, start, min(start + size, stop) - 1) for start in range(first, stop, size)]
            first = max(first, after)
        return [block for block in existing if block.first in within] + new

    def stored_blocks(self) -> list[Block]:
        """The blocks that have a folder, by first model. Raises UserError as `block_ranges`."""
        return [Block(self, *ends) for ends in self.block_ranges()]

    def verify(self) -> list[str]:
        """Hash every file again: a list of sentences, one a problem; empty if the zoo is intact and nothing else lies there."""
        problems = self.damages()
        problems += [f"{file} is a link" for file in sorted(self.path.rglob("*")) if file.is_symlink()]
        try:
            known = {"manifest.json", PROVENANCE, *ROOT_FILES, *self.manifest()}
            blocks = self.stored_blocks()
        except UserError:  # damages has told it
            return list(map(printable, problems))
        for block in blocks:
            try:
                known |= {f"weights/{block.name}/{name}" for name in ["manifest.json", *block.files()]}
            except UserError:
                known |= {file.relative_to(self.path).as_posix() for file in block.path.iterdir()}
        if self.finished:  # while a zoo is being trained, files come and go
            files = {file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file()}
            # Names with a dot in front are left by git, by the Hub's client and by desktops.
            hidden = {name for name in files if any(part.startswith(".") for part in name.split("/"))}
            strangers = (name for name in files - known - hidden if not name.endswith(".lock"))
            problems += [f"{self.path / name} is no part of the zoo" for name in sorted(strangers)]
        return list(map(printable, problems))

    def damages(self) -> list[str]:
        """Hash every file again: a sentence for each that is missing, or not as a manifest lists it."""
        found = []
        try:
            damages = {self.path / name: damage_of(self.path / name, entry) for name, entry in self.manifest().items()}
            found += [f"{file} {damage}" for file, damage in damages.items() if damage]
        except UserError as error:
            found.append(str(error))
        try:
            for block in self.stored_blocks():
                found += [problem for problem in block.problems() if problem not in found]
        except UserError as error:
            found.append(str(error))
        return found

    def files(self) -> list[str]:
        """The files of a finished zoo, relative to its folder: those that its manifests list, these themselves, and
        provenance.json, where there is one.

        Raises:
            UserError: if one is missing or damaged.
        """
        listed = self.manifest()
        for block in self.stored_blocks():
            listed |= {f"weights/{block.name}/{name}": entry for name, entry in block.files().items()}
        for name, entry in listed.items():
            if damage := damage_of(self.path / name, entry, known_hash):
                raise UserError(f"{self.path / name} {damage}{self.remedy(damage)}")
        provenance = [PROVENANCE] if (self.path / PROVENANCE).exists() else []
        return ["manifest.json", *listed, *provenance]

    def _refuse_unlisted(self, blocks: Sequence[Block]) -> None:
        """Raise UserError if a block of a finished zoo is another one than manifest.json lists."""
        listed = self.manifest()
        for block in blocks if listed else ():
            if not block.is_in(listed):
                raise UserError(
                    f"{block.path} is not the block that {self.path / 'manifest.json'} lists: {self.redo} to restore it"
                )

    def is_whole(self) -> bool:
        """Whether the zoo is finished, and its tables, and the manifests of its blocks, are as manifest.json lists them."""
        listed = self.manifest()
        kept = {name: entry for name, entry in listed.items() if not name.startswith("card/")}
        return bool(kept) and not any(damage_of(self.path / name, entry) for name, entry in kept.items())
