"""The zoo and the images of a configuration."""

from __future__ import annotations

import shlex
from pathlib import Path

from zoo.base.errors import UserError
from zoo.config.sections import Config
from zoo.config.typed import MOST_NAMES
from zoo.images.data import ImageData, load_images
from zoo.store.zoo import Zoo


def read_images(config: Config) -> ImageData:
    """The images of a config, from its folders or downloaded. Raises UserError if they cannot be had."""
    folders = [Path(folder) for folder in config.paths.system_data]
    return load_images(config.dataset, config.arch.protocol, config.arch.image_size, Path(config.paths.data), folders)


def open_zoo(config: Config, part: bool = False) -> Zoo:
    """The finished zoo of a config.

    Args:
        config: which.
        part: whether only its first `zoo.models` may be wanted.

    Raises:
        UserError: if there is none, with the command that makes it, or a part is asked for.
    """
    path = Path(config.paths.root) / "zoos" / config.zoo.name
    if not (path / "zoo.json").exists():
        raise UserError(f"zoo.name: there is no zoo {config.zoo.name!r} under {path.parent}; {_advice(config)}")
    zoo = Zoo.open(path, config.arch.module)
    if not zoo.finished:
        raise UserError(f"zoo {config.zoo.name!r} is not finished: {zoo.redo} to finish it")
    if not part and (config.zoo.models or zoo.n_models) < zoo.n_models:
        raise UserError(
            f"zoo.models: got {config.zoo.models}, but zoo {zoo.name!r} has {zoo.n_models} models, and task={config.task.name} "
            "takes all of them: leave it out, or train fewer under another zoo.name"
        )
    return zoo


def _advice(config: Config) -> str:
    """What to do where the zoo of a config is not there: a preset's can be made; of another name nobody knows how."""
    if not any(word.startswith("zoo.name=") for word in config.overrides):
        kept = [word for word in config.overrides if word.startswith(("zoo", "dataset", "arch", "paths", "experiment"))]
        return f"make it with `{' '.join(['python run.py', *map(shlex.quote, kept)])}`"
    there = sorted(path.parent.name for path in (Path(config.paths.root) / "zoos").glob("*/zoo.json"))
    return f"check the name; there are {', '.join(there[:MOST_NAMES]) or 'none'}"


def zoo_images(config: Config, zoo: Zoo) -> ImageData:
    """The images that a zoo was trained on.

    Raises:
        UserError: if those of the config are others.
    """
    data = read_images(config)
    dataset = zoo.description["dataset"]
    theirs = dataset["fingerprint"]
    same = dataset["name"] == config.dataset.name and dataset.get("train_size") == config.dataset.train_size
    if theirs is None and same:
        return data  # an imported zoo: nobody knows which images exactly
    if data.fingerprint != theirs:
        asked = {key: getattr(config.dataset, key) for key in ("name", "train_size", "split_seed")}
        was, now = (", ".join(f"{key}={some.get(key)}" for key in asked) for some in (dataset, asked))
        raise UserError(
            f"zoo {zoo.name!r} was trained on other images (dataset: {was}) than the configuration gives ({now}): use the zoo's "
            "own dataset overrides"
        )
    return data
