"""The configuration as typed objects, and everything that can be wrong with it, said at once.

Values live in `conf/*.yaml`; types, limits and meanings in the dataclasses beside the code they configure. `read_config`
turns what Hydra composed into those dataclasses; `command_line_problems` looks at the words of the command line before
Hydra acts on them, because Hydra stops at the first mistake.
"""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import math
import os
import shlex
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zoo.architecture import ArchConfig, Architecture
from zoo.engines import ENGINES, EngineConfig, choose
from zoo.errors import UserError
from zoo.images import DatasetConfig, augments, plan_shape, protocol_problems
from zoo.schema import LONGEST_NAME, is_name
from zoo.spec import ZooConfig, shard_problems, spec_size

MOST_NAMES = 15  # that an error lists


@dataclass
class TaskConfig:
    """`task=`: what to do."""

    name: str
    check: list[str]  # dotted paths of functions that say what forbids it; called before anything starts
    run: list[str]  # dotted paths of the functions that do it, one after another; called with the whole configuration
    help: str
    filed_under: list[str] = dataclasses.field(default_factory=list)  # keys whose values tell its results from others'
    made_of: list[str] = dataclasses.field(default_factory=list)  # groups that decide what the results are


@dataclass
class TrainerConfig:
    """`trainer=`: the hardware."""

    accelerator: str = dataclasses.field(metadata={"choices": ("cpu", "gpu")})

    @property
    def device(self) -> torch.device:
        """Where tensors are."""
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")


@dataclass
class LoggerConfig:
    """`logger=`: where curves go besides the zoo itself."""

    name: str = dataclasses.field(metadata={"choices": ("csv", "wandb", "wandb_offline", "none")})
    project: str  # of W&B
    entity: str | None  # of W&B: your team; null: your default
    sweep: str | None  # a tag of W&B runs
    artifact: str = dataclasses.field(
        metadata={"choices": ("reference", "upload", "none")}
    )  # of a finished zoo, in W&B


@dataclass
class MetricsConfig:
    """`metrics.…`: what is measured at every epoch beyond loss and accuracy on train (running), val and test."""

    train_eval: bool  # also loss and accuracy of the whole training set in evaluation mode (one more pass an epoch)


@dataclass
class PathsConfig:
    """`paths.…`: folders; relative ones are taken from where the command is started."""

    root: str  # everything a run writes
    data: str  # image files, downloaded once
    system_data: list[str]  # folders that are looked into before anything is downloaded


@dataclass(kw_only=True)
class Config:
    """Everything `run.py` composes."""

    task: TaskConfig
    dataset: DatasetConfig
    arch: ArchConfig
    zoo: ZooConfig
    engine: EngineConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    metrics: MetricsConfig
    paths: PathsConfig
    source: str | None  # of task=import: the folder of a downloaded zoo
    format: str = dataclasses.field(metadata={"choices": ("raw", "hub", "croissant", "csv")})  # of task=export
    seed: int = dataclasses.field(metadata={"min": 0})
    overrides: list[str] = dataclasses.field(default_factory=list)  # the words of the command line; set by run.py


# --------------------------------------------------------------------------------------------- composed -> typed


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
    config = _typed(plain, kind, {}, "", problems)
    if not problems:
        config.overrides = list(overrides)
        problems = (
            preset_problems(config) + combination_problems(config) + ([] if elsewhere else machine_problems(config))
        )
    problems = problems or [problem for check in config.task.check for problem in resolve_name(check)(config)]
    if problems:
        raise UserError(mistakes(problems))
    return config


def derive(config: C, *words: str) -> C:
    """The configuration of the same command line with other or further words, e.g. "sampler=kde" and "zoo.epochs=5".

    Hydra must be initialised, as it is within `run.py`.

    Raises:
        UserError: as `read_config`, or if Hydra cannot compose it.
    """
    overrides = _joined(config, words)
    try:
        return read_config(compose("config", overrides), type(config), overrides)
    except HydraException as error:
        raise UserError(f"{' '.join(words)}: {error}") from error


def _joined(config: Config, words: typing.Sequence[str]) -> list[str]:
    """The words of the command line and further ones, of each key the last."""
    return list({word.split("=")[0].lstrip("+"): word for word in (*config.overrides, *words)}.values())


def derived_problems(config: Config, *words: str) -> list[str]:
    """What is wrong with words that are to be added to the command line of a configuration, a sentence each."""
    _, problems = _known_words(_joined(config, words), False, type(config))
    if problems:
        return problems
    try:
        derive(config, *words)
    except UserError as error:
        return sentences(error)
    return []


def sentences(error: UserError) -> list[str]:
    """The mistakes that an error tells, one by one."""
    return [line.removeprefix("- ") for line in str(error).splitlines() if "othing was started" not in line]


def mistakes(problems: list[str]) -> str:
    """Several mistakes as one message."""
    if len(problems) == 1:
        return f"{problems[0]}\nNothing was started."
    return "\n".join(
        [f"{len(problems)} mistakes in the configuration; nothing was started:", *(f"- {p}" for p in problems)]
    )


def _typed(value: Any, kind: Any, limits: typing.Mapping[str, Any], key: str, problems: list[str]) -> Any:
    """`value` as an object of type `kind`; what is wrong with it is appended to `problems`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):  # only ever X | None
        return None if value is None else _typed(value, arguments[0], limits, key, problems)
    if dataclasses.is_dataclass(kind):
        return _typed_fields(value, kind, key, problems)
    if origin is dict and isinstance(value, dict):
        return {name: _typed(entry, arguments[1], limits, f"{key}.{name}", problems) for name, entry in value.items()}
    if origin is list and isinstance(value, list):
        return [_typed(entry, arguments[0], limits, key, problems) for entry in value]
    if kind is float and type(value) is int:
        value = float(value)
    name = {
        int: "a whole number",
        float: "a number",
        str: "a word",
        bool: "true or false",
        list: "a list",
        dict: "keys",
    }
    if origin in (list, dict) or type(value) is not kind:
        remedy = f"; write [{value}]" if origin is list and isinstance(value, bool | int | float | str) else ""
        problems.append(f"{key}: got {value!r}, which is not {name[origin or kind]}{remedy}")
        return value
    _check_limits(value, limits, key, problems)
    return value


def _typed_fields(value: Any, kind: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{key}: got {value!r}, but it has keys: {', '.join(f.name for f in dataclasses.fields(kind))}")
        return value
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{key}." if key else ""
    problems += [
        f"{prefix}{name}: unknown key{did_you_mean(str(name), fields)}" for name in value if name not in fields
    ]
    members = {}
    for name, field in fields.items():
        if name in value:
            members[name] = _typed(value[name], hints[name], field.metadata, f"{prefix}{name}", problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{prefix}{name}: is missing")
    return kind(**members) if len(problems) == 0 else members


def _check_limits(value: Any, limits: typing.Mapping[str, Any], key: str, problems: list[str]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{key}: got {value}, but it must be finite")
        return
    if "choices" in limits and value not in limits["choices"]:
        problems.append(f"{key}: got {value!r}{did_you_mean(str(value), limits['choices'])}")
    tests = {
        "min": (lambda v, limit: v >= limit, "at least"),
        "max": (lambda v, limit: v <= limit, "at most"),
        "above": (lambda v, limit: v > limit, "above"),
        "below": (lambda v, limit: v < limit, "below"),
    }
    for name, (test, _) in tests.items():
        if name in limits and not test(value, limits[name]):
            bounds = [f"{tests[n][1]} {limits[n]}" for n in tests if n in limits]
            problems.append(f"{key}: got {value!r}, but it must be {' and '.join(bounds)}")
            return


def did_you_mean(got: str, allowed: typing.Iterable[str]) -> str:
    """What is allowed, and the nearest valid name for a typo, as the end of a sentence."""
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(got, names, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    if len(names) > MOST_NAMES:
        return meant or f"; {len(names)} names are allowed, and none is near it (python run.py --help, --cfg job)"
    return f"{meant} Allowed: {', '.join(names)}" if meant else f"; allowed: {', '.join(names)}"


# --------------------------------------------------------------------------------------------- combinations


def preset_problems(config: Config) -> list[str]:
    """Whether the command line makes another zoo of a preset, under the preset's name; a sentence each."""
    chosen = {key: value for key, _, value in (word.partition("=") for word in config.overrides)}
    if not chosen.keys() & {"dataset", "arch", "zoo/kind", "zoo/protocol"}:
        return []
    preset = compose("config", [f"{key}={value}" for key, value in chosen.items() if key in ("zoo", "experiment")])
    problems = []
    for key, kind in (("zoo/kind", preset.zoo.kind), ("zoo/protocol", None)):
        if key in chosen and chosen[key] != kind:
            problems.append(
                f"{key}: got {chosen[key]!r}, but a preset builds on its own: choose another zoo=, or write a preset"
            )
    now, was = (f"dataset={of.dataset.name} arch={of.arch.name}" for of in (config, preset))
    published = config.zoo.published and config.zoo.start.zoo is None  # what is fine-tuned is not
    if now != was and (config.zoo.name == preset.zoo.name or published):
        problems.append(
            f"zoo.name: {preset.zoo.name} stands for {was}, not for {now}: choose another zoo=, or name yours "
            "(zoo.name=NAME zoo.published=null)"
        )
    return problems


def combination_problems(config: Config) -> list[str]:
    """What each value allows but all together forbid; a sentence each. Reads no data and starts nothing."""
    zoo, grid, arch, dataset = config.zoo, config.zoo.grid, config.arch, config.dataset
    problems = protocol_problems(dataset, arch.protocol, arch.image_size)
    problems += folder_problems("zoo.name", zoo.name) + shard_problems(zoo.shard)
    problems += folder_problems("arch.name", arch.name) + folder_problems("dataset.name", dataset.name)
    for factor in dataclasses.fields(grid):
        values = getattr(grid, factor.name)
        if not values or len(set(values)) < len(values):
            problems.append(f"zoo.grid.{factor.name}: got {values}, but it needs at least one value, and none twice")
    problems += start_problems(zoo)
    stored = config.task.name == "sparsify"  # whose source may be another zoo than the preset's, imported for one
    if zoo.start.zoo is None and not stored and zoo.models is not None and zoo.models > spec_size(zoo):
        problems.append(
            f"zoo.models: got {zoo.models}, but the spec has {spec_size(zoo)} models; null takes all of them"
        )
    if zoo.schedule == "onecycle" and set(grid.optimizer) - {"sgd"}:
        problems.append(
            f"zoo.schedule=onecycle cycles SGD's momentum: zoo.grid.optimizer must be [sgd], got {grid.optimizer}"
        )
    if zoo.schedule == "onecycle" and zoo.epochs == 0:
        problems.append("zoo.schedule=onecycle spans the epochs: zoo.epochs must be at least 1, got 0")
    if zoo.divergence_rate and not arch.variational:
        problems.append(
            f"zoo.divergence_rate: got {zoo.divergence_rate}, but only variances diverge: use task=sparsify and "
            "sparsify.divergence_rate, or arch.variational=true"
        )
    problems += [
        f"paths.{name}: is empty; give a folder" for name in ("root", "data") if not getattr(config.paths, name)
    ]
    given = {"paths.root": config.paths.root, "paths.data": config.paths.data, "source": config.source or ""}
    problems += [
        f"{key}: got {path!r}, but only a shell knows what ~ is: write the folder out, e.g. {os.path.expanduser(path)}"
        for key, path in given.items()
        if path.startswith("~") and (key == "paths.root" or not path.startswith(config.paths.root))
    ]
    root = Path(config.paths.root).absolute()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        problems.append(f"paths.root: got {config.paths.root}, but {there} is no folder that can be written to")
    if arch.classes is not None and arch.classes != dataset.classes:
        problems.append(
            f"arch.classes: arch={arch.name} has a head of {arch.classes} classes, but dataset={dataset.name} has "
            f"{dataset.classes}; use arch=resnet18, or an architecture of your own with {dataset.classes} outputs"
        )
    if problems:
        return problems
    try:
        built = architecture(config)
    except UserError as error:
        return [str(error)]
    if not built.takes_dropout and grid.dropout != [0.0]:
        problems.append(
            f"zoo.grid.dropout: arch={arch.name} has no dropout layer, so it must be [0.0], got {grid.dropout}"
        )
    if not built.takes_activation and grid.activation != ["relu"]:
        problems.append(
            f"zoo.grid.activation: arch={arch.name} takes no activation: it must be [relu], got {grid.activation}"
        )
    return problems + ([refusal] if (refusal := engine_refusal(config, built)) else [])


def machine_problems(config: Config) -> list[str]:
    """What this machine lacks for a configuration, a sentence each."""
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        return ["trainer=gpu: PyTorch finds no CUDA device on this machine; use trainer=cpu"]
    return []


def start_problems(zoo: ZooConfig) -> list[str]:
    """What is wrong with `zoo.start`; whether there is such a zoo turns out when it is opened."""
    start = zoo.start
    if start.zoo is None:
        given = [name for name in ("epoch", "split", "seed") if getattr(start, name) is not None]
        return [f"zoo.start.{name}: has no effect without zoo.start.zoo" for name in given]
    if start.zoo == zoo.name:
        return [
            f"zoo.name: got {zoo.name!r}, which is where zoo.start.zoo lies; give what is trained from it another name"
        ]
    return folder_problems("zoo.start.zoo", start.zoo)


def folder_problems(key: str, name: str) -> list[str]:
    """Whether a name of the configuration can be that of a folder; nothing leads out of the folder it is in."""
    if is_name(name):
        return []
    return [
        f"{key}: got {name!r:.300}, but it is a folder's name: letters, digits, '.', '_' and '-', {LONGEST_NAME} at most"
    ]


def training_conditions(config: Config) -> tuple[str, bool]:
    """What an engine must cope with: "cpu" or "gpu", and whether training images are augmented."""
    return config.trainer.accelerator, augments(config.dataset.protocols[config.arch.protocol].augment)


def architecture(config: Config) -> Architecture:
    """The architecture for the images that the dataset's protocol yields."""
    shape = plan_shape(config.dataset, config.arch.protocol, config.arch.image_size)
    return Architecture.from_config(config.arch, shape, config.dataset.classes)


def engine_refusal(config: Config, arch: Architecture) -> str | None:
    """Why the engine cannot train the architecture under this configuration; None if it can."""
    conditions = training_conditions(config)
    return ENGINES[choose(config.engine.name, arch, *conditions)].refusal(arch, *conditions)


# --------------------------------------------------------------------------------------------- the command line


# Launchers whose jobs run on this machine; those of others may be on one that has what this one lacks.
LAUNCHERS_HERE = ("BasicLauncher", "JoblibLauncher", "LocalLauncher")

# Within `TaskConfig.made_of`: how much of a result there is and how it is made, so that runs may differ in it.
NOT_OF_THE_RESULT = {
    "zoo": ("models", "epochs", "shard", "block_size", "license"), "engine": ("threads",), "sparsify": ("epochs",),
}  # fmt: skip


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


def command_line_problems(
    overrides: typing.Sequence[str],
    config_dir: Path,
    multirun: bool = False,
    kind: type[Config] = Config,
    folders: typing.Sequence[str] = (),
) -> list[str]:
    """All that is wrong with the overrides of a command line, a sentence each; Hydra itself would stop at the first.

    Args:
        overrides: e.g. ["zoo=mnist_seed", "zoo.models=64"].
        config_dir: the folder that holds config.yaml.
        multirun: whether several values of an override are a sweep. Each value is checked, though not each combination.
        kind: as in `read_config`.
        folders: the user's own, of presets.
    """
    if problems := encoding_problems([str(config_dir), *folders]):
        return problems
    with composing(config_dir, folders):
        good, problems = _known_words(overrides, multirun, kind)
        elsewhere, made = multirun and _runs_elsewhere(good), []
        for chosen in _one_at_a_time(good):
            words = [word for word in chosen if not _is_of_hydra(word)]
            found = []
            try:
                made.append(read_config(compose("config", chosen), kind, words, elsewhere))
            except HydraException as error:
                found = [_text(error)]
            except UserError as error:
                found = sentences(error)
            problems += [problem for problem in found if problem not in problems]
        if not problems:
            problems = _sharing_problems(good, made)
    return problems


def known_words(words: typing.Sequence[str], kind: type[Config]) -> tuple[list[str], list[str]]:
    """The words of a command line whose groups, options and keys exist, and what is wrong with the others.

    Hydra must be initialised, as it is within `composing`.
    """
    good, problems = _known_words(words, False, kind)
    return [_as_text(override) for override in good], problems


def first_values(words: typing.Sequence[str]) -> list[str]:
    """The words of a sweep's command line with the first value of each. Hydra must be initialised."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return [_as_text(override) for override in parser.parse_overrides(list(words))]


def _known_words(words: typing.Sequence[str], multirun: bool, kind: type[Config]) -> tuple[list[Override], list[str]]:
    """As `known_words`, but the words parsed, and in a multirun with several values."""
    problems: list[str] = []
    parsed = []
    loader = GlobalHydra.instance().config_loader()
    for text in words:
        parser = OverridesParser.create(config_loader=loader)
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException:
            problems.append(_unreadable(text, loader))
            try:
                (override,) = parser.parse_overrides([_quoted(text.rstrip(", "))])  # what was meant, e.g. a path
            except HydraException:
                continue
        if not override.key_or_group:
            problems.append(f"{text!r} has no key: write KEY=VALUE, without blanks around =")
        elif override.is_sweep_override() and not multirun:
            problems.append(
                f"{text}: several values are a sweep; add -m, or write a list as [a,b], or one value with a comma in quotes: "
                f"{_to_type(text)}"
            )
        elif override.is_sweep_override() and _is_of_hydra(text):
            problems.append(f"{text}: several values, but what begins with hydra holds for all runs and has one")
        elif override.is_interval_sweep():
            problems.append(f"{text}: an interval has no end of values; write some, as a,b,c or range(0,10,2)")
        elif override.is_sweep_override() and not _choices(override):
            letters = "".join(override.value().include).replace("*", "")
            options = loader.get_group_options(override.key_or_group)
            problems.append(f"{text}: no name is like that{did_you_mean(letters, options)}")
        else:
            parsed.append(override)
    groups: Any = loader.repository  # type: ignore[attr-defined]
    good, values = [], []
    for override in parsed:
        key = override.key_or_group
        if not groups.group_exists(key):
            values.append(override)
            continue
        options = loader.get_group_options(key)
        wrong = [option for option in _choices(override) if option not in options]
        problems += [f"{key}: got {option!r}{did_you_mean(option, options)}" for option in wrong]
        meant = [near for choice in _choices(override) for near in difflib.get_close_matches(choice, options, 1)]
        if wrong and meant:  # what else is wrong is told of what was meant
            (override,) = OverridesParser.create().parse_overrides([f"{key}={','.join(meant)}"])
        if meant:
            good.append(override)
    lines = _one_at_a_time(good)
    first = lines[0]
    for chosen in lines:
        try:
            base = _compose_all(chosen)
        except HydraException as error:
            hint = "; a file in conf/zoo/ begins with the line # @package _global_" if "@zoo." in str(error) else ""
            return [], [*problems, f"{_text(error)}{hint}"]
        except yaml.YAMLError as error:
            return [], [*problems, f"a file in conf/ is no YAML: {' '.join(str(error).split())}"]
        for override in list(values):
            key = override.key_or_group
            unknown = None if override.is_add() else _unknown_key(base, kind, key, loader)
            if unknown:
                swept = [word for word in chosen if word not in first]
                problems.append(f"{key}: there is no such key with {swept[0]}" if swept else unknown)
                values.remove(override)
    return good + values, problems


def _unreadable(word: str, loader: Any) -> str:
    """What is wrong with a word of the command line that Hydra cannot read."""
    key, equals, value = word.partition("=")
    if not equals:
        groups = [group for group in sorted(_groups(loader)) if key in loader.get_group_options(group)]
        meant = f"; did you mean {' or '.join(f'{group}={key}' for group in groups)}?" if groups else ""
        return f"{word!r} cannot be read: write KEY=VALUE, without blanks around ={meant}"
    if value != value.rstrip(", "):
        value = value.rstrip(", ")
        return f"{word!r} cannot be read; did you mean {key}={value}?"
    return f"{word!r} cannot be read: a text with such characters stands in quotes: {_to_type(word)}"


def _quoted(word: str) -> str:
    """A word of the command line whose value is meant as a text as it stands, e.g. a path. What looks like a list, or is quoted
    already, stays as it is."""
    key, is_set, value = word.partition("=")
    if not is_set or value.startswith(("[", "{", "'", '"')):
        return word
    value = os.path.expanduser(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{value}'"


def _to_type(word: str) -> str:
    """`_quoted` for a shell."""
    word = _quoted(word)
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def _compose_all(words: list[str]) -> DictConfig:
    """What Hydra composes, its own configuration (`hydra`) among it."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return hydra.compose_config("config", words, run_mode=RunMode.RUN, from_shell=False, with_log_configuration=False)


def _is_of_hydra(word: str) -> bool:
    """Whether an override is of Hydra's own configuration."""
    return word.lstrip("+~").startswith(("hydra.", "hydra/"))


def _runs_elsewhere(overrides: list[Override]) -> bool:
    """Whether a launcher brings jobs to other machines."""
    try:
        launcher = _compose_all(_one_at_a_time(overrides)[0]).hydra.launcher
    except HydraException:  # which is told elsewhere
        return False
    return launcher._target_.rpartition(".")[2] not in LAUNCHERS_HERE


def _text(error: HydraException) -> str:
    """What Hydra says, on one line."""
    said = " ".join(str(error).split())
    cause = str(error.__cause__).partition("\n")[0] if error.__cause__ else ""
    return f"{said} ({cause})" if said and cause and cause not in said else said or cause


def _sharing_problems(overrides: list[Override], configs: list[Config]) -> list[str]:
    """Whether runs of a sweep make different things of one name, a sentence.

    Args:
        overrides: of the sweep.
        configs: of `_one_at_a_time(overrides)`.
    """
    first, others, sharing = configs[0], iter(configs[1:]), []
    for override in overrides:
        runs = [first, *(next(others) for _ in _choices(override)[1:])]
        made: dict[str, Any] = {}
        if any(made.setdefault(_filed_under(run), _made_of(run)) != _made_of(run) for run in runs):
            sharing.append(override)
    if not sharing:
        return []
    swept = " ".join(override.input_line or "" for override in sharing)
    *where, key = first.task.filed_under
    told = f"{swept}: several runs would write to one place ({_filed_under(first)})"
    given = any(word.startswith(f"{key}=") for word in first.overrides)
    if given and key.partition(".")[0] in [override.key_or_group for override in sharing]:
        return [f"{told}; leave {key}=… out"]
    parts = [_interpolation(first, override.key_or_group) for override in sharing]
    if None in parts:
        return [f"{told}; start them one by one, each with a {key} of its own"]
    name = attrgetter(key)(first) or "_".join(attrgetter(part)(first) for part in where)
    return [f"{told}; give each its own: '{key}={'_'.join([name, *map(str, parts)])}'"]


def _filed_under(config: Config) -> str:
    """Under which names of the configuration the results of a run are."""
    values = {key: attrgetter(key)(config) for key in (*config.task.filed_under, "paths.root")}
    return " ".join(f"{key}={value}" for key, value in values.items() if value is not None)


def _made_of(config: Config) -> dict[str, Any]:
    """What the results of a run are made of."""
    parts = {name: dict(vars(getattr(config, name))) for name in config.task.made_of}
    for name, part in parts.items():
        for key in NOT_OF_THE_RESULT.get(name, ()):
            part.pop(key)
    return parts


def _interpolation(config: Config, key: str) -> str | None:
    """How a name can hold the value of a key or group; None: it cannot."""
    try:
        value = attrgetter(key)(config)
        if dataclasses.is_dataclass(value):
            key, value = f"{key}.name", attrgetter(f"{key}.name")(config)
    except AttributeError:
        return None
    if isinstance(value, list) and len(value) == 1:
        key, value = f"{key}[0]", value[0]
    return f"${{{key}}}" if is_name(f"x{value}") else None


def _groups(loader: Any, parent: str = "") -> set[str]:
    """All config groups, e.g. dataset and zoo/kind."""
    found = set()
    for name in loader.list_groups(parent):
        group = f"{parent}/{name}" if parent else name
        found |= {group, *_groups(loader, group)}
    return found


def _choices(override: Override) -> list[str]:
    """The values of an override: one, or several in a sweep (zoo=a,b)."""
    if override.is_sweep_override():
        return [str(choice) for choice in override.sweep_string_iterator()]
    return [str(override.get_value_element_as_str())]


def _as_text(override: Override, choice: int = 0) -> str:
    """An override as text; of a sweep, one of its values."""
    if not override.is_sweep_override():
        return override.input_line or ""
    return f"{override.get_key_element()}={_choices(override)[choice]}"


def _one_at_a_time(overrides: list[Override]) -> list[list[str]]:
    """Command lines in which every value of every sweep occurs: first all first values, then one other value each."""
    lines = [[_as_text(override) for override in overrides]]
    for i, override in enumerate(overrides):
        for choice in range(1, len(_choices(override))):
            lines.append([*lines[0][:i], _as_text(override, choice), *lines[0][i + 1 :]])
    return lines


def _unknown_key(config: DictConfig, kind: Any, key: str, loader: Any) -> str | None:
    """What is wrong with a key that the configuration does not have; None if it has it."""
    node: Any = config
    walked = ""
    for part in key.split("."):
        inner = _inner(node)
        if part not in inner:
            known = [str(name) for name in inner]
            if not walked:
                known = [*known, *(group for group in _groups(loader) if not group.startswith("hydra"))]
            known = [f"{walked}{name}" for name in known if name != "hydra"]
            if near := _meant(config, key, known):
                return f"{key}: unknown key; did you mean {' or '.join(near)}?"
            if typing.get_origin(kind) is dict:
                return f"{key}: unknown key; there are {', '.join(sorted(known))}; to add one, write +{key}=…"
            return f"{key}: unknown key{did_you_mean(f'{walked}{part}', sorted(set(known)))}"
        node, walked = inner[part], f"{walked}{part}."
        kind = typing.get_type_hints(kind).get(part) if dataclasses.is_dataclass(kind) else None
    return None


def _meant(config: DictConfig, key: str, beside: list[str]) -> list[str]:
    """At most three keys of a configuration that an unknown one may have meant.

    A key beside it that is spelt almost like it; or else keys anywhere with the same last part, or with the initials of its
    words (learning_rate: lr); or else keys anywhere whose last part is spelt almost so.
    """
    place, _, last = key.rpartition(".")

    def spelt_alike(names: list[str]) -> set[str]:
        return set(difflib.get_close_matches(last, map(_last, names), 1, 0.8))

    here = [name for name in beside if name.rpartition(".")[0] == place]
    keys = sorted(_keys(config, key.startswith("hydra.")), key=lambda name: name.split(".")[0] != key.split(".")[0])
    choices: list[tuple[list[str], set[str]]] = [
        (here, spelt_alike(here)), (keys, {last}), (keys, {_initials(last)}),
        (keys, {other for other in map(_last, keys) if _initials(other) == last}), (keys, spelt_alike(keys)),
    ]  # fmt: skip
    for names, alike in choices:
        if near := [name for name in names if _last(name) in alike]:
            return near[:3]
    return []


def _last(key: str) -> str:
    """The last part of a key."""
    return key.rpartition(".")[2]


def _initials(name: str) -> str:
    """Of the words of a name: lr of learning_rate. Of one word, the word."""
    return "".join(word[:1] for word in name.split("_")) if "_" in name else name


def _inner(node: Any) -> dict[str, Any]:
    """What is in a node of a configuration; nothing, if it is a value."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
        return {}
    return {str(part): inner for part, inner in node.items_ex(resolve=False)}


def _keys(config: DictConfig, of_hydra: bool, walked: str = "") -> Iterator[str]:
    """All keys of a configuration below its groups, of Hydra's own or of all others."""
    for part, node in _inner(config).items():
        if walked:
            yield f"{walked}{part}"
        if walked or (part == "hydra") == of_hydra:
            yield from _keys(node, of_hydra, f"{walked}{part}.")
