"""From what Hydra composes to a typed configuration, and the mistakes in it, all at once."""

from __future__ import annotations

import codecs
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zoo.base.errors import UserError
from zoo.config.combinations import combination_problems, machine_problems, preset_problems
from zoo.config.sections import Config
from zoo.config.typed import typed

C = typing.TypeVar("C", bound=Config)


def read_config(
    composed: DictConfig,
    kind: type[C] = Config,  # type: ignore[assignment]
    overrides: typing.Sequence[str] = (),
    elsewhere: bool = False,
) -> C:
    """The typed configuration.

    Args:
        composed: by Hydra.
        kind: `Config`, or a dataclass that adds the groups of other packages to it.
        overrides: the words of the command line that it was composed of.
        elsewhere: whether it is for another machine, so that it does not matter what this one lacks.

    Raises:
        UserError: with one line a mistake: unknown keys, wrong types, forbidden values, impossible combinations.
    """
    problems: list[str] = []
    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: cannot be resolved ({error.msg})") from error
    config = typed(plain, kind, {}, "", problems)
    if not problems:
        config.overrides = list(overrides)
        problems = (
            preset_problems(config) + combination_problems(config) + ([] if elsewhere else machine_problems(config))
        )
    if problems := problems or task_problems(config):
        raise UserError(mistakes(problems), problems)
    return config


def task_problems(config: Config) -> list[str]:
    """What forbids the task of a configuration, by the functions that `task.check` names."""
    return [problem for check in config.task.check for problem in resolve_name(check)(config)]


def perform(config: Config) -> Any:
    """Do the task of a configuration, by the functions that `task.run` names; what the last of them returns."""
    result = None
    for step in config.task.run:
        result = resolve_name(step)(config)
    return result


def derive(config: C, *words: str) -> C:
    """The configuration of the same command line with other or further words, e.g. "sampler=kde" and "zoo.epochs=5".

    Hydra must be initialised, as it is within `run.py`.

    Raises:
        UserError: as `read_config`, or if Hydra cannot compose it.
    """
    overrides = joined(config, words)
    try:
        return read_config(compose("config", overrides), type(config), overrides)
    except HydraException as error:
        raise UserError(f"{' '.join(words)}: {error}") from error


def joined(config: Config, words: typing.Sequence[str]) -> list[str]:
    """The words of the command line and further ones, of each key the last."""
    return list({word.split("=")[0].lstrip("+"): word for word in (*config.overrides, *words)}.values())


def mistakes(problems: list[str]) -> str:
    """Several mistakes as one message."""
    if len(problems) == 1:
        return f"{problems[0]}\nNothing was started."
    return "\n".join(
        [f"{len(problems)} mistakes in the configuration; nothing was started:", *(f"- {p}" for p in problems)]
    )


def own_folders(words: typing.Sequence[str], config_dir: str | None = None) -> tuple[list[str], list[str]]:
    """The words of a command line without `hydra.searchpath`, and the folders of the user's own presets.

    Args:
        words: overrides.
        config_dir: what `--config-dir` says.

    Returns:
        The other words, and the folders as Hydra's search path names them; absolute, for jobs that start elsewhere.

    Raises:
        UserError: if there is no such folder.
    """
    folders = [("--config-dir", config_dir)] if config_dir is not None else []
    left = []
    for word in words:
        key, _, value = word.partition("=")
        if key.lstrip("+") == "hydra.searchpath":
            folders += [("hydra.searchpath", folder.strip("\"' ")) for folder in value.strip("[]").split(",")]
        else:
            left.append(word)
    found = []
    for key, folder in folders:
        path = Path(folder.removeprefix("file://")).absolute()
        if "://" in folder and not folder.startswith("file://"):
            found.append(folder)
        elif path.is_dir():
            found.append(f"file://{path}")
        else:
            raise UserError(f"{key}: got {folder!r}, but there is no such folder; it holds presets as conf/ does")
    return left, found


def encoding_problems(folders: typing.Sequence[str]) -> list[str]:
    """Which presets in some folders (of `own_folders`, and conf/) are no plain UTF-8, a sentence each; Hydra names none."""
    problems = []
    groups = [path.name for path in Path(folders[0]).iterdir() if path.is_dir()]
    for folder in [
        Path(folder.removeprefix("file://")) for folder in folders if "://" not in folder.removeprefix("file://")
    ]:
        for file in sorted(
            [*folder.glob("*.yaml"), *(file for group in groups for file in (folder / group).rglob("*.yaml"))]
        ):
            data = file.read_bytes()
            try:
                data.decode()
            except UnicodeDecodeError as error:
                problems.append(f"{file}: its byte {error.start + 1} is no UTF-8: save it as UTF-8")
            if data.startswith(codecs.BOM_UTF8):
                problems.append(f"{file}: it begins with a byte order mark: save it as UTF-8 without one")
    return problems


@contextmanager
def composing(config_dir: Path, folders: typing.Sequence[str] = (), name: str = "run") -> Iterator[typing.Any]:
    """Hydra ready to compose, from `config_dir` and then the user's own folders (see `own_folders`)."""
    with initialize_config_dir(str(config_dir), job_name=name, version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        loader: Any = hydra.config_loader
        path = loader.get_search_path()
        for folder in folders:
            path.prepend("command-line", folder, SearchPathQuery("schema", None))
        loader.repository.initialize_sources(path)
        yield hydra
