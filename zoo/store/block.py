"""A block of models: a contiguous range, trained and stored together."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as to_safetensors

from zoo.base.errors import UserError
from zoo.base.files import known_hash, locked, owner_of, read_file, refuse_link, remove_leftovers, sync_folder
from zoo.base.names import WEIGHT_MAX_ABS
from zoo.store.entries import LFS_POINTER, as_json_bytes, damage_of, open_tensors, remove_file, write_entry
from zoo.store.schema import FORMAT, FORMAT_VERSION, STATES, check_manifest, parse_json
from zoo.store.stored import StoredZoo

log = logging.getLogger(__name__)

PACED_EPOCHS = 6  # of a block that tell how fast it goes on


class Block:
    """A contiguous range of models, trained and stored together in weights/<first>-<last>/.

    Reading needs nothing; to write, open it as a context manager: `with block: block.commit(...)`.

    Attributes:
        first, last: model ids, inclusive.
        models: range of model ids.
    """

    def __init__(self, zoo: StoredZoo, first: int, last: int) -> None:
        self.zoo, self.first, self.last = zoo, first, last
        self.models = range(first, last + 1)
        self.name = block_name(first, last)
        self.path = zoo.path / "weights" / self.name
        self._lock: ExitStack | None = None

    def __repr__(self) -> str:
        """E.g. `Block(00000-00099 of digits_seed)`."""
        return f"Block({self.name} of {self.zoo.name})"

    @property
    def epochs(self) -> list[int]:
        """Committed epochs: [0, 1, ..., k], or []. Raises UserError if the block's manifest is damaged."""
        return list(range(sum(name.startswith("epoch-") for name in self.files())))

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
        times = [os.stat(self.path / epoch_file(epoch)).st_mtime for epoch in self.epochs[-PACED_EPOCHS:]]
        return (len(times) - 1) / max(times[-1] - times[0], 1e-9) if len(times) > 1 else float("nan")

    def __enter__(self) -> Block:
        """Lock the block, throw away what a kill left behind, and check the hash of every file.

        A block with a damaged file starts again from epoch 0 (one line in the log says so); no other is touched. Its own
        manifest is believed, if its files agree with it, whatever the zoo's says of it: `finalise` writes that again.

        Raises:
            UserError: if another process has it open, or its files are only pointers of Git LFS.
        """
        cannot_write = self.zoo.finished and not os.access(self.path, os.W_OK)
        if cannot_write and not self.problems() and not self.pending and self.is_in(self.zoo.manifest()):
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
                    remove_file(self.zoo.path / "manifest.json")  # the zoo is not finished, whatever it was
            if problems:
                log.warning("%s: models %d-%d start again from epoch 0", "; ".join(problems), self.first, self.last)
                remove_file(self.path / "manifest.json")  # now no file of the block counts any more
            elif (files := self.files()) and (self.path / "manifest.json").read_bytes() != self._as_manifest(files):
                write_entry(self.path / "manifest.json", self._as_manifest(files))  # to the last space
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
        listed = self.files()
        if self.pending[:1] != [epoch]:
            raise ValueError(
                f"{self}: epoch {epoch} cannot be committed; epochs still to come: {self.pending or 'none'}"
            )
        self._check_arrays(state, metrics, optimizer)
        scores = {f"metrics.{name}": np.asarray(values, np.float64) for name, values in metrics.items()}
        scores[f"metrics.{WEIGHT_MAX_ABS}"] = np.abs(state["weights"]).max(axis=1).astype(np.float64)
        epochs = {name: entry for name, entry in listed.items() if name.startswith("epoch-")}
        for name, tensors in [(epoch_file(epoch), {**state, **scores}), (optimizer_file(epoch), optimizer)]:
            epochs[name] = write_entry(self.path / name, self._serialise(epoch, tensors))
        write_entry(self.path / "manifest.json", self._as_manifest(epochs))
        for name in listed:
            if name not in epochs:
                os.unlink(self.path / name)

    def load(self, epoch: int) -> dict[str, np.ndarray]:
        """The state committed at `epoch`, as given to `commit`: "weights" and, if any, "buffers"; copies."""
        widths = {
            "weights": self.zoo.n_parameters,
            **({"buffers": self.zoo.n_buffers} if self.zoo.buffer_layout else {}),
        }
        with open_tensors(*self.listed_files([epoch_file(epoch)])) as tensors:
            return {
                name: tensors.slice(name, "F32", (len(self.models), width))[:] for name, width in sorted(widths.items())
            }

    def load_metrics(self, epoch: int) -> dict[str, np.ndarray]:
        """The metrics committed at `epoch`: one float64 array [m] a column, weight_max_abs included."""
        with open_tensors(*self.listed_files([epoch_file(epoch)])) as tensors:
            m = len(self.models)
            return {name: tensors.slice(f"metrics.{name}", "F64", (m,))[:] for name in self.zoo.description["metrics"]}

    def load_optimizer(self, model: int | None = None) -> dict[str, np.ndarray]:
        """The optimiser state of the last committed epoch, of all models or of one [1, …]: copies, as given to `commit`."""
        rows = slice(None) if model is None else slice(model - self.first, model - self.first + 1)
        with open_tensors(*self.listed_files([optimizer_file(len(self.epochs) - 1)])) as tensors:
            return {name: tensors.slice(name, None, (len(self.models), ...))[rows] for name in tensors.names()}

    def problems(self) -> list[str]:
        """Hash every file again: one sentence a problem; empty if all that is committed is intact."""
        try:
            files = self.files()
        except UserError as error:
            return [str(error)]
        damages = {name: damage_of(self.path / name, entry) for name, entry in files.items()}
        return [f"{self.path / name} {damage}" for name, damage in damages.items() if damage]

    # --------------------------------------------------------------------------------------- inside

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.name}.lock")

    def files(self) -> dict[str, dict[str, Any]]:
        """The committed files, each with its bytes and sha256: epochs in order, then the last one's optimiser state."""
        try:
            manifest = parse_json(read_file(self.path / "manifest.json"))
            files = check_manifest(manifest, STATES)
            last = len(files) - 2
            expected = [*map(epoch_file, range(last + 1)), optimizer_file(last)]
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

    def _as_manifest(self, files: dict[str, dict[str, Any]]) -> bytes:
        """What manifest.json holds."""
        return as_json_bytes({"models": [self.first, self.last], "files": files})

    def is_in(self, listed: dict[str, dict[str, Any]]) -> bool:
        """Whether the block is the one that the finished zoo's manifest lists."""
        file = self.path / "manifest.json"
        entry = listed.get(file.relative_to(self.zoo.path).as_posix())
        return entry is not None and damage_of(file, entry) is None

    def listed_files(self, names: Iterable[str]) -> list[Path]:
        """The paths of committed files, each of which is hashed once in a process."""
        files = self.files()
        for name in (names := list(names)):
            if name not in files:
                raise UserError(f"{self.path / name} is not stored (yet): {self.zoo.redo}")
            if damage := damage_of(self.path / name, files[name], known_hash):
                raise UserError(f"{self.path / name} {damage}{self.zoo.remedy(damage)}")
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
        for first, last in self.zoo.block_ranges():
            if first <= self.last and self.first <= last:
                other = self.path.with_name(block_name(first, last))
                raise UserError(f"{other} already holds some of the models {self.first}-{self.last}: {self.zoo.redo}")
        os.mkdir(self.path)
        sync_folder(self.path.parent)

    def remove_if_empty(self) -> None:
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
        listed = self.files()
        remove_leftovers(self.path, rf"{STATES}|manifest\.json")
        for file in sorted(self.path.iterdir()):
            if re.fullmatch(STATES, file.name) and file.name not in listed:
                os.unlink(file)


def block_name(first: int, last: int) -> str:
    """The name of a block's folder."""
    return f"{first:05d}-{last:05d}"


def epoch_file(epoch: int) -> str:
    """The name of the file of an epoch."""
    return f"epoch-{epoch:04d}.safetensors"


def optimizer_file(epoch: int) -> str:
    """The name of the file of the optimiser states after an epoch."""
    return f"optimizer-{epoch:04d}.safetensors"
