"""On what a zoo was trained, and how long it took: `provenance.json`, the one file that differs when a zoo is made again."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import torch

from zoo.base.errors import UserError
from zoo.base.files import locked, read_file, write_file
from zoo.engines.engine import Engine, available_cores, of_processor
from zoo.store.schema import parse_json
from zoo.store.stored import PROVENANCE

log = logging.getLogger(__name__)


def hardware(device: torch.device) -> dict[str, Any]:
    """What models are trained on: processor, cores that this process may use and, where there is one, GPU."""
    found: dict[str, Any] = {"processor": of_processor("model name"), "cores": available_cores()}
    return found | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})


class Provenance:
    """The work of one process on a zoo, from now on.

    Args:
        folder: of the zoo.
        device: what is trained on.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.began = folder, time.monotonic()
        self.entry: dict[str, Any] = {**hardware(device), "seconds": 0.0, "states": 0}

    def add(self, engine: Engine, states: int) -> None:
        """Record that so many states (models times epochs) more were trained; beside what other processes recorded."""
        try:
            with locked(self.folder / ".lock"):
                others = read_provenance(self.folder)
                if self.entry in others:
                    others.remove(self.entry)
                self.entry |= {
                    "engine": engine.name,
                    "threads": engine.threads,
                    "seconds": round(time.monotonic() - self.began, 1),
                    "states": self.entry["states"] + states,
                }
                write_file(self.folder / PROVENANCE, (json.dumps([*others, self.entry], indent=1) + "\n").encode())
        except (OSError, UserError) as error:  # the states are stored, and that is what counts
            log.warning("%s cannot be written (%s): the zoo does without", self.folder / PROVENANCE, error)


def read_provenance(folder: Path) -> list[dict[str, Any]]:
    """The entries of a zoo, one a process that trained some of it; none that cannot be read. For people, not for programs."""
    try:
        entries = parse_json(read_file(folder / PROVENANCE))
    except (OSError, ValueError, UserError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
