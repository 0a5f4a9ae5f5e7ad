"""An autoencoder on disk: what it was trained on and how, its checkpoints, and how it is loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from torch import Tensor

from hyperrep.config import AutoencoderConfig, Config
from hyperrep.models.autoencoder import Autoencoder
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.base.files import reading
from zoo.store.manifest import read_listed, write_listed
from zoo.store.schema import check_hyperrep, check_progress, parse_json


def hyperrep_folder(config: Config) -> Path:
    """Where the autoencoder of a config lives."""
    return Path(config.paths.root) / "hyperreps" / config.zoo.name / config.autoencoder.name


def describe(config: AutoencoderConfig, zoo: Zoo, folder: Path) -> None:
    """Write hyperrep.json, or compare with the one there.

    Raises:
        UserError: naming what differs.
    """
    description = _description(config, zoo)
    if (folder / "hyperrep.json").exists():
        there = trained_description(folder)
        epochs = there["autoencoder"]["optimizer"]["epochs"]
        if (
            config.optimizer.schedule != "cosine"
            and config.loss.behaviour_full == 0
            and epochs < config.optimizer.epochs
        ):
            # Both span the epochs; without them, a longer training begins like a shorter one.
            there["autoencoder"]["optimizer"]["epochs"] = config.optimizer.epochs
        _refuse_differences(folder, there, description)
    write_listed(folder / "hyperrep.json", json.dumps(description, indent=1).encode())


def _description(config: AutoencoderConfig, zoo: Zoo) -> dict[str, Any]:
    description = {
        "autoencoder": asdict(config), "zoo": zoo.name, "arch": zoo.description["arch"],
        "fingerprint": zoo.description["dataset"]["fingerprint"], "models": zoo.n_models,
        "made_from": zoo.identity, "uses_images": config.uses_images,
    }  # fmt: skip
    return json.loads(json.dumps(description))


def _refuse_differences(folder: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    wrong = differences(there, asked)
    if wrong:
        raise UserError(
            f"{folder} holds another autoencoder: {'; '.join(wrong)}. Give this one another name (autoencoder.name=…) "
            "or remove the folder"
        )


def differences(there: Any, asked: Any, key: str = "") -> list[str]:
    """Where two JSON values differ: "key: there …, now …"."""
    if isinstance(there, dict) and isinstance(asked, dict):
        keys = list(dict.fromkeys([*there, *asked]))
        return [d for k in keys for d in differences(there.get(k), asked.get(k), f"{key}.{k}" if key else k)]
    return [] if there == asked else [f"{key} was {there!r:.200}, now {asked!r:.200}"]


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and progress of a checkpoint.

    Raises:
        UserError: if the file is damaged.
    """
    try:
        with reading(file, _remedy(file)):
            data = read_listed(file)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            progress = json.loads(header["__metadata__"]["progress"])  # with infinities
            check_progress(progress)
            return from_safetensors(data), progress
    except SafetensorError as error:
        raise UserError(f"{file} is damaged ({error}): {_remedy(file)}") from error


def load_weights(autoencoder: Autoencoder, tensors: dict[str, Tensor], file: Path) -> None:
    """Put the weights of a checkpoint into an autoencoder. Raises UserError if they are of another one."""
    found = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    wanted = autoencoder.state_dict()
    if {n: (v.dtype, v.shape) for n, v in found.items()} != {n: (v.dtype, v.shape) for n, v in wanted.items()}:
        raise UserError(f"{file} is damaged (it holds the weights of another autoencoder): {_remedy(file)}")
    autoencoder.load_state_dict(found)


def _remedy(file: Path) -> str:
    return f"restore it from a copy, or remove {file.parent} and train again"


def load_autoencoder(folder: Path, config: AutoencoderConfig, zoo: Zoo) -> Autoencoder:
    """The best autoencoder of a folder, in evaluation mode.

    Raises:
        UserError: if it is not trained, or is another one than `config` describes (how it was optimised aside).
    """
    last, best = folder / "last.safetensors", folder / "best.safetensors"
    if not last.exists():
        raise UserError(f"no trained autoencoder in {folder}: make it with task=hyperrep and the same overrides")
    there, asked = trained_description(folder), _description(config, zoo)
    epochs = there["autoencoder"]["optimizer"]["epochs"]
    there["autoencoder"]["optimizer"] = asked["autoencoder"]["optimizer"]
    _refuse_differences(folder, there, asked)
    done = read_checkpoint(last)[1]["done"]
    if done < epochs:
        raise UserError(
            f"the autoencoder in {folder} was trained for {done} of {epochs} epochs: task=hyperrep with the same overrides "
            "goes on"
        )
    if not best.exists():
        raise UserError(
            f"the training in {folder} diverged: its loss on validation models was never finite; try a smaller "
            "autoencoder.optimizer.lr under another autoencoder.name"
        )
    autoencoder = Autoencoder(config, zoo.architecture)
    load_weights(autoencoder, read_checkpoint(best)[0], best)
    return autoencoder.eval()


def trained_description(folder: Path) -> dict[str, Any]:
    """What hyperrep.json says of the autoencoder in a folder. Raises UserError if it is damaged."""
    file = folder / "hyperrep.json"
    with reading(file, _remedy(file)):
        found = parse_json(read_listed(file))
        check_hyperrep(found)
        return found


def autoencoder_hash(folder: Path) -> str:
    """sha256 of the best autoencoder in a folder."""
    file = folder / "best.safetensors"
    with reading(file, _remedy(file)):
        return hashlib.sha256(read_listed(file)).hexdigest()
