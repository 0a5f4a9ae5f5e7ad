"""Files that no kill or power cut leaves half written, and locks that fall with their owner."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import UserError

PROBING = 1.0  # seconds within which whoever only looks at a lock has let go of it again


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


def hash_of(file: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(file, "rb") as data:
        while chunk := data.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def locked(file: Path, busy: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock; wait for it, or raise UserError with the sentence `busy` where one is given.

    The lock is the kernel's, on a file that holds its owner's name: it falls with the process, however that ends. On a
    file and not on the folder itself, because network file systems lock only what is open for writing.

    Args:
        file: made, and removed in the end.
        busy: may name the `{owner}`.
    """
    import fcntl  # not on Windows, where zoos can be read but not trained

    end = time.monotonic() + PROBING
    while True:
        fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
            if os.fstat(fd).st_ino == file.stat().st_ino:
                break
        except BlockingIOError:
            if time.monotonic() > end:
                owner = os.read(fd, 200).decode(errors="replace") or "just starting"
                os.close(fd)
                raise UserError((busy or "").format(owner=owner)) from None
            time.sleep(PROBING / 50)
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(fd)
            raise UserError(f"{file} cannot be locked ({error}): choose a paths.root on another file system") from error
        os.close(fd)  # the owner before us removed the file while we waited for it: lock the new one
    try:
        os.ftruncate(fd, 0)
        os.write(fd, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(fd)


def owner_of(file: Path) -> str | None:
    """Who holds the lock on a file ("process 12 on node3"); None if nobody does."""
    import fcntl

    try:
        fd = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(fd, 200).decode(errors="replace") or "just starting"
    finally:
        os.close(fd)
    return None
