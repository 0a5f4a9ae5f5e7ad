"""The configuration as typed objects, and everything that can be wrong with it, said at once.

Values live in `conf/*.yaml`; types, limits and meanings in the dataclasses beside the code they configure. `read_config`
turns what Hydra composed into those dataclasses; `command_line_problems` looks at the words of the command line before
Hydra acts on them, because Hydra stops at the first mistake.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
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
        built = Architecture.from_config(arch, plan_shape(dataset, arch.protocol, arch.image_size), dataset.classes)
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


def engine_refusal(config: Config, arch: Architecture) -> str | None:
    """Why the engine cannot train the architecture under this configuration; None if it can."""
    conditions = training_conditions(config)
    return ENGINES[choose(config.engine.name, arch, *conditions)].refusal(arch, *conditions)


# --------------------------------------------------------------------------------------------- the command line


def command_line_problems(
    overrides: list[str],
    config_dir: Path,
    multirun: bool = False,
    kind: type[Config] = Config,
    elsewhere: bool = False,
) -> list[str]:
    """All that is wrong with the overrides of a command line, a sentence each; Hydra itself would stop at the first.

    Args:
        overrides: e.g. ["zoo=mnist_seed", "zoo.models=64"].
        config_dir: the folder that holds config.yaml.
        multirun: whether several values of an override are a sweep. Each value is checked, though not each combination.
        kind, elsewhere: as in `read_config`.
    """
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        good, problems = _known_words(overrides, multirun, kind)
        for chosen in _one_at_a_time(good):
            found = []
            try:
                read_config(compose("config", chosen), kind, chosen, elsewhere)
            except HydraException as error:
                found = [str(error)]
            except UserError as error:
                found = sentences(error)
            problems += [problem for problem in found if problem not in problems]
    return problems


def _known_words(words: list[str], multirun: bool, kind: type[Config]) -> tuple[list[Override], list[str]]:
    """The words of a command line whose groups, options and keys exist, and what is wrong with the others."""
    problems: list[str] = []
    parsed = []
    for text in words:
        try:
            parsed.append(OverridesParser.create().parse_override(text))
        except HydraException as error:
            problems.append(f"{text!r} cannot be read as key=value ({str(error).splitlines()[0]})")
        else:
            if not parsed[-1].key_or_group:
                parsed.pop()
                problems.append(f"{text!r} has no key: write KEY=VALUE, without blanks around =")
            elif parsed[-1].is_sweep_override() and not multirun:
                problems.append(f"{text}: several values are a sweep; add -m, or write a list as [a,b]")
    loader = GlobalHydra.instance().config_loader()
    groups = _groups(loader)
    good, values = [], []
    for override in parsed:
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if key not in groups:
            values.append(override)
            continue
        options = loader.get_group_options(key)
        wrong = [option for option in _choices(override) if option not in options]
        problems += [f"{key}: got {option!r}{did_you_mean(option, options)}" for option in wrong]
        if not wrong:
            good.append(override)
    try:
        base = compose("config", [_as_text(override) for override in good])
    except HydraException as error:
        hint = "; a file in conf/zoo/ begins with the line # @package _global_" if "@zoo." in str(error) else ""
        return [], [*problems, f"{error}{hint}"]
    except yaml.YAMLError as error:
        return [], [*problems, f"a file in conf/ is no YAML: {' '.join(str(error).split())}"]
    for override in values:
        unknown = None if override.is_add() else _unknown_key(base, kind, override.key_or_group, groups)
        if unknown:
            problems.append(unknown)
        else:
            good.append(override)
    return good, problems


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


def _unknown_key(config: DictConfig, kind: Any, key: str, groups: set[str]) -> str | None:
    """What is wrong with a key that the configuration does not have; None if it has it."""
    node: Any = config
    walked = ""
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            known = [str(name) for name in node] if isinstance(node, DictConfig) else []
            if not walked:
                known = [*known, *(group for group in groups if not group.startswith("hydra"))]
            known = [f"{walked}{name}" for name in known if name != "hydra"]
            if alike := _ending_in(config, key.rpartition(".")[2]):
                near = sorted(alike, key=lambda name: name.split(".")[0] != key.split(".")[0])[:3]
                return f"{key}: unknown key; did you mean {' or '.join(near)}?"
            if typing.get_origin(kind) is dict:
                return f"{key}: unknown key; there are {', '.join(sorted(known))}; to add one, write +{key}=…"
            return f"{key}: unknown key{did_you_mean(f'{walked}{part}', sorted(set(known)))}"
        node, walked = node[part], f"{walked}{part}."
        kind = typing.get_type_hints(kind).get(part) if dataclasses.is_dataclass(kind) else None
    return None


def _ending_in(config: DictConfig, name: str, walked: str = "") -> list[str]:
    """All keys of a configuration whose last part is `name`."""
    found = [f"{walked}{name}"] if walked and name in config else []
    for part, node in config.items_ex(resolve=False):
        if isinstance(node, DictConfig) and part != "hydra":
            found += _ending_in(node, name, f"{walked}{part!s}.")
    return found
