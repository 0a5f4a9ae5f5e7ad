"""The zoo store: a population of models in one folder, safe against a kill at any instant, read without pickle.

`docs/FORMAT.md` specifies the files. Two rules carry everything: a file is written beside its name, flushed to the
disk and renamed into place; and it counts only once a manifest lists its hash.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from zoo.errors import UserError
from zoo.files import (
    hash_of,
    known_hash,
    locked,
    owner_of,
    plain_size,
    read_file,
    reading,
    refuse_link,
    remove_leftovers,
    sync_folder,
    write_file,
)
from zoo.schema import (
    FACTORS,
    FORMAT,
    FORMAT_VERSION,
    LISTED,
    MOST_MODELS,
    ROOT_FILES,
    SCORES,
    SPLITS,
    STATES,
    WEIGHT_MAX_ABS,
    WHOLE,
    check_blocks,
    check_description,
    check_manifest,
    check_metrics,
    check_models,
    is_command,
    parse_json,
    read_table,
)
from zoo.text import printable

if TYPE_CHECKING:  # torch takes seconds to import and reading arrays and tables does not need it
    from torch import Tensor, nn

    from zoo.architecture import Architecture, Slot
    from zoo.model_dataset import ModelDataset

log = logging.getLogger(__name__)

CLASS_ACCURACY = "test_acc_class_"  # and the number of the class, from 0
MAY_CHANGE = {
    "models",
    "constants",
    "epochs",
    "versions",
    "command",
    "measured",
    "license",
    "published",
    "about",
}  # everything else in zoo.json identifies the zoo
LFS_POINTER, LFS_BYTES = "is a pointer of Git LFS, not the file itself", 1024  # which a pointer is shorter than
PACED_EPOCHS = 6  # of a block that tell how fast it goes on
PROVENANCE = "provenance.json"  # the one file that differs when a zoo is made again: see `zoo.provenance`


class DamagedManifest(UserError):
    """A zoo's manifest.json is not as it was written. What it lists has hashes of its own, so that it can be made again."""


class Zoo:
    """A zoo on disk. Open one with `Zoo.open`, make or continue one with `Zoo.create`.

    Attributes:
        path: the zoo's folder.
        description: what zoo.json holds, as plain JSON values.
        name: the zoo's name.
        layout: the slots of a weight vector, in order: [{"name": "conv1.weight", "shape": [8, 1, 5, 5], "offset": 0}].
        buffer_layout: the same for the buffer vector; empty for architectures without buffers.
        n_parameters: length of a weight vector.
        epochs: the epochs that every model of a finished zoo has: [0, 1, ..., last]; 0 is the state before training.
    """

    def __init__(self, path: Path, description: dict[str, Any], module: str | None = None) -> None:
        self.path = path
        self._module = module
        self.description = description
        self.name: str = description["name"]
        self.layout: list[dict[str, Any]] = description["layout"]
        self.buffer_layout: list[dict[str, Any]] = description["buffer_layout"]
        self.n_parameters = _width(self.layout)
        self.n_buffers = _width(self.buffer_layout)
        self.n_models: int = description["models"]
        self.epochs = list(range(description["epochs"] + 1))
        command = description.get("command")
        elsewhere = path.parent.name == "zoos" and path.parent != Path("outputs/zoos")
        where = f" paths.root={path.parent.parent}" if elsewhere else ""
        known = is_command(command)  # else it is a stranger's text: nothing to be run as it stands
        self.redo = f"run `{command}{where}` again" if known else "run the command that made it again"

    # --------------------------------------------------------------------------------------- open, create, finalise

    @classmethod
    def open(cls, path: str | Path, module: str | None = None) -> Zoo:
        """Open the zoo in the folder `path` for reading, finished or not. Nothing that it holds is run or believed: see
        `zoo.schema` for what is checked.

        Args:
            path: the zoo's folder.
            module: the dotted path of your own network's class, where the zoo is of one (`arch.module`): a store does not
                choose what code is imported. Classes of the package `zoo` need no word.

        Raises:
            UserError: if there is none, it has another format version, or a file is damaged or is a link.
        """
        path = Path(path)
        try:
            text = read_file(path / "zoo.json")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"there is no zoo in {path} (no zoo.json): check the path, or train it with `python run.py zoo=NAME`"
            ) from None
        _refuse_links(path)
        try:
            description = parse_json(text)
            kind, version = description["format"], description["format_version"]
            if (kind, version) == (FORMAT, FORMAT_VERSION):
                check_description(description)
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"{path / 'zoo.json'} is damaged ({error}): restore it from a copy, or move {path} away and train again"
            ) from error
        if (kind, version) != (FORMAT, FORMAT_VERSION):
            newer = kind == FORMAT and isinstance(version, int) and version > FORMAT_VERSION
            remedy = "install a newer hyperzoo" if newer else "install the version of hyperzoo that made it"
            raise UserError(
                f"{path} has format {kind!s:.50} {version!s:.50}, but this version of hyperzoo reads {FORMAT} "
                f"{FORMAT_VERSION}: {remedy} (made by {description.get('versions', 'a version that was not recorded')!s:.200})"
            )
        zoo = cls(path, description, module)
        listed = zoo._manifest()
        if listed and listed.get("zoo.json") != _entry(text):
            raise UserError(
                f"{path / 'zoo.json'} or manifest.json was altered after the zoo was finished (the hashes differ): "
                f"restore them from a copy, or move {path} away and train again"
            )
        return zoo

    @classmethod
    def create(cls, path: str | Path, description: dict[str, Any], models: pd.DataFrame) -> Zoo:
        """Begin a zoo in the folder `path`, or go on with the one there; more models and more epochs may be asked of it.

        Args:
            path: the zoo's folder; made if needed.
            description: everything of zoo.json but the format fields, models and layouts: `name`, `arch` (see
                `Architecture.to_dict`), `epochs` (int, the last epoch), `metrics` (names of the metric columns, the six
                losses and accuracies of train, val and test among them), `versions`, `command` and whatever else
                identifies the zoo (spec, protocol, dataset, engine). JSON-able; `models`, `epochs`, `versions` and
                `command` may change when a zoo is extended, the rest may not.
            models: one row a model, columns model_id (0 .. n - 1 in order), seed, init, activation, optimizer, lr,
                weight_decay, dropout, split ("train", "val" or "test") and any further ones.

        Raises:
            UserError: if the zoo there is another one, fewer models, or fewer epochs than some have, are asked of an unfinished
                one, or a name, a text or a size is one that `zoo.schema` refuses.
        """
        path = Path(path)
        module = description["arch"].get("module")  # whoever calls this names it
        _check_models(models)
        description = _complete(description, len(models))
        _refuse_links(path)
        if (path / "manifest.json").exists() and not os.access(path, os.W_OK):
            zoo = cls.open(path, module)
            if zoo._promises(description, models) == (True, True):
                return zoo  # nothing is to be written, and nothing can be
        (path / "weights").mkdir(parents=True, exist_ok=True)
        with locked(path / ".lock"):
            remove_leftovers(path, r"[a-z]+\.json|[a-z]+\.parquet|README\.md")  # of killed processes
            if not (path / "zoo.json").exists():
                _write_zoo(path, description, models)
            else:
                zoo = cls.open(path, module)
                as_asked, intact = zoo._promises(description, models)
                if not (as_asked and intact):
                    _remove(path / "manifest.json")  # from here on the zoo is unfinished
                    _write_zoo(path, zoo.description if as_asked else description, models)
            zoo = cls.open(path, module)
            for block in zoo._blocks():
                block._remove_if_empty()
        return zoo

    @classmethod
    def drop_damaged_manifest(cls, path: str | Path) -> None:
        """Remove manifest.json of the zoo in a folder if it is damaged, and say so: the zoo counts as unfinished, and whoever
        goes on with it finalises it again."""
        path = Path(path)
        if not (path / "zoo.json").exists():
            return
        try:
            cls.open(path)
        except DamagedManifest as error:
            log.warning("%s", error)
            with locked(path / ".lock"):
                _remove(path / "manifest.json")

    def finalise(self) -> None:
        """Write models.parquet, metrics.parquet, README.md and, last, manifest.json. Nothing to do if all are intact.

        Raises:
            UserError: if some models still lack epochs.
        """
        if Zoo.open(self.path)._whole():  # which is no reason to write where one may not
            return
        with locked(self.path / ".lock"):
            zoo = Zoo.open(self.path)  # another process may have extended it since
            if zoo._whole():
                return
            if zoo.pending:
                raise UserError(
                    f"zoo {zoo.name!r} is not finished: {zoo.pending} of {zoo.n_models} models lack epochs; {zoo.redo}"
                )
            blocks = zoo._blocks()
            _remove(self.path / "manifest.json")
            metrics = zoo._collect_metrics()
            models = _with_status(zoo._read_models(), metrics, zoo.epochs[-1])
            listed = {
                "zoo.json": _entry((self.path / "zoo.json").read_bytes()),
                "models.parquet": _write(self.path / "models.parquet", _parquet(models)),
                "metrics.parquet": _write(self.path / "metrics.parquet", _parquet(metrics)),
                "README.md": _write(self.path / "README.md", zoo._card(models, metrics).encode()),
            }
            zoo._remove_figures(set())  # of an earlier card
            for block in blocks:
                manifest = block.path / "manifest.json"
                listed[manifest.relative_to(self.path).as_posix()] = _entry(manifest.read_bytes())
            _write(self.path / "manifest.json", _json({"files": listed}))

    def write_card(self, measured: str, figures: dict[str, bytes]) -> None:
        """Put what has been measured on the card of a finished zoo, until the zoo grows.

        Killed on the way, the zoo has a card that `verify` calls damaged; writing it again mends that.

        Args:
            measured: Markdown; figures are shown as `![…](card/NAME.svg)`.
            figures: SVG files by name.

        Raises:
            UserError: if the zoo is not finished.
        """
        with locked(self.path / ".lock"):
            zoo = Zoo.open(self.path)
            if not zoo.finished:
                raise UserError(f"zoo {self.name!r} is not finished: {self.redo}")
            (self.path / "card").mkdir(exist_ok=True)
            remove_leftovers(self.path / "card", r".+\.svg")
            listed = {name: entry for name, entry in zoo._manifest().items() if not name.startswith("card/")}
            for name, data in figures.items():
                listed[f"card/{name}.svg"] = _write(self.path / "card" / f"{name}.svg", data)
            text = zoo._card(zoo.models, zoo.metrics, measured)
            listed["README.md"] = _write(self.path / "README.md", text.encode())
            _write(self.path / "manifest.json", _json({"files": listed}))
            zoo._remove_figures(set(figures))

    @property
    def finished(self) -> bool:
        """Whether every model has every epoch and the tables are written."""
        return (self.path / "manifest.json").exists()

    @property
    def imported(self) -> bool:
        """Whether task=import made it, out of trials of others."""
        return self.description["spec"].get("kind") == "imported"

    @cached_property
    def architecture(self) -> Architecture:
        """The network of all models.

        Raises:
            UserError: if it is a class that neither the package `zoo` has nor `Zoo.open` was given, or has other tensors than
                zoo.json says.
        """
        from zoo.architecture import Architecture

        found = Architecture.from_dict(self.description["arch"], self._module)
        if (_as_json(found.layout), _as_json(found.buffer_layout)) != (self.layout, self.buffer_layout):
            raise UserError(
                f"{self.path / 'zoo.json'} is damaged (arch={found.name} has other tensors than layout says): restore it from a "
                f"copy, or move {self.path} away and train again"
            )
        return found

    @property
    def pending(self) -> int:
        """How many models lack epochs."""
        return self.n_models - sum(len(block.models) for block in self._blocks() if not block.pending)

    def at_work(self) -> list[str]:
        """The processes that are training blocks of this zoo at the moment."""
        owners = [owner_of(file) for file in sorted((self.path / "weights").glob("*.lock"))]
        return [owner for owner in owners if owner]

    # --------------------------------------------------------------------------------------- tables

    @property
    def models(self) -> pd.DataFrame:
        """One row a model: model_id, seed, init, activation, optimizer, lr, weight_decay, dropout, split, status, ...

        `status` is "pending" (not all epochs are there yet), "ok", "diverged" or "partial" (of an imported model that has not
        diverged, a state or a loss could not be read); the last column, `diverged_epoch`
        (Int64, else NA), is the first epoch at which a weight, the training loss or the test loss was not finite.
        """
        models = self._read_models()
        return models if self.finished else _with_status(models, self._collect_metrics(), self.epochs[-1])

    @property
    def metrics(self) -> pd.DataFrame:
        """One row a model and epoch, in this order; of an unfinished zoo, the rows that are there.

        Columns: model_id, epoch, then train_loss, train_acc, val_loss, val_acc, test_loss, test_acc (accuracies are
        fractions in [0, 1]; validation is NaN where the dataset has none), the zoo's further ones, and weight_max_abs
        (the largest absolute weight; NaN or inf in a diverged model).
        """
        return self._read_metrics() if self.finished else self._collect_metrics()

    def _read_models(self) -> pd.DataFrame:
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
        listed = self._manifest()
        with reading(self.path / name, f"{self.redo} to restore it"):
            data = read_file(self.path / name)
            if listed and listed.get(name) != _entry(data):
                raise ValueError("its hash is not the one in manifest.json")
            table = read_table(data, least, most)
            check(table)
            return table

    def _collect_metrics(self) -> pd.DataFrame:
        """The metrics of all committed states, from the state files; sorted by model, then epoch."""
        columns: dict[str, list[np.ndarray]] = {
            name: [] for name in ["model_id", "epoch", *self.description["metrics"]]
        }
        for block in self._blocks():
            files = block._listed_files(map(_epoch_file, block.epochs))
            shape = (len(block.models), len(files))
            columns["model_id"].append(np.broadcast_to(np.array(block.models)[:, None], shape))
            columns["epoch"].append(np.broadcast_to(np.arange(len(files)), shape))
            values = np.empty((len(self.description["metrics"]), *shape))
            for i, file in enumerate(files):
                with _tensors(file) as tensors:
                    for j, name in enumerate(self.description["metrics"]):
                        values[j, :, i] = tensors.slice(f"metrics.{name}", "F64", shape[:1])[:]
            for name, column in zip(self.description["metrics"], values):
                columns[name].append(column)
        empty = np.empty(0)
        table = pd.DataFrame({name: np.concatenate([empty, *(p.ravel() for p in ps)]) for name, ps in columns.items()})
        return table.astype({"model_id": "int64", "epoch": "int64"})

    @property
    def identity(self) -> str:
        """sha256 of all that determines the models, their splits among it: equal for a zoo that was made again."""
        kept = {k: v for k, v in self.description.items() if k not in MAY_CHANGE | {"name"}}
        rows = self._read_models().drop(columns=["status", "diverged_epoch"])
        return hashlib.sha256(_json(kept) + rows.to_csv(index=False).encode()).hexdigest()

    @property
    def content(self) -> str:
        """sha256 over the hashes of all files but the card's: it changes with any state, table or description; "" while the
        zoo is unfinished."""
        listed = {
            name: entry for name, entry in self._manifest().items() if name.split("/")[0] not in ("README.md", "card")
        }
        return hashlib.sha256(_json(listed)).hexdigest() if listed else ""

    # --------------------------------------------------------------------------------------- weights

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
        ranges = _columns(self.layout, layers)
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
        return self._states("buffers", _columns(self.buffer_layout, layers), split, epochs, models)

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
        blocks = self._blocks()
        self._refuse_pending(np.array([model]), self.epochs[-1], blocks)
        block = next(block for block in blocks if model in block.models)
        return {name: array[0] for name, array in block.load_optimizer(model).items()}

    def module(self, model: int, epoch: int) -> nn.Module:
        """One model at one epoch as an ordinary module in evaluation mode. Raises UserError as `weights` and `architecture`, and
        for a model of an activation that there is not here."""
        import torch

        state = self.state_dict(model, epoch)
        row = self._read_models().iloc[model]
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
        """The chosen states with their properties as a torch dataset. See `ModelDataset` for arguments and items."""
        from zoo.model_dataset import ModelDataset

        return ModelDataset(
            self,
            split,
            epochs,
            properties,
            models=models,
            layers=layers,
            drop_nonfinite=drop_nonfinite,
            weight_threshold=weight_threshold,
        )

    def choose_models(self, split: str | None = None, models: Iterable[int] | None = None) -> np.ndarray:
        """The ids, int64 [models], that `split` and `models` mean in `weights`. Raises UserError for unknown ones."""
        if split is not None and models is not None:
            raise UserError("give either split or models, not both")
        if split is not None and split not in SPLITS:
            raise UserError(f"split is {split!r}, but may be {', '.join(SPLITS)} or None")
        if models is None:
            table = self._read_models()
            chosen = table if split is None else table[table["split"] == split]
            return chosen["model_id"].to_numpy()
        return _known_numbers(models, range(self.n_models), "model", self.name)

    def choose_epochs(self, epochs: Iterable[int] | None = None) -> list[int]:
        """The epochs that `epochs` means in `weights`. Raises UserError for unknown ones."""
        if epochs is None:
            return self.epochs
        return _known_numbers(epochs, self.epochs, "epoch", self.name).tolist()

    def _states(
        self,
        tensor: str,
        columns: list[tuple[int, int]],
        split: str | None,
        epochs: Iterable[int] | None,
        models: Iterable[int] | None,
    ) -> np.ndarray:
        ids, chosen = self.choose_models(split, models), self.choose_epochs(epochs)
        blocks = self._blocks()
        if chosen:
            self._refuse_pending(ids, max(chosen), blocks)
        parts = [(block, np.flatnonzero((ids >= block.first) & (ids <= block.last))) for block in blocks]
        parts = [(block, places) for block, places in parts if len(places)]
        self._refuse_unlisted([block for block, _ in parts])
        files = [(block, places, block._listed_files(map(_epoch_file, chosen))) for block, places in parts]
        # Only now that files of this size are there is memory asked for.
        out = np.empty((len(ids), len(chosen), sum(stop - start for start, stop in columns)), np.float32)
        width = {"weights": self.n_parameters, "buffers": self.n_buffers}[tensor]
        for block, places, listed in files:
            rows = ids[places] - block.first
            low, high = int(rows.min()), int(rows.max()) + 1
            for i, file in enumerate(listed):
                with _tensors(file) as tensors:
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

    # --------------------------------------------------------------------------------------- blocks

    def blocks(self, size: int, within: range | None = None) -> list[Block]:
        """The blocks of the zoo: first those that exist, then new ones of at most `size` models for the rest.

        To train, open each (`with block:`), which checks its files, and commit its `pending` epochs.

        Args:
            size: of new blocks.
            within: only existing blocks that begin in this range of models, and new ones that lie in it; None: all.
        """
        within = range(self.n_models) if within is None else within
        existing = self._blocks()
        new, first = [], within.start
        for gap_end, after in [(block.first, block.last + 1) for block in existing] + [(self.n_models, 0)]:
            stop = min(gap_end, within.stop)
            new += [Block(self, start, min(start + size, stop) - 1) for start in range(first, stop, size)]
            first = max(first, after)
        return [block for block in existing if block.first in within] + new

    def _blocks(self) -> list[Block]:
        """The blocks that have a folder, by first model. Raises UserError if some overlap, or hold models that are not there."""
        found = []
        for folder in (self.path / "weights").glob("*-*"):
            refuse_link(folder)
            if folder.is_dir() and (ends := _block_range(folder.name)):
                found.append(ends)
        try:
            check_blocks(found, self.n_models)
        except ValueError as error:
            raise UserError(f"{self.path / 'weights'} is damaged ({error}): restore it from a copy") from error
        return [Block(self, *ends) for ends in sorted(found)]

    def verify(self) -> list[str]:
        """Hash every file again: a list of sentences, one a problem; empty if the zoo is intact and nothing else lies there."""
        problems = self.damages()
        problems += [f"{file} is a link" for file in sorted(self.path.rglob("*")) if file.is_symlink()]
        try:
            known = {"manifest.json", PROVENANCE, *ROOT_FILES, *self._manifest()}
            blocks = self._blocks()
        except UserError:  # damages has told it
            return list(map(printable, problems))
        for block in blocks:
            try:
                known |= {f"weights/{block.name}/{name}" for name in ["manifest.json", *block._files()]}
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
            damages = {self.path / name: _damage(self.path / name, entry) for name, entry in self._manifest().items()}
            found += [f"{file} {damage}" for file, damage in damages.items() if damage]
        except UserError as error:
            found.append(str(error))
        try:
            for block in self._blocks():
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
        listed = self._manifest()
        for block in self._blocks():
            listed |= {f"weights/{block.name}/{name}": entry for name, entry in block._files().items()}
        for name, entry in listed.items():
            if damage := _damage(self.path / name, entry, known_hash):
                raise UserError(f"{self.path / name} {damage}{_remedy(self, damage)}")
        provenance = [PROVENANCE] if (self.path / PROVENANCE).exists() else []
        return ["manifest.json", *listed, *provenance]

    # --------------------------------------------------------------------------------------- inside

    def _manifest(self) -> dict[str, dict[str, Any]]:
        """The files that manifest.json lists, each with its bytes and sha256; empty while the zoo is unfinished."""
        try:
            files = check_manifest(parse_json(read_file(self.path / "manifest.json")), LISTED)
            if missing := [name for name in ROOT_FILES if name not in files]:
                raise ValueError(f"it does not list {', '.join(missing)}")
            named = [name.split("/")[1] for name in files if name.startswith("weights/")]
            blocks = sorted(ends for name in named if (ends := _block_range(name)))
            if [first for first, _ in blocks] + [self.n_models] != [0, *(last + 1 for _, last in blocks)]:
                raise ValueError(f"it does not list the blocks of all {self.n_models} models")
            return files
        except FileNotFoundError:
            return {}
        except ValueError as error:
            file = self.path / "manifest.json"
            raise DamagedManifest(f"{file} is damaged ({error}): {self.redo} to write it anew") from error

    def _refuse_unlisted(self, blocks: Sequence[Block]) -> None:
        """Raise UserError if a block of a finished zoo is another one than manifest.json lists."""
        listed = self._manifest()
        for block in blocks if listed else ():
            if not block._is_in(listed):
                raise UserError(
                    f"{block.path} is not the block that {self.path / 'manifest.json'} lists: {self.redo} to restore it"
                )

    def _card(self, models: pd.DataFrame, metrics: pd.DataFrame, measured: str = "") -> str:
        from zoo.card import card

        return card(self, models, metrics, measured)

    def _remove_figures(self, kept: set[str]) -> None:
        """Remove figures that are on the card no more, and their folder with the last of them."""
        for figure in sorted((self.path / "card").glob("*.svg")):
            if figure.stem not in kept:
                _remove(figure)
        if (self.path / "card").is_dir() and not any((self.path / "card").iterdir()):
            (self.path / "card").rmdir()

    def _whole(self) -> bool:
        """Whether the zoo is finished, and its tables, and the manifests of its blocks, are as manifest.json lists them."""
        listed = self._manifest()
        kept = {name: entry for name, entry in listed.items() if not name.startswith("card/")}
        return bool(kept) and not any(_damage(self.path / name, entry) for name, entry in kept.items())

    def _check_identity(self, asked: dict[str, Any]) -> None:
        was, now = _flat(self.description), _flat(asked)
        keys = [k for k in {**was, **now} if k.split(".")[0] not in MAY_CHANGE and was.get(k) != now.get(k)]
        if keys:
            shown = [f"{key}={was.get(key, 'nothing'):.100}, now {now.get(key, 'nothing'):.100}" for key in keys[:8]]
            more = f"; and {len(keys) - 8} more differences" if len(keys) > 8 else ""
            raise UserError(
                f"zoo {self.name!r} in {self.path} was made with {'; '.join(shown)}{more}: "
                "choose another zoo.name (sparsify.twin of a twin, population.name of a population) or paths.root"
            )

    def _promises(self, asked: dict[str, Any], models: pd.DataFrame) -> tuple[bool, bool]:
        """Whether the zoo promises what is asked, and whether its table of models is readable and whole.

        Raises:
            UserError: if the zoo is another one, or less is asked than `_must_change` allows.
        """
        self._check_identity(asked)
        return not self._must_change(asked), self._has_rows(models)

    def _must_change(self, asked: dict[str, Any]) -> bool:
        """Whether the zoo promises something else than is asked: more, or fewer epochs of an unfinished one. Less of a finished
        zoo is nothing to do.

        Raises:
            UserError: if less than what is stored, or fewer models, are asked of an unfinished zoo.
        """
        was = (self.n_models, self.epochs[-1])
        now = (asked["models"], asked["epochs"])
        less, more = any(n < w for n, w in zip(now, was)), any(n > w for n, w in zip(now, was))
        if not less or (self.finished and not more):
            return more
        there = (
            f"zoo {self.name!r} in {self.path} was begun with {was[0]} models and {was[1]} epochs, now {now[0]} models and "
            f"{now[1]} epochs are asked"
        )
        stored = max((block.epochs[-1] for block in self._blocks() if block.epochs), default=0)
        least = self.epochs[-1] if self.finished else stored
        if now[0] < was[0] or now[1] < least:
            raise UserError(
                f"{there}: ask at least {was[0]} models and the {least} epochs that some have, or choose another zoo.name or "
                "paths.root"
            )
        if owners := self.at_work():
            raise UserError(f"{there}, while {owners[0]} is training it: stop that first")
        return True

    def _has_rows(self, asked: pd.DataFrame) -> bool:
        """Whether models.parquet is readable and has all rows promised. Raises UserError if they are other models."""
        try:
            there = self._read_models()
        except UserError as error:
            if len(asked) < self.n_models:
                raise  # too few rows were given to write it again
            log.warning("%s", error)
            return False
        both = min(len(there), len(asked))
        for column in [name for name in asked.columns if name != "model_id"]:
            if column not in there:
                raise UserError(
                    f"zoo {self.name!r} in {self.path} has no column {column!r} in its models: choose another name"
                )
            was, now = there[column].iloc[:both].astype(object), asked[column].iloc[:both].astype(object)
            differs = ~((was.to_numpy() == now.to_numpy()) | (was.isna().to_numpy() & now.isna().to_numpy()))
            if differs.any():
                i = int(np.flatnonzero(differs)[0])
                raise UserError(
                    f"zoo {self.name!r} in {self.path} was made with {column}={was.iloc[i]} for model {i}, now "
                    f"{now.iloc[i]}: choose another zoo.name or paths.root"
                )
        return len(there) == self.n_models


class Block:
    """A contiguous range of models, trained and stored together in weights/<first>-<last>/.

    Reading needs nothing; to write, open it as a context manager: `with block: block.commit(...)`.

    Attributes:
        first, last: model ids, inclusive.
        models: range of model ids.
    """

    def __init__(self, zoo: Zoo, first: int, last: int) -> None:
        self.zoo, self.first, self.last = zoo, first, last
        self.models = range(first, last + 1)
        self.name = f"{first:05d}-{last:05d}"
        self.path = zoo.path / "weights" / self.name
        self._lock: ExitStack | None = None

    def __repr__(self) -> str:
        """E.g. `Block(00000-00099 of digits_seed)`."""
        return f"Block({self.name} of {self.zoo.name})"

    @property
    def epochs(self) -> list[int]:
        """Committed epochs: [0, 1, ..., k], or []. Raises UserError if the block's manifest is damaged."""
        return list(range(sum(name.startswith("epoch-") for name in self._files())))

    @property
    def pending(self) -> list[int]:
        """Epochs still to be committed, in order."""
        return self.zoo.epochs[len(self.epochs) :]

    @property
    def at_work(self) -> bool:
        """Whether a process is training it at the moment."""
        return owner_of(self._lock_path) is not None

    @property
    def pace(self) -> float:
        """Epochs a second, by when the last ones were stored; NaN if there are fewer than two."""
        times = [os.stat(self.path / _epoch_file(epoch)).st_mtime for epoch in self.epochs[-PACED_EPOCHS:]]
        return (len(times) - 1) / max(times[-1] - times[0], 1e-9) if len(times) > 1 else float("nan")

    def __enter__(self) -> Block:
        """Lock the block, throw away what a kill left behind, and check the hash of every file.

        A block with a damaged file starts again from epoch 0 (one line in the log says so); no other is touched. Its own
        manifest is believed, if its files agree with it, whatever the zoo's says of it: `finalise` writes that again.

        Raises:
            UserError: if another process has it open, or its files are only pointers of Git LFS.
        """
        cannot_write = self.zoo.finished and not os.access(self.path, os.W_OK)
        if cannot_write and not self.problems() and not self.pending and self._is_in(self.zoo._manifest()):
            self._lock = ExitStack()  # nothing is to be written, and nothing can be
            return self
        with ExitStack() as stack:
            busy = f"another process ({{owner}}) is training models {self.first}-{self.last} of zoo {self.zoo.name!r}"
            stack.enter_context(locked(self._lock_path, f"{busy}: wait until it ends, or stop it, and try again"))
            with locked(self.zoo.path / ".lock"):
                self._make_folder()
            problems = self.problems()
            if pointers := [problem for problem in problems if LFS_POINTER in problem]:
                raise UserError(pointers[0])
            if problems or self.pending:
                with locked(self.zoo.path / ".lock"):
                    _remove(self.zoo.path / "manifest.json")  # the zoo is not finished, whatever it was
            if problems:
                log.warning("%s: models %d-%d start again from epoch 0", "; ".join(problems), self.first, self.last)
                _remove(self.path / "manifest.json")  # now no file of the block counts any more
            elif (files := self._files()) and (self.path / "manifest.json").read_bytes() != self._manifest(files):
                _write(self.path / "manifest.json", self._manifest(files))  # to the last space
            self._remove_leftovers()
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock."""
        assert self._lock is not None
        self._lock.close()
        self._lock = None

    def commit(
        self,
        epoch: int,
        state: dict[str, np.ndarray],
        metrics: dict[str, np.ndarray],
        optimizer: dict[str, np.ndarray],
    ) -> None:
        """Store one epoch of the block's m models: all of it or, if killed before the end, nothing.

        Args:
            epoch: the next one: epochs are committed in order 0, 1, 2, ... up to the zoo's last.
            state: "weights" float32 [m, parameters]; where the architecture has any, "buffers" float32 [m, buffers].
            metrics: one array [m] for each of the zoo's metric columns.
            optimizer: arrays [m, ...] from which training goes on; only the last committed epoch's are kept.

        Raises:
            RuntimeError: if the block is not open.
            ValueError: if the epoch is not the next one or an array is not as described.
        """
        if self._lock is None:
            raise RuntimeError(f"{self} is not open: write `with block:` around commit")
        listed = self._files()
        if self.pending[:1] != [epoch]:
            raise ValueError(
                f"{self}: epoch {epoch} cannot be committed; epochs still to come: {self.pending or 'none'}"
            )
        self._check_arrays(state, metrics, optimizer)
        scores = {f"metrics.{name}": np.asarray(values, np.float64) for name, values in metrics.items()}
        scores[f"metrics.{WEIGHT_MAX_ABS}"] = np.abs(state["weights"]).max(axis=1).astype(np.float64)
        epochs = {name: entry for name, entry in listed.items() if name.startswith("epoch-")}
        for name, tensors in [(_epoch_file(epoch), {**state, **scores}), (_optimizer_file(epoch), optimizer)]:
            epochs[name] = _write(self.path / name, self._serialise(epoch, tensors))
        _write(self.path / "manifest.json", self._manifest(epochs))
        for name in listed:
            if name not in epochs:
                os.unlink(self.path / name)

    def load(self, epoch: int) -> dict[str, np.ndarray]:
        """The state committed at `epoch`, as given to `commit`: "weights" and, if any, "buffers"; copies."""
        widths = {
            "weights": self.zoo.n_parameters,
            **({"buffers": self.zoo.n_buffers} if self.zoo.buffer_layout else {}),
        }
        with _tensors(*self._listed_files([_epoch_file(epoch)])) as tensors:
            return {
                name: tensors.slice(name, "F32", (len(self.models), width))[:] for name, width in sorted(widths.items())
            }

    def load_metrics(self, epoch: int) -> dict[str, np.ndarray]:
        """The metrics committed at `epoch`: one float64 array [m] a column, weight_max_abs included."""
        with _tensors(*self._listed_files([_epoch_file(epoch)])) as tensors:
            m = len(self.models)
            return {name: tensors.slice(f"metrics.{name}", "F64", (m,))[:] for name in self.zoo.description["metrics"]}

    def load_optimizer(self, model: int | None = None) -> dict[str, np.ndarray]:
        """The optimiser state of the last committed epoch, of all models or of one [1, …]: copies, as given to `commit`."""
        rows = slice(None) if model is None else slice(model - self.first, model - self.first + 1)
        with _tensors(*self._listed_files([_optimizer_file(len(self.epochs) - 1)])) as tensors:
            return {name: tensors.slice(name, None, (len(self.models), ...))[rows] for name in tensors.names()}

    def problems(self) -> list[str]:
        """Hash every file again: one sentence a problem; empty if all that is committed is intact."""
        try:
            files = self._files()
        except UserError as error:
            return [str(error)]
        damages = {name: _damage(self.path / name, entry) for name, entry in files.items()}
        return [f"{self.path / name} {damage}" for name, damage in damages.items() if damage]

    # --------------------------------------------------------------------------------------- inside

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.name}.lock")

    def _files(self) -> dict[str, dict[str, Any]]:
        """The committed files, each with its bytes and sha256: epochs in order, then the last one's optimiser state."""
        try:
            manifest = parse_json(read_file(self.path / "manifest.json"))
            files = check_manifest(manifest, STATES)
            last = len(files) - 2
            expected = [*map(_epoch_file, range(last + 1)), _optimizer_file(last)]
            if (
                manifest.get("models") != [self.first, self.last]
                or list(files) != expected
                or last not in self.zoo.epochs
            ):
                raise ValueError("it lists other models or files than it should")
            state = 4 * len(self.models) * (self.zoo.n_parameters + self.zoo.n_buffers)
            if any(files[name]["bytes"] < state for name in expected[:-1]):
                raise ValueError("its states are too small for the models' parameters")
            return files
        except FileNotFoundError:
            return {}
        except ValueError as error:
            file = self.path / "manifest.json"
            raise UserError(f"{file} is damaged ({error}): {self.zoo.redo} to redo its block") from error

    def _manifest(self, files: dict[str, dict[str, Any]]) -> bytes:
        """What manifest.json holds."""
        return _json({"models": [self.first, self.last], "files": files})

    def _is_in(self, listed: dict[str, dict[str, Any]]) -> bool:
        """Whether the block is the one that the finished zoo's manifest lists."""
        file = self.path / "manifest.json"
        entry = listed.get(file.relative_to(self.zoo.path).as_posix())
        return entry is not None and _damage(file, entry) is None

    def _listed_files(self, names: Iterable[str]) -> list[Path]:
        """The paths of committed files, each of which is hashed once in a process."""
        files = self._files()
        for name in (names := list(names)):
            if name not in files:
                raise UserError(f"{self.path / name} is not stored (yet): {self.zoo.redo}")
            if damage := _damage(self.path / name, files[name], known_hash):
                raise UserError(f"{self.path / name} {damage}{_remedy(self.zoo, damage)}")
        return [self.path / name for name in names]

    def _serialise(self, epoch: int, tensors: dict[str, np.ndarray]) -> bytes:
        # One metadata key only: safetensors keeps them in a hash map, so that two would come in any order.
        about = {"format": FORMAT, "version": FORMAT_VERSION, "models": [self.first, self.last], "epoch": epoch}
        arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
        return to_safetensors(arrays, metadata={FORMAT: json.dumps(about)})

    def _check_arrays(
        self, state: dict[str, np.ndarray], metrics: dict[str, np.ndarray], optimizer: dict[str, np.ndarray]
    ) -> None:
        m = len(self.models)
        shapes = {"weights": (m, self.zoo.n_parameters)}
        if self.zoo.buffer_layout:
            shapes["buffers"] = (m, self.zoo.n_buffers)
        if {name: (array.dtype, array.shape) for name, array in state.items()} != {
            name: (np.dtype(np.float32), shape) for name, shape in shapes.items()
        }:
            raise ValueError(f"{self}: the state must be float32 arrays of shapes {shapes}")
        columns = set(self.zoo.description["metrics"]) - {WEIGHT_MAX_ABS}
        if set(metrics) != columns or any(np.shape(values) != (m,) for values in metrics.values()):
            raise ValueError(f"{self}: the metrics must be arrays of shape ({m},) for exactly {sorted(columns)}")
        if any(array.shape[:1] != (m,) for array in optimizer.values()):
            raise ValueError(f"{self}: the optimiser's arrays must have {m} rows, one a model")

    def _make_folder(self) -> None:
        """Make the block's folder, unless another process has meanwhile made one that holds some of its models."""
        refuse_link(self.path)
        if self.path.is_dir():
            return
        for other in self.zoo._blocks():
            if other.first <= self.last and self.first <= other.last:
                raise UserError(
                    f"{other.path} already holds some of the models {self.first}-{self.last}: {self.zoo.redo}"
                )
        os.mkdir(self.path)
        sync_folder(self.path.parent)

    def _remove_if_empty(self) -> None:
        """Remove a folder in which nothing is committed, so that its models can be divided anew."""
        if (self.path / "manifest.json").exists() or owner_of(self._lock_path):
            return
        try:
            with locked(self._lock_path, "busy"):
                self._remove_leftovers()
                if not any(self.path.iterdir()):
                    os.rmdir(self.path)
        except UserError:
            pass  # a process is at work on its first epoch

    def _remove_leftovers(self) -> None:
        """Remove the files of ours that do not count. Others' files are not touched (`verify` names them)."""
        listed = self._files()
        remove_leftovers(self.path, rf"{STATES}|manifest\.json")
        for file in sorted(self.path.iterdir()):
            if re.fullmatch(STATES, file.name) and file.name not in listed:
                os.unlink(file)


# ------------------------------------------------------------------------------------------- description and rows


def _check_models(models: pd.DataFrame) -> None:
    missing = [name for name in ["model_id", "seed", *FACTORS, "split"] if name not in models]
    if missing or {"status", "diverged_epoch"} & set(models.columns):
        raise ValueError(f"models must have the columns {missing} and must not have status, diverged_epoch")
    if not len(models) or models["model_id"].tolist() != list(range(len(models))):
        raise ValueError("model_id must be 0, 1, 2, ... in order")
    if not models["split"].isin(SPLITS).all():
        raise ValueError(f"split must be one of {SPLITS}")
    try:
        check_models(models)
    except ValueError as error:
        raise UserError(f"the table of models cannot be stored: {error}") from error


def _complete(description: dict[str, Any], n_models: int) -> dict[str, Any]:
    """What zoo.json holds: the description with format, extent and layouts, as plain JSON values."""
    from zoo.architecture import Architecture

    architecture = Architecture(**description["arch"])
    layouts = {"layout": architecture.layout, "buffer_layout": architecture.buffer_layout}
    missing = [name for name in ["name", "arch", "epochs", "metrics"] if name not in description]
    missing += [name for name in SCORES if name not in description.get("metrics", SCORES)]
    if missing:
        raise ValueError(f"the description of a zoo needs {missing}")
    extras = [name for name in description["metrics"] if name not in SCORES]
    complete = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": description["name"],
        "models": n_models,
        "epochs": description["epochs"],
        **description,
        **{key: _as_json(slots) for key, slots in layouts.items()},
        "metrics": [*SCORES, *extras, WEIGHT_MAX_ABS],
    }
    plain = json.loads(_json(complete))
    try:
        check_description(plain)
    except ValueError as error:
        raise UserError(f"zoo {description['name']!r} cannot be stored: {error}") from error
    return plain


def _as_json(slots: Sequence[Slot]) -> list[dict[str, Any]]:
    return [{"name": slot.name, "shape": list(slot.shape), "offset": slot.offset} for slot in slots]


def _write_zoo(path: Path, description: dict[str, Any], models: pd.DataFrame) -> None:
    """Write the promise: the rows first, then zoo.json, with which they count."""
    pending = models.assign(status="pending", diverged_epoch=pd.array([pd.NA] * len(models), dtype="Int64"))
    _write(path / "models.parquet", _parquet(pending))
    _write(path / "zoo.json", _json(description))


def _with_status(models: pd.DataFrame, metrics: pd.DataFrame, last_epoch: int) -> pd.DataFrame:
    """The models with status and diverged_epoch as the metrics tell them. What could not be read has not diverged."""
    finite = np.isfinite(metrics[["train_loss", "test_loss", WEIGHT_MAX_ABS]].to_numpy()).all(axis=1)
    whole = metrics[WHOLE].ne(0).to_numpy() if WHOLE in metrics else np.ones(len(metrics), bool)
    diverged = metrics[whole & ~finite].groupby("model_id")["epoch"].min().reindex(models["model_id"]).astype("Int64")
    complete = models["model_id"].isin(metrics.loc[metrics["epoch"] == last_epoch, "model_id"]).to_numpy()
    partial = models["model_id"].isin(metrics.loc[~whole, "model_id"]).to_numpy()
    status = np.select([~complete, diverged.notna(), partial], ["pending", "diverged", "partial"], "ok")
    return models.assign(status=status.tolist(), diverged_epoch=diverged.array)


def absent(metrics: pd.DataFrame) -> np.ndarray:
    """Which rows of a table of metrics are of states that an imported zoo does not have: bool [rows]."""
    if WHOLE not in metrics:
        return np.zeros(len(metrics), bool)
    return (metrics[WHOLE].eq(0) & metrics[WEIGHT_MAX_ABS].isna()).to_numpy()


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested dicts as {"dataset.train_size": "null"}: the leaves as JSON."""
    if not isinstance(value, dict):
        return {prefix: json.dumps(value)}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in _flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }


def _width(layout: list[dict[str, Any]]) -> int:
    return sum(int(np.prod(slot["shape"], dtype=np.int64)) for slot in layout)


def _columns(layout: list[dict[str, Any]], layers: Sequence[str] | None) -> list[tuple[int, int]]:
    """The ranges of a vector that hold the layers, in the order asked. Raises UserError for an unknown name."""
    if layers is None:
        return [(0, _width(layout))]
    if isinstance(layers, str):
        raise UserError(f"layers is the string {layers!r}: give a list, layers=[{layers!r}]")
    ranges = {slot["name"]: (slot["offset"], slot["offset"] + _width([slot])) for slot in layout}
    columns = []
    for layer in layers:
        found = [r for name, r in ranges.items() if name == layer or name.startswith(f"{layer}.")]
        if not found:
            parents = {name.rpartition(".")[0]: None for name in ranges if "." in name}
            near = difflib.get_close_matches(layer, [*parents, *ranges], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"there is no layer {layer!r}: {hint}layers are {', '.join(parents)}")
        columns += found
    return columns


def _known_numbers(asked: Iterable[int] | int, stored: Sequence[int], word: str, name: str) -> np.ndarray:
    """`asked` as int64 [n]. Raises UserError for what is no id or epoch of the zoo (a mask of booleans, for one)."""
    numbers = np.array([asked] if isinstance(asked, int | np.integer) else list(asked))
    if not numbers.size:
        return numbers.astype(np.int64)
    if numbers.dtype.kind not in "iu":
        raise UserError(f"{word}s must be whole numbers such as {stored[-1]}, not {numbers[0]!r}")
    unknown = numbers[(numbers < 0) | (numbers > stored[-1])]
    if unknown.size:
        raise UserError(f"{word} {unknown[0]} is not stored in zoo {name!r}: it has {word}s 0 to {stored[-1]}")
    return numbers.astype(np.int64)


# ------------------------------------------------------------------------------------------- files


def _epoch_file(epoch: int) -> str:
    return f"epoch-{epoch:04d}.safetensors"


def _optimizer_file(epoch: int) -> str:
    return f"optimizer-{epoch:04d}.safetensors"


def _block_range(name: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([0-9]{5,8})-([0-9]{5,8})", name)
    return (int(match[1]), int(match[2])) if match else None


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _damage(file: Path, entry: dict[str, Any] | None = None, hashed: Callable[[Path], str] = hash_of) -> str | None:
    """What is wrong with a file that a manifest lists, as the rest of a sentence; None if nothing. Without its entry: whether
    it is there. `hashed`: how it is hashed."""
    try:
        size = plain_size(file)
        if entry is None:
            return None
        if size != entry["bytes"]:
            if size < LFS_BYTES and file.read_bytes().startswith(b"version https://git-lfs"):
                return f"{LFS_POINTER}: run `git lfs pull` in that folder"
            return f"is damaged ({size} bytes, not {entry['bytes']})"
        if hashed(file) != entry["sha256"]:
            return "is damaged (its hash is not the one in the manifest)"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except UserError as error:
        return str(error).removeprefix(f"{file} ")
    return None


def _remedy(zoo: Zoo, damage: str) -> str:
    """What to do about the damage of a zoo's file, as the rest of its sentence."""
    if LFS_POINTER in damage:
        return ""
    rest = "download it too if the zoo was downloaded, or " if zoo.finished and damage == "is missing" else ""
    return f": {rest}{zoo.redo} to restore it"


def _refuse_links(path: Path) -> None:
    """What lies in a zoo's folder is its own: nothing is read, written or removed elsewhere by its names."""
    for name in [*ROOT_FILES, "manifest.json", ".lock", "card", "weights"]:
        refuse_link(path / name)


def _write(file: Path, data: bytes) -> dict[str, Any]:
    """Put `data` in place of `file` at once, and give its manifest entry."""
    write_file(file, data)
    return _entry(data)


def _remove(file: Path) -> None:
    """Remove a file if it is there; gone for good on return."""
    if file.exists():
        os.unlink(file)
        sync_folder(file.parent)


@contextmanager
def _tensors(file: Path) -> Iterator[_Tensors]:
    """A safetensors file, memory-mapped. Raises UserError for anything else: nothing but this format is ever read."""
    try:
        plain_size(file)
        with safe_open(file, framework="numpy") as tensors:
            yield _Tensors(file, tensors)
    except (SafetensorError, FileNotFoundError) as error:
        raise UserError(f"{file} is no readable safetensors file ({error})") from error


class _Tensors:
    """The tensors of an open safetensors file, each of the type and shape that it should have."""

    def __init__(self, file: Path, tensors: Any) -> None:
        self.file, self.tensors = file, tensors

    def names(self) -> list[str]:
        """In alphabetical order."""
        return sorted(self.tensors.keys())

    def slice(self, name: str, kind: str | None, shape: tuple[Any, ...]) -> Any:
        """A tensor to be read in part (`[:]` reads all of it).

        Args:
            name: of it.
            kind: F32, F64 …; None: any that is written.
            shape: of it; `...` at the end: as many more axes as it has.
        """
        found = self.tensors.get_slice(name)
        has, is_kind = tuple(found.get_shape()), found.get_dtype()
        wanted = shape[:-1] if shape[-1] is ... else shape
        if has[: len(wanted)] != wanted or (shape == wanted and has != wanted):
            raise UserError(f"{self.file} is damaged (its {name:.100} is {list(has)}, but {list(wanted)} is wanted)")
        if is_kind not in ((kind,) if kind else ("F32", "F64", "I32", "I64")):
            raise UserError(f"{self.file} is damaged (its {name:.100} is of type {is_kind})")
        return found
