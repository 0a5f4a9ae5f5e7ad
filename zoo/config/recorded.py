"""The command that makes something again, as it is recorded."""

from __future__ import annotations

import shlex

from zoo.config.sections import Config

OF_THIS_MACHINE = ("paths.", "logger", "engine.threads", "zoo.shard")  # overrides that change nothing of what is made


def command(config: Config, *also: str) -> str:
    """The command that makes it again, without the overrides that concern this machine only or begin with one of `also`."""
    kept = [
        shlex.quote(override) for override in config.overrides if not override.startswith((*OF_THIS_MACHINE, *also))
    ]
    return " ".join(["python run.py", *kept])
