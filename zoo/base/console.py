"""What a run tells: on the terminal, and all of it in its run.log too, whatever launched the run."""

from __future__ import annotations

import io
import logging
import math
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from rich.console import Console
from rich.control import Control
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

WIDTH = 120  # columns of run.log
SECONDS_A_LINE = 20.0  # between lines on the progress of some work
SHORT = 1.0  # seconds within which work that ends shows no bar

# What it is told goes to run.log and nowhere else: conf/config.yaml gives it that one handler, where there is a run.log.
record = logging.getLogger("run.log")
record.propagate = False

OUTPUT = "the standard output"

T = TypeVar("T")


class RunLog(logging.FileHandler):
    """The file run.log. What cannot be written to it is done without, and said once."""

    told = False

    def _open(self) -> Any:
        try:
            return super()._open()
        except OSError as error:
            self._tell(error)
            return open(os.devnull, "w", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        """Called by `logging` for any error of a message."""
        self._tell(sys.exc_info()[1])

    def _tell(self, error: BaseException | None) -> None:
        if not self.told:
            self.told = True
            reason = error.strerror if isinstance(error, OSError) else error
            print(f"{self.baseFilename} cannot be written ({reason}): this run does without", file=sys.stderr)


@contextmanager
def any_terminal() -> Iterator[None]:
    r"""A program on any terminal: what its encoding lacks is written out (± as \xb1); who closes it ends the program."""
    plain_output()
    try:
        try:
            yield
        finally:
            with to_the_terminal():
                sys.stdout.flush()
    except OSError as error:
        if error.filename == OUTPUT:
            with suppress(OSError, ValueError):  # what is still to be written when Python ends goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        raise


@contextmanager
def to_the_terminal() -> Iterator[None]:
    """What the machine refuses within is the fault of the standard output, and says so."""
    try:
        yield
    except OSError as error:
        error.filename = OUTPUT
        raise


def plain_output() -> None:
    """Have characters that an output's encoding lacks written out, in this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class RecordedConsole(Console):
    """A console whose every message is recorded in run.log as well, as plain text."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As of `rich.console.Console`."""
        with to_the_terminal():
            super().print(*objects, **options)
        if objects and not isinstance(objects[0], Control):  # which moves a progress bar
            text = io.StringIO()
            Console(file=text, width=WIDTH, markup=False, emoji=False).print(*objects, **options)
            if message := text.getvalue().rstrip():
                record.info("%s", message)


console = RecordedConsole(markup=False, emoji=False)  # what is printed may be a text of a stranger's store


class Progress:
    """Work done, its rate and the time left: a bar on a terminal; else, and in run.log, a line now and then.

    Use as a context manager. One within another shows nothing.

    Args:
        what: is done.
        total: how much there is to do.
        unit: of it, e.g. "networks".
    """

    shown: Progress | None = None  # the one that is at work

    def __init__(self, what: str, total: float, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.skipped = 0.0
        self.began = self.last_line = time.monotonic()
        self.note = ""
        self.bar: Bar | None = None

    def __enter__(self) -> Progress:
        if Progress.shown is None:
            Progress.shown = self
        return self

    def __exit__(self, *_: object) -> None:
        if Progress.shown is self:
            Progress.shown = None
        if self.bar:
            self.bar.stop()

    def skip(self, amount: float) -> None:
        """Count what was done before."""
        self.done += amount
        self.skipped += amount

    def prepared(self) -> None:
        """Count the time from now on, if nothing was done yet: compiling, for one, is no measure of the time left."""
        if self.done == self.skipped:
            self.began = time.monotonic()

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count what is done now; `note` is shown behind it from now on."""
        self.done += amount
        self.note = note or self.note
        now = time.monotonic()
        if Progress.shown is not self or self.done == self.skipped or now - self.began < SHORT:
            return
        if console.is_terminal and self.bar is None:
            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[told]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self.bar.add_task(self.what, total=self.total, told="")
            self.bar.start()
        if self.bar:
            told = ", ".join(filter(None, (f"{self.unit}, {self.rate()}", self.note)))
            self.bar.update(self.bar.task_ids[0], completed=self.done, told=told)
        if now - self.last_line > SECONDS_A_LINE:
            self.last_line = now
            self._tell()

    def rate(self) -> str:
        """How fast it goes, to read."""
        a_second = self._a_second()
        return f"{a_second:.1f}/s" if a_second >= 1 else f"{60 * a_second:.1f}/min"

    def _a_second(self) -> float:
        return (self.done - self.skipped) / max(time.monotonic() - self.began, 1e-9)

    def _tell(self) -> None:
        left = duration(max(0.0, self.total - self.done) / self._a_second())
        line = f"{self.what}: {self.done:.0f}/{self.total:.0f} {self.unit}, {self.rate()}, {left} left"
        line += f", {self.note}" if self.note else ""
        if console.is_terminal:
            record.info("%s", line)
        else:
            console.print(line, highlight=False, soft_wrap=True)


def tracked(items: Collection[T], what: str, unit: str) -> Iterator[T]:
    """The items, one after another, with their progress shown."""
    with Progress(what, len(items), unit) as progress:
        for item in items:
            yield item
            progress.advance()


def duration(seconds: float) -> str:
    """A time to read."""
    if not math.isfinite(seconds):
        return "unknown time"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
