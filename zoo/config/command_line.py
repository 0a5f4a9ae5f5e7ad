"""The configuration as typed objects, and everything that can be wrong with it, said at once.

Values live in `conf/*.yaml`; types, limits and meanings in the dataclasses beside the code they configure. `read_config`
turns what Hydra composed into those dataclasses; `command_line_problems` looks at the words of the command line before
Hydra acts on them, because Hydra stops at the first mistake.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import shlex
import typing
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from zoo.base.errors import UserError
from zoo.base.names import is_name
from zoo.config.reading import composing, derive, encoding_problems, joined, read_config
from zoo.config.sections import Config
from zoo.config.typed import did_you_mean


def derived_problems(config: Config, *words: str) -> list[str]:
    """What is wrong with words that are to be added to the command line of a configuration, a sentence each."""
    _, problems, _ = _known_words(joined(config, words), False, type(config))
    if problems:
        return problems
    try:
        derive(config, *words)
    except UserError as error:
        return error.problems
    return []


# Launchers whose jobs run on this machine; those of others may be on one that has what this one lacks.
LAUNCHERS_HERE = ("BasicLauncher", "JoblibLauncher", "LocalLauncher")
# Within `TaskConfig.made_of`: how much of a result there is and how it is made, so that runs may differ in it.
NOT_OF_THE_RESULT = {
    "zoo": ("models", "epochs", "shard", "block_size", "license"), "engine": ("threads",), "sparsify": ("epochs",),
}  # fmt: skip


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
        good, problems, composed = _known_words(overrides, multirun, kind)
        elsewhere, made = multirun and _runs_elsewhere(good), []
        for chosen in _one_at_a_time(good):
            words = [word for word in chosen if not _is_of_hydra(word)]
            found = []
            try:
                known = composed.get(tuple(chosen))  # composing takes 0.2 s
                config = compose("config", chosen) if known is None else known
                made.append(read_config(config, kind, words, elsewhere))
            except HydraException as error:
                found = [_text(error)]
            except UserError as error:
                found = error.problems
            problems += [problem for problem in found if problem not in problems]
        if not problems:
            problems = _sharing_problems(good, made)
    return problems


def known_words(words: typing.Sequence[str], kind: type[Config]) -> tuple[list[str], list[str]]:
    """The words of a command line whose groups, options and keys exist, and what is wrong with the others.

    Hydra must be initialised, as it is within `composing`.
    """
    good, problems, _ = _known_words(words, False, kind)
    return [_as_text(override) for override in good], problems


def first_values(words: typing.Sequence[str]) -> list[str]:
    """The words of a sweep's command line with the first value of each. Hydra must be initialised."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return [_as_text(override) for override in parser.parse_overrides(list(words))]


def _known_words(
    words: typing.Sequence[str], multirun: bool, kind: type[Config]
) -> tuple[list[Override], list[str], dict[tuple[str, ...], DictConfig]]:
    """As `known_words`, but the words parsed, and in a multirun with several values; and what was composed of some of them."""
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
            pattern = override.value()
            letters = "".join(pattern.include).replace("*", "") if isinstance(pattern, Glob) else ""
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
    first, composed = lines[0], {}
    for chosen in lines:
        try:
            base = _compose_all(chosen)
        except HydraException as error:
            hint = "; a file in conf/zoo/ begins with the line # @package _global_" if "@zoo." in str(error) else ""
            return [], [*problems, f"{_text(error)}{hint}"], {}
        except yaml.YAMLError as error:
            return [], [*problems, f"a file in conf/ is no YAML: {' '.join(str(error).split())}"], {}
        for override in list(values):
            key = override.key_or_group
            unknown = None if override.is_add() else _unknown_key(base, kind, key, loader)
            if unknown:
                swept = [word for word in chosen if word not in first]
                problems.append(f"{key}: there is no such key with {swept[0]}" if swept else unknown)
                values.remove(override)
        composed[tuple(chosen)] = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])
    return good + values, problems, composed


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
