"""Writing a file so that no kill or power cut leaves half of it."""

from __future__ import annotations

import os
from pathlib import Path


def write_file(file: Path, data: bytes) -> None:
    """Put `data` in place of `file` at once: whenever the power fails, it is the old one or the new one, whole."""
    temporary = file.with_name(file.name + ".tmp")
    with open(temporary, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last through a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
