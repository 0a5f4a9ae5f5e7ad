"""Names that all rooms share: what generates a model, how models are split, columns of tables; and which texts are plain enough."""

from __future__ import annotations

import re
import shlex
from typing import Any

from zoo.base.text import is_control

FACTORS = ("init", "activation", "optimizer", "lr", "weight_decay", "dropout")  # that generate a model, beside its seed
NAMED_FACTORS = FACTORS[:3]  # the others are numbers
SPLITS = ("train", "val", "test")
SCHEDULES = ("constant", "onecycle")  # of the learning rate
STATUSES = ("pending", "ok", "diverged", "partial")
SCORES = ["train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc"]
WEIGHT_MAX_ABS = "weight_max_abs"  # the one metric the store computes itself: it tells a diverged model
WHOLE = "whole"  # a metric of imported zoos: 1 where the state and its losses could be read, else 0
LONGEST_NAME, LONGEST_TEXT = 200, 10_000  # characters


def is_name(value: Any) -> bool:
    """Whether it can name a folder, a column or a preset: no text that leads out of a folder or means something in a page."""
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", value))


def is_text(value: Any) -> bool:
    """Whether it is one line of printable text."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and not any(map(is_control, value))


def is_command(text: Any) -> bool:
    """Whether a recorded command may be shown as something to run: `python run.py` with words of the command line, quoted
    as a shell wants them, which name no function to call (`task.run`) and no folder of Hydra's."""
    try:
        words = shlex.split(text) if is_text(text) else []
    except ValueError:  # a quotation that does not end
        return False
    keys = [word.partition("=")[0].lstrip("+~") for word in words[2:]]
    return (
        words[:2] == ["python", "run.py"]
        and shlex.join(words) == text
        and not any(key.startswith(("task.", "hydra", "-")) for key in keys)
    )
