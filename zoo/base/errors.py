"""The one exception a user's mistake is reported with."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from zoo.base.text import printable


class UserError(Exception):
    """Something the user can mend: a wrong key, a missing input, a damaged file.

    The message is complete by itself (what, what it was, what is allowed, what to do). The command line prints
    it without a traceback and exits with a code other than 0. Control characters in it, of a file's name or text, are written
    out, so that no terminal obeys them.

    Attributes:
        problems: where a message tells of several, each by itself; else the message.
    """

    def __init__(self, message: str, problems: Sequence[str] | None = None) -> None:
        super().__init__(printable(message))
        self.problems = [str(self)] if problems is None else list(map(printable, problems))


def refusal(error: BaseException, where: object) -> str | None:
    """What the machine refused (a full disk, a missing permission, a name that is too long), in one sentence with the file.

    Args:
        error: any.
        where: what is named if the error names no file.

    Returns:
        None: the error is nothing that a machine refuses.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return None
    remedy = REMEDIES.get(error.errno, "mend that")
    return printable(
        f"{error.filename2 or error.filename or where}: {error.strerror}; {remedy}. What is stored stays; the same command goes on."
    )


_PERMISSION = "see to it that you may read and write there, or choose another paths.root"
_SPACE = "free some space, or choose another paths.root"
REMEDIES = {
    errno.ENOSPC: _SPACE, errno.EDQUOT: _SPACE, errno.EFBIG: "raise the limit, or choose another paths.root",
    errno.EACCES: _PERMISSION, errno.EPERM: _PERMISSION, errno.EROFS: _PERMISSION,
    errno.ENAMETOOLONG: "choose a shorter name", errno.EIO: "see whether the disk is whole, or choose another paths.root",
}  # fmt: skip


@contextmanager
def naming(key: str) -> Iterator[None]:
    """What goes wrong within is the fault of a key of the configuration, and says so."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
