"""`task=hyperrep`: train the autoencoder on the weights of a zoo.

Read top-down: `train_hyperrep` reads the zoo's states, lets Lightning drive `AutoencoderModule` through the epochs that
are missing, and prints what was learnt, on models it was trained on and on models it has never seen.
"""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytorch_lightning as pl
from rich.table import Table

from hyperrep.config import AutoencoderConfig, Config
from hyperrep.models.autoencoder import Autoencoder
from hyperrep.models.losses import r_squared
from hyperrep.models.module import AutoencoderModule, StatesData
from hyperrep.models.stored import describe, hyperrep_folder, load_autoencoder
from hyperrep.states import SPLITS, States, in_batches, read_states
from zoo import Zoo
from zoo.base.console import Progress, console
from zoo.base.errors import UserError
from zoo.base.files import locked, reading
from zoo.engines.choice import EngineConfig
from zoo.engines.evaluation import Networks
from zoo.images.data import ImageData
from zoo.networks.architecture import Architecture
from zoo.store.manifest import read_listed, write_listed
from zoo.store.schema import check_columns
from zoo.training.fitting import fit
from zoo.training.loggers import close, make_loggers
from zoo.training.opening import open_zoo, zoo_images


def train_hyperrep(config: Config) -> Autoencoder:
    """Train the autoencoder of `config`, or go on with it, and print how it reconstructs; the autoencoder.

    Raises:
        UserError: if the zoo is missing or unfinished, has no such epochs, or the folder holds another autoencoder.
    """
    pl.seed_everything(config.autoencoder.seed, verbose=False)
    zoo = open_zoo(config)
    images = zoo_images(config, zoo)
    folder = hyperrep_folder(config)
    states = read_states(zoo, config.autoencoder, folder.parent, images)
    arch = zoo.architecture
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another process ({{owner}}) is training the autoencoder in {folder}: wait until it ends, or stop it, and try again"
    with locked(folder / ".lock", busy):
        describe(config.autoencoder, zoo, folder)
        module = AutoencoderModule(config.autoencoder, arch, states, images, config.engine, folder)
        missing = config.autoencoder.optimizer.epochs - module.resume()
        if missing > 0:
            (folder / "results.csv").unlink(missing_ok=True)  # those of a shorter training
            name = f"{zoo.name}/{config.autoencoder.name}"
            module.curves = make_loggers(config, name, "hyperrep", str(folder.resolve()))
            _train(module, states["train"], missing, config)
            close(module.curves)
        autoencoder = load_autoencoder(folder, config.autoencoder, zoo)
        try:
            results = read_results(folder / "results.csv")
        except UserError:  # it is not there, or damaged
            results = reconstruction_results(autoencoder, arch, states, images, config.engine)
            results["uses_images"] = config.autoencoder.uses_images
            write_listed(folder / "results.csv", results.to_csv(index=False).encode())
    print_results(zoo, config.autoencoder, results)
    return autoencoder


def _train(module: AutoencoderModule, states: States, epochs: int, config: Config) -> None:
    """Train for so many epochs more, and show how far it is."""
    with Progress("training the autoencoder", module.steps * (module.done + epochs), "steps") as progress:
        progress.skip(module.steps * module.done)
        fit(
            module,
            StatesData(states, config.autoencoder, module),
            accelerator=config.trainer.accelerator,
            epochs=epochs,
            progress=progress,
            precision="bf16-mixed" if config.autoencoder.optimizer.bf16 else "32-true",
            gradient_clip_val=config.autoencoder.optimizer.clip,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
        )


# ------------------------------------------------------------------------------------------ results


def reconstruction_results(
    autoencoder: Autoencoder, arch: Architecture, states: dict[str, States], images: ImageData, engine: EngineConfig
) -> pd.DataFrame:
    """How each split is reconstructed, at the last of its epochs, on the test images: one row a model.

    Columns: split, model_id, accuracy (of the original), reconstructed (accuracy of the reconstruction), r2 (relative to
    the mean of the train split).
    """
    mean, rows = states["train"].weights.mean(0), []
    for split in SPLITS:
        last = states[split].at(int(states[split].table["epoch"].max()))
        decoded = in_batches(lambda weights: autoencoder(weights)[1], last.weights)
        with Networks(arch, decoded, last.table, images, engine) as networks:
            accuracy = networks.scores(images.test).accuracy
        for i, (model, original) in enumerate(zip(last.table["model_id"], last.table["test_acc"], strict=True)):
            r2 = float(r_squared(decoded[i], last.weights[i], mean))
            rows.append((split, int(model), float(original), float(accuracy[i]), r2))
    return pd.DataFrame(rows, columns=["split", "model_id", "accuracy", "reconstructed", "r2"])


def read_results(file: Path) -> pd.DataFrame:
    """`reconstruction_results` as they are kept. Raises UserError if the file is damaged."""
    with reading(file, "remove it, and run the same command again"):
        results = pd.read_csv(io.BytesIO(read_listed(file)))
        check_columns(results, ("model_id", "accuracy", "reconstructed", "r2"), ("split",))
        return results


def print_results(zoo: Zoo, config: AutoencoderConfig, results: pd.DataFrame) -> None:
    """A table: train, val and test models; the last two were never trained on."""
    note = "; its training used images" if config.uses_images else ""
    table = Table(title=f"Autoencoder {config.name} of zoo {zoo.name}{note}", title_justify="left")
    for column in ("models", "n", "test accuracy of originals", "of reconstructions", "R²"):
        table.add_column(column)
    for split, rows in results.groupby("split", sort=False):
        seen = "trained on" if split == "train" else "unseen"
        spread = [
            f"{100 * rows[c].mean():.1f} ± {100 * rows[c].std(ddof=0):.1f} %" for c in ("accuracy", "reconstructed")
        ]
        table.add_row(f"{split} ({seen})", str(len(rows)), *spread, f"{rows['r2'].mean():.3f}")
    console.print(table, highlight=False)
