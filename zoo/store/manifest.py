"""Hashes of what lies in a folder, for all that is no zoo: autoencoders, alignments, audits, analyses and results.

manifest.json lists for each file the hashes that it may have: that of what is there and, while it is being replaced, that of
what comes. So whenever a process is killed, the manifest knows what it left. Folders of earlier versions have none; the first
file that is written there makes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path

from zoo.base.files import hash_of, locked, read_file, remove_leftovers, write_file
from zoo.store.schema import check_hashes, parse_json

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
TRIES = 3  # to read a file that another process may be replacing


def write_listed(file: Path, data: bytes) -> None:
    """Put `data` in place of `file` at once, as `zoo.base.files.write_file` does, and its hash in the folder's manifest."""
    digest = hashlib.sha256(data).hexdigest()
    with locked(file.parent / f".{MANIFEST}.lock"):
        try:
            listed = _listed(file.parent)
        except ValueError as error:
            log.warning("%s is damaged (%s) and written anew", file.parent / MANIFEST, error)
            listed = {}
        if listed is None:
            files = [other for other in file.parent.glob("[!.]*") if other.is_file()]  # no locks
            listed = {other.name: [hash_of(other)] for other in files}
        listed = {name: _settled(file.with_name(name), hashes) for name, hashes in listed.items()}
        remove_leftovers(file.parent, "|".join(map(re.escape, {MANIFEST, file.name, *listed})))  # of killed processes
        _list(file.parent, listed | {file.name: [*listed.get(file.name, []), digest]})
        write_file(file, data)
        _list(file.parent, listed | {file.name: [digest]})


def read_listed(file: Path) -> bytes:
    """The bytes of a file that `write_listed` wrote.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is not as it was written, or the manifest is damaged.
        UserError: if it is a link or anything else that is no plain file.
    """
    for _ in range(TRIES):
        listed, data = _listed(file.parent), read_file(file)
        if listed is None:
            log.warning("%s: no manifest.json, so that damage of its files is not seen", file.parent)
            return data
        if hashlib.sha256(data).hexdigest() in listed.get(file.name, []):
            return data
    raise ValueError("its hash is not the one in manifest.json")


def _settled(file: Path, hashes: list[str]) -> list[str]:
    """Of the hashes that a file may have, the one that it has: whoever replaced it was killed before the manifest said so."""
    if len(hashes) > 1 and file.is_file() and (there := hash_of(file)) in hashes:
        return [there]
    return hashes


def _listed(folder: Path) -> dict[str, list[str]] | None:
    try:
        data = read_file(folder / MANIFEST)
    except FileNotFoundError:
        return None
    try:
        return check_hashes(parse_json(data))
    except ValueError as error:
        raise ValueError(f"{MANIFEST} beside it: {error}") from error


def _list(folder: Path, listed: dict[str, list[str]]) -> None:
    write_file(folder / MANIFEST, (json.dumps({"files": dict(sorted(listed.items()))}, indent=1) + "\n").encode())
