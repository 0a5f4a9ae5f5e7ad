"""Files that no kill or power cut leaves half written, and locks that fall with their owner."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.base.errors import UserError

PROBING = 1.0  # seconds within which whoever only looks at a lock has let go of it again
STALE = 3600.0  # seconds without a byte more, after which a temporary file is nobody's any more


def write_file(file: Path, data: bytes) -> None:
    """Put `data` in place of `file` at once: whenever the power fails, it is the old one or the new one, whole.

    Until then it lies beside it under a name that nobody else has, and that was nothing before: no link is followed, and two
    writers do not mix. What a kill leaves of it, the next writer of the file removes (see `remove_leftovers`).
    """
    remove_leftovers(file.parent, re.escape(file.name), older=STALE)
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    except BaseException as error:
        with suppress(OSError):  # what went wrong first is told
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a full disk names no file, and the temporary one means nothing to anybody
            error.filename, error.filename2 = str(file), None
        raise
    sync_folder(file.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the machine refuses within names the path, if it names no file itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def remove_leftovers(folder: Path, names: str, older: float = 0.0) -> None:
    """Remove what killed processes left of the files whose names match the expression `names`.

    Args:
        folder: where.
        names: a regular expression.
        older: only what was not written to for so many seconds; 0 where a lock forbids others to write them.
    """
    ours = re.compile(rf"(?:{names})(\.[0-9a-f]{{16}})?\.tmp")  # earlier versions wrote no digits
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if ours.fullmatch(entry.name)]
    for entry in found:
        with suppress(FileNotFoundError):
            if entry.stat(follow_symlinks=False).st_mtime <= time.time() - older:
                os.unlink(entry.path)


def read_file(file: Path) -> bytes:
    """The bytes of a file of a store.

    Raises:
        FileNotFoundError: if it is not there.
        UserError: if it is a link or anything else that is no plain file.
    """
    plain_size(file)
    return file.read_bytes()


@contextmanager
def reading(file: Path, remedy: str) -> Iterator[None]:
    """What goes wrong within is the fault of a file, and says so, with what to do about it."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        reason = "it is not there" if isinstance(error, FileNotFoundError) else str(error).partition("\n")[0][:300]
        raise UserError(f"{file} is missing or damaged ({reason}): {remedy}") from error


def plain_size(file: Path) -> int:
    """How many bytes a file has. Raises as `read_file`: what a stranger's store links to is nobody's to read or write."""
    found = os.stat(file, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        refuse_link(file)
        raise UserError(f"{file} is no plain file: move it away")
    return found.st_size


def refuse_link(path: Path) -> None:
    """Raise UserError if a path within a store is a link. The store's own folder may be one."""
    if path.is_symlink():
        raise UserError(f"{path} is a link, and a store has none within: put the file there itself, or remove the link")


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last through a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with writing(folder):
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


_hashes: dict[tuple[Path, int, int, int], str] = {}


def known_hash(file: Path) -> str:
    """`hash_of` a file, computed once in a process unless the file was written to or replaced since."""
    found = os.stat(file)
    key = (file, found.st_ino, found.st_size, found.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = hash_of(file)
    return _hashes[key]


@contextmanager
def locked(file: Path, busy: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock; wait for it, or raise UserError with the sentence `busy` where one is given.

    The lock is the kernel's, on a file that holds its owner's name: it falls with the process, however that ends. On a
    file and not on the folder itself, because network file systems lock only what is open for writing.

    Args:
        file: made, and removed in the end.
        busy: may name the `{owner}`.

    Raises:
        UserError: with `busy`, or if nothing can be written or locked there.
    """
    import fcntl  # not on Windows, where zoos can be read but not trained

    end = time.monotonic() + PROBING
    while True:
        refuse_link(file)
        try:
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except PermissionError as error:
            if not file.exists():
                raise _unwritable(file, error) from error
            raise UserError(
                f"{file} is a lock that you may not open, of {_name_of(file)}: if nobody is at work there, remove it; a killed "
                "process leaves one"
            ) from error
        except OSError as error:
            raise _unwritable(file, error) from error
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
        with suppress(OSError):  # on a full disk it is a lock without a name
            os.ftruncate(fd, 0)
            os.write(fd, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(fd)


def _unwritable(file: Path, error: OSError) -> UserError:
    return UserError(
        f"{file.parent} cannot be written to ({error.strerror}, {file.name}): choose another paths.root, or see to it "
        "that you may write there"
    )


def _name_of(file: Path) -> str:
    """The user that a file belongs to."""
    try:
        return f"user {file.owner()}"
    except (OSError, KeyError):
        return "another user"


def owner_of(file: Path) -> str | None:
    """Who holds the lock on a file ("process 12 on node3"); None if nobody does, or if we may not ask."""
    import fcntl

    try:
        refuse_link(file)
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except (FileNotFoundError, PermissionError):  # who wants to take it is told
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(fd, 200).decode(errors="replace") or "just starting"
    finally:
        os.close(fd)
    return None
