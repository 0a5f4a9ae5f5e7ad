"""What a run tells, on the terminal and in its run.log."""

import io
import logging

import pytest
import pytorch_lightning as pl
import torch
from rich.table import Table
from torch import nn

from zoo.base import console as module
from zoo.base.console import Progress, console, record, tracked
from zoo.training.fitting import fit


@pytest.fixture
def log():
    """What run.log gets."""
    text = io.StringIO()
    handler, level = logging.StreamHandler(text), record.level
    record.addHandler(handler)
    record.setLevel(logging.INFO)
    yield text
    record.removeHandler(handler)
    record.setLevel(level)


@pytest.fixture
def at_once(monkeypatch):
    """Progress is told at every step."""
    monkeypatch.setattr(module, "SHORT", 0.0)
    monkeypatch.setattr(module, "SECONDS_A_LINE", -1.0)


def test_tables_and_messages_are_recorded_as_plain_text(log, capsys):
    table = Table()
    table.add_column("±")
    console.print(table)
    console.print("[red]of a stranger[/x]", style="bold")
    assert log.getvalue() == capsys.readouterr().out
    assert "[red]of a stranger[/x]" in log.getvalue()
    assert "±" in log.getvalue()


def test_progress_has_rate_and_time_left(log, at_once, capsys):
    with Progress("training", 10, "models") as progress:
        progress.skip(4)
        progress.advance(3, "accuracy 90 %")
    line = capsys.readouterr().out
    assert line.startswith("training: 7/10 models, ")
    assert "/s, " in line or "/min, " in line
    assert line.endswith(" left, accuracy 90 %\n")
    assert log.getvalue() == line


def test_time_before_the_work_is_no_measure_of_the_time_left(at_once, monkeypatch, capsys):
    clock = iter([0.0, 100.0, 101.0, 102.0, 102.0, 102.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with Progress("training", 10, "models") as progress:
        progress.prepared()  # after 100 s of compiling
        progress.advance(2)
        progress.prepared()  # for the next block: nothing is forgotten
    assert capsys.readouterr().out == "training: 2/10 models, 1.0/s, 8 s left\n"


def test_a_bar_on_a_terminal_leaves_its_lines_in_the_log_alone(log, at_once, monkeypatch):
    shown = module.RecordedConsole(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(module, "console", shown)
    with Progress("training", 2, "models") as progress:
        progress.advance()
        shown.print("said")
        progress.advance()
    assert [line.split(",")[0] for line in log.getvalue().splitlines()] == [
        "training: 1/2 models", "said", "training: 2/2 models",
    ]  # fmt: skip
    assert "\x1b" not in log.getvalue()
    assert "━" in shown.file.getvalue()


def test_within_progress_nothing_else_is_told(at_once, capsys):
    for _ in tracked([1, 2], "outer", "things"):
        assert list(tracked([1], "inner", "things")) == [1]
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "outer: 1/2 things", "outer: 2/2 things",
    ]  # fmt: skip
    assert Progress.shown is None


def test_progress_ends_with_what_fails():
    with pytest.raises(ZeroDivisionError), Progress("training", 2, "models"):
        raise ZeroDivisionError
    assert Progress.shown is None


class Training(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch):
        return self.layer(batch).sum()


def test_steps_of_a_training_are_counted(at_once, capsys):
    with Progress("learning", 6, "steps") as progress:
        fit(Training(), torch.utils.data.DataLoader(torch.zeros(3, 1)), accelerator="cpu", epochs=2, progress=progress)
    assert progress.done == 6
    assert capsys.readouterr().out.count("learning: ") == 6
