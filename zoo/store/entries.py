"""Files that a manifest lists with their bytes and hashes: how they are written, read and judged."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError, safe_open

from zoo.base.errors import UserError
from zoo.base.files import hash_of, plain_size, sync_folder, write_file

LFS_POINTER, LFS_BYTES = "is a pointer of Git LFS, not the file itself", 1024  # which a pointer is shorter than


def as_json_bytes(value: Any) -> bytes:
    """A value as JSON, indented, with a newline at the end."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def as_parquet(table: pd.DataFrame) -> bytes:
    """A table as Parquet."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def entry_of(data: bytes) -> dict[str, Any]:
    """What a manifest lists of a file: its bytes and its sha256."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_entry(file: Path, data: bytes) -> dict[str, Any]:
    """Put `data` in place of `file` at once, and give its manifest entry."""
    write_file(file, data)
    return entry_of(data)


def remove_file(file: Path) -> None:
    """Remove a file if it is there; gone for good on return."""
    if file.exists():
        os.unlink(file)
        sync_folder(file.parent)


def damage_of(file: Path, entry: dict[str, Any] | None = None, hashed: Callable[[Path], str] = hash_of) -> str | None:
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


@contextmanager
def open_tensors(file: Path) -> Iterator[Tensors]:
    """A safetensors file, memory-mapped. Raises UserError for anything else: nothing but this format is ever read."""
    try:
        plain_size(file)
        with safe_open(file, framework="numpy") as tensors:
            yield Tensors(file, tensors)
    except (SafetensorError, FileNotFoundError) as error:
        raise UserError(f"{file} is no readable safetensors file ({error})") from error


class Tensors:
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
