"""The one exception a user's mistake is reported with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zoo.text import printable


class UserError(Exception):
    """Something the user can mend: a wrong key, a missing input, a damaged file.

    The message is complete by itself (what, what it was, what is allowed, what to do). The command line prints
    it without a traceback and exits with a code other than 0. Control characters in it, of a file's name or text, are written
    out, so that no terminal obeys them.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


@contextmanager
def naming(key: str) -> Iterator[None]:
    """What goes wrong within is the fault of a key of the configuration, and says so."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
