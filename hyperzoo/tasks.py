"""The tasks of the command line as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hydra import compose
from hydra.core.global_hydra import GlobalHydra

from run import CONFIG_DIR, Config
from zoo.base.errors import UserError
from zoo.config.command_line import command_line_problems
from zoo.config.reading import composing, mistakes, own_folders, perform, read_config, task_problems

if TYPE_CHECKING:
    from analysis.audit.findings import Audit
    from hyperrep.models.autoencoder import Autoencoder
    from zoo import Zoo

T = TypeVar("T")


def configure(*words: str, config_dir: str | Path | None = None) -> Config:
    """The configuration that words of the command line make, e.g. "zoo=mnist_seed" and "zoo.models=64".

    Args:
        words: of the command line.
        config_dir: a folder of your own presets, beside those of conf/: what `--config-dir` is there.

    Raises:
        UserError: with all mistakes at once.
    """
    own, folders = own_folders(words, None if config_dir is None else str(config_dir))
    if problems := command_line_problems(own, CONFIG_DIR, kind=Config, folders=folders):
        raise UserError(mistakes(problems), problems)
    with composing(CONFIG_DIR, folders):
        return read_config(compose("config", own), Config, own)


def run(*words: str, config_dir: str | Path | None = None) -> Any:
    """Do what the command line does with these words; what its last step returns. Arguments and errors as of `configure`."""
    _, folders = own_folders(words, None if config_dir is None else str(config_dir))
    return _done(perform, configure(*words, config_dir=config_dir), folders)


def open(zoo: str | Path, root: str | Path = "outputs", module: str | None = None) -> Zoo:
    """A stored zoo: the path of its folder, or its name under `root`.

    Args:
        zoo: either.
        root: `paths.root` of whoever trained it.
        module: see `zoo.store.zoo.Zoo.open`.

    Raises:
        UserError: if there is none.
    """
    from zoo import Zoo

    path = Path(zoo) if (Path(zoo) / "zoo.json").exists() else Path(root) / "zoos" / zoo
    if not (path / "zoo.json").exists():
        raise UserError(
            f"there is no zoo {str(zoo)!r}, nor {path}: give its path, or root=…, the paths.root it was trained with"
        )
    return Zoo.open(path, module)


def train(*given: str | Config) -> Zoo:
    """Train a zoo to its end, whatever of it is there already.

    Args:
        given: a configuration, or words of the command line.
    """
    return _done(perform, _of_task("zoo", given))


def train_representation(*given: str | Config) -> Autoencoder:
    """Train an autoencoder on the weights of a zoo (`autoencoder=…`). Arguments as of `train`."""
    return _done(perform, _of_task("hyperrep", given))


def sample(*given: str | Config) -> Zoo:
    """Draw new networks (`sampler=…`, `population.…`); they are stored as a zoo. Arguments as of `train`."""
    from hyperrep.sampling import sample_population

    return _done(sample_population, _of_task("sample", given))


def audit(*given: str | Config) -> Audit:
    """Whether the networks of a population are new: the audit of `sample`'s, made or read. Arguments as of `train`."""
    from analysis.audit.novelty import audit_population

    return _done(audit_population, _of_task("sample", given))


def _of_task(task: str, given: tuple[str | Config, ...]) -> Config:
    """The configuration that is given, or that of words, of a task."""
    words = [word for word in given if isinstance(word, str)]
    if len(words) == len(given):
        return configure(f"task={task}", *words)
    if len(given) > 1:
        raise UserError("give one configuration, or words of the command line, but not both")
    (config,) = given
    assert isinstance(config, Config)
    config = replace(config, task=configure(f"task={task}").task)
    if problems := task_problems(config):
        raise UserError(mistakes(problems), problems)
    return config


def _done(task: Callable[[Config], T], config: Config, folders: Sequence[str] = ()) -> T:
    """What a function returns, with Hydra ready to compose, for tasks that have others done."""
    if GlobalHydra.instance().is_initialized():
        return task(config)
    with composing(CONFIG_DIR, folders):
        return task(config)
