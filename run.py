"""The one entry point: compose the configuration, check it, dispatch the task.

`python run.py --help` names tasks, groups and the overrides used most.
"""

from __future__ import annotations

import io
import os
import signal
import string
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

import analysis.config
import hyperrep.config

CONFIG_DIR = Path(__file__).resolve().parent / "conf"

STOPPED = "Stopped. What is stored stays; the same command goes on from there."


@dataclass(kw_only=True)
class Config(hyperrep.config.Config, analysis.config.Config):
    """Everything that is composed."""


def job(composed: DictConfig) -> str | None:
    """One job: a typed configuration, then the functions that `task.run` names.

    Returns:
        In a multirun: why it failed, if it did. Launchers carry that to the process that waits, from wherever the job ran; an
        exception they would carry only for the first.
    """
    from zoo.base.console import plain_output, record
    from zoo.base.errors import UserError
    from zoo.config.reading import perform, read_config

    plain_output()
    hydra_config = HydraConfig.get()
    try:
        with where_it_was_typed():
            config = read_config(composed, Config, hydra_config.overrides.task)
            perform(config)
    except KeyboardInterrupt:
        record.info(STOPPED)
        fail(STOPPED, code=130)
    except Exception as error:
        told = told_of(error, composed.paths.root)
        if hydra_config.mode == RunMode.MULTIRUN:
            print(f"{' '.join(hydra_config.overrides.task)}: {told}", file=sys.stderr)
            return told
        if isinstance(error, UserError | OSError):
            fail(told)
        raise
    return None


def told_of(error: Exception, where: object) -> str:
    """What is told of an error: a sentence, if the user or the machine is to blame; else the traceback, which run.log has of
    what the machine refuses, too.

    Args:
        error: being handled.
        where: the folder that is named if the error names no file.
    """
    from zoo.base.console import record
    from zoo.base.errors import UserError, refusal

    if isinstance(error, UserError):
        record.info("%s", error)
        return str(error)
    record.info("%s", traceback.format_exc())
    return refusal(error, where) or traceback.format_exc()


@contextmanager
def told_to_the_terminal() -> Iterator[None]:
    """A whole program: any terminal will do, and what the machine refuses is one sentence."""
    from zoo.base.console import any_terminal

    try:
        with any_terminal():
            yield
    except OSError as error:
        fail(told_of(error, "paths.root"), code=1)


@contextmanager
def where_it_was_typed() -> Iterator[None]:
    """In the folder that the command was started in, from which relative paths are taken, whatever `hydra.job.chdir` says."""
    before = os.getcwd()
    os.chdir(HydraConfig.get().runtime.cwd)
    try:
        yield
    finally:
        os.chdir(before)


@hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")
def show(composed: DictConfig) -> None:
    """What Hydra answers by itself: --help, --cfg and their like."""
    job(composed)


def answer() -> None:
    """`show`, printed in one piece: Hydra would give a traceback where a reader does not stay, such as `head -1`."""
    from zoo.base.console import to_the_terminal

    text = io.StringIO()
    try:
        with redirect_stdout(text):
            show()
    finally:
        with to_the_terminal():
            print(text.getvalue(), end="")


def help_text(folders: Sequence[Path]) -> str:
    """What --help answers, without composing anything: the text in conf/config.yaml, and the presets in some folders."""
    told = yaml.safe_load((CONFIG_DIR / "config.yaml").read_text(encoding="utf-8"))["hydra"]["help"]
    presets: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.glob("*/**/*.yaml"):
            presets.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    groups = [
        f"{group}: {', '.join(sorted(presets[group]))}\n" for group in sorted(presets) if group.split("/")[0] != "hydra"
    ]
    template = told["template"].replace("${hydra.help.header}", told["header"])
    return string.Template(template).substitute(APP_CONFIG_GROUPS="".join(groups))


def fail(message: str, code: int = 2) -> None:
    """Say what is wrong, without a traceback, and exit."""
    print(message, file=sys.stderr)
    sys.exit(code)


def make_importable() -> None:
    """Let jobs in other processes find these modules; and let a user's own be found where the command was started."""
    here = str(Path(__file__).resolve().parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *(path for path in paths if path not in ("", here))])
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the last: nothing of the user's takes the place of a package


def sweep_jobs(hydra: Any, words: Sequence[str]) -> list[tuple[str, str]]:
    """Run all jobs of a multirun, by Hydra's launcher.

    Returns:
        Of the jobs that failed: their overrides, and why.
    """
    from zoo.config.command_line import first_values

    words = [*words, "hydra.mode=MULTIRUN"]
    # Not Hydra's own multirun, which composes all words with the defaults of the groups that are swept.
    config = hydra.compose_config("config", first_values(words), RunMode.MULTIRUN, with_log_configuration=True)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
    sweeper = Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=job)
    batches = sweeper.sweep([word for word in words if not word.startswith(("hydra.", "hydra/"))])
    results = [result for batch in batches for result in batch]
    return [(" ".join(result.overrides), result.return_value) for result in results if result.return_value]


@told_to_the_terminal()
def main() -> None:
    """The command line: all mistakes are told at once, before Hydra starts anything."""
    from zoo.base.console import to_the_terminal
    from zoo.base.errors import UserError
    from zoo.config.command_line import command_line_problems
    from zoo.config.reading import composing, mistakes, own_folders

    arguments, unknown = get_args_parser().parse_known_args()
    if arguments.hydra_help or arguments.shell_completion:
        answer()
        return
    if arguments.config_path or arguments.config_name or unknown:
        show()
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops it is told what Ctrl-C is told
    multirun = arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides
    make_importable()
    try:
        words, folders = own_folders(arguments.overrides, arguments.config_dir)
    except UserError as error:
        fail(mistakes([str(error)]))
    if arguments.help:
        with to_the_terminal():
            print(help_text([CONFIG_DIR, *(Path(folder.removeprefix("file://")) for folder in folders)]))
        return
    if problems := command_line_problems(words, CONFIG_DIR, multirun, Config, folders):
        fail(mistakes(problems))
    if arguments.cfg or arguments.info:
        answer()
        return
    if arguments.experimental_rerun:
        show()
        return
    with composing(CONFIG_DIR, folders) as hydra:
        if not multirun:
            hydra.run("config", job, words)
            return
        try:
            failed = sweep_jobs(hydra, words)
        except Exception as error:  # of the launcher: a job that ended without a word, or none could be started
            fail(f"The launcher failed: {error}\nWhat is stored stays; the same command does the rest.")
    if failed:
        told = [f"\n{overrides}\n{why}" for overrides, why in failed]
        fail("\n".join([*told, f"\n{len(failed)} of the runs failed; the same command tries them again."]))


if __name__ == "__main__":
    import run

    run.main()  # of the module, so that jobs elsewhere find `job`
