"""`task=hyperrep`: train the autoencoder on the weights of a zoo.

Read top-down: `train_hyperrep` reads the zoo's states, lets Lightning drive `AutoencoderModule` through the epochs that
are missing, and prints what was learnt, on models it was trained on and on models it has never seen.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.utils.data import DataLoader

from hyperrep.augmentation import Augmentation
from hyperrep.config import AutoencoderConfig, Config
from hyperrep.models.autoencoder import Autoencoder
from hyperrep.models.losses import (
    Mixture,
    behavioural_loss,
    layer_of_parameter,
    layer_sigmas,
    nt_xent,
    outputs,
    r_squared,
    reconstruction_loss,
)
from hyperrep.states import SPLITS, States, read_states
from zoo import Zoo
from zoo.base.console import Progress, console
from zoo.base.errors import UserError
from zoo.base.files import locked, reading
from zoo.engines.choice import EngineConfig
from zoo.engines.evaluation import Networks
from zoo.images.data import ImageData, Images
from zoo.networks.architecture import Architecture
from zoo.store.manifest import read_listed, write_listed
from zoo.store.schema import check_columns, check_hyperrep, check_progress, parse_json
from zoo.training.fitting import fit
from zoo.training.loggers import close, make_loggers, tell
from zoo.training.opening import open_zoo, zoo_images

WATCHED_MODELS = 100  # whose reconstructions are evaluated on images while training, of each split
WATCHED_IMAGES = 2000  # validation images that is done on
SAVING = 0.1  # share of the time that may go into checkpoints: those of `published` are 540 MB, and its epochs short on a GPU
PATIENCE, CUT = 10, 0.3  # schedule=plateau: as published (torch's ReduceLROnPlateau)


def train_hyperrep(config: Config) -> None:
    """Train the autoencoder of `config`, or go on with it, and print how it reconstructs.

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


class StatesData(pl.LightningDataModule):
    """The training states in a fresh order every epoch: batches of row numbers.

    The order is a function of seed and epoch, so that a resumed training sees the same.
    """

    def __init__(self, states: States, config: AutoencoderConfig, module: AutoencoderModule) -> None:
        super().__init__()
        self.states, self.size, self.seed, self.module = states, config.optimizer.batch_size, config.seed, module

    def train_dataloader(self) -> DataLoader:
        """Row numbers, int64 [batch]; a last batch too small for batch norm and contrast is left out."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.module.done)
        batches = torch.randperm(len(self.states.weights), generator=generator).split(self.size)
        whole = [batch for batch in batches if len(batch) == self.size] or list(batches)
        return DataLoader(whole, batch_size=None)  # type: ignore[arg-type]


class AutoencoderModule(pl.LightningModule):
    """Trains an `Autoencoder`; `done` epochs so far.

    Args:
        config: of the autoencoder.
        arch: of the networks.
        states: by split. "train" is learnt, "val" chooses the best checkpoint, "test" is not touched.
        images: of the zoo; for the behavioural loss (training images without labels) and to watch accuracy.
        engine: how reconstructed networks are evaluated.
        folder: where last.safetensors and best.safetensors are kept. The first is written after an epoch if a tenth of the
            time, `SAVING`, is enough for it, and after the last epoch.
    """

    def __init__(
        self,
        config: AutoencoderConfig,
        arch: Architecture,
        states: dict[str, States],
        images: ImageData,
        engine: EngineConfig,
        folder: Path,
    ) -> None:
        super().__init__()
        train = states["train"].weights
        self.config, self.arch, self.states, self.images = config, arch, states, images
        self.engine, self.seed, self.folder = engine, config.seed, folder
        torch.manual_seed(config.seed)
        self.autoencoder = Autoencoder(config, arch, train.mean(0) if config.centre else None)
        self.sigmas = layer_sigmas(train, arch) if config.loss.normalise else None
        self.augmentation = Augmentation(config.augmentation, arch)
        self.views = self.autoencoder
        if config.optimizer.compile:
            self.views = torch.compile(self.autoencoder)  # type: ignore[assignment]
        self.done, self.best = 0, math.inf
        self.plateau = Plateau()
        # What reconstructions are watched on while training: nothing that is reported on.
        watched = images.val if len(images.val) else images.train
        self.watched = Images(watched.pixels[:WATCHED_IMAGES], watched.labels[:WATCHED_IMAGES])
        self.sums: dict[str, Tensor] = {}
        self.steps = max(1, len(train) // config.optimizer.batch_size)
        self.began = self.save_next = time.monotonic()
        self.curves: list[Logger] = []  # where losses and reconstructions go, epoch by epoch

    # ------------------------------------------------------------------------------------------ one step

    def on_fit_start(self) -> None:
        """The data go where the model is."""
        self.train_weights = self.states["train"].weights.to(self.device)
        self.activations = self.states["train"].table["activation"].tolist()
        self.pixels = self.images.train.pixels.to(self.device)
        self.images = self.images.to(self.device)
        self.sigmas = None if self.sigmas is None else self.sigmas.to(self.device)
        self.random = torch.Generator(self.device)
        self.began = self.save_next = time.monotonic()

    def on_train_epoch_start(self) -> None:
        """Running sums of the losses from 0."""
        self.sums = {}

    def on_train_batch_start(self, batch: Tensor, batch_index: int) -> None:
        """Set the learning rate of the step, and seed all that is random in it.

        Seed and number of the step alone decide, so that a resumed training is the same: between steps, others (loaders,
        validation) may draw what they like.
        """
        step = self.done * self.steps + batch_index
        self.behaviour_weight = self._behaviour_weight(step)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.config.optimizer.lr * self._rate(step)
        torch.manual_seed(self.seed * 1_000_003 + step)  # dropout
        self.random.manual_seed(self.seed * 1_000_003 + step)

    def _rate(self, step: int) -> float:
        if self.config.optimizer.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * step / (self.config.optimizer.epochs * self.steps)))
        return self.plateau.factor

    def _behaviour_weight(self, step: int) -> float:
        """0 until `behaviour_from` of the training, then rising to the weight that the config gives, at `behaviour_full`."""
        config, progress = self.config.loss, step / (self.config.optimizer.epochs * self.steps)
        if progress >= config.behaviour_full:
            return config.behaviour
        done = (progress - config.behaviour_from) / (config.behaviour_full - config.behaviour_from)
        return config.behaviour * max(0.0, done)

    def training_step(self, rows: Tensor) -> Tensor:
        """The loss of a batch of states."""
        weights = self.train_weights[rows.to(self.device)]
        losses = self.losses(weights, [self.activations[i] for i in rows.tolist()], self.behaviour_weight)
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()
        return losses["loss"]

    def losses(self, weights: Tensor, activations: list[str], behaviour_weight: float) -> dict[str, Tensor]:
        """All terms for a batch [B, P], and their weighted sum as "loss"."""
        config = self.config.loss
        views = [self.augmentation(weights, self.random) for _ in range(2 if config.contrast > 0 else 1)]
        inputs, targets = (torch.cat(parts) for parts in zip(*views, strict=True))
        embeddings, decoded = self.views(inputs)
        terms = {"reconstruction": reconstruction_loss(decoded, targets, self.sigmas)}
        total = (1 - config.contrast) * terms["reconstruction"]
        if config.contrast > 0:
            assert self.autoencoder.projection is not None
            first, second = self.autoencoder.projection(embeddings).chunk(2)
            terms["contrast"] = nt_xent(first.float(), second.float(), config.temperature)
            total = total + config.contrast * terms["contrast"]
        if behaviour_weight > 0:
            chosen = torch.randint(
                len(self.pixels), (config.behaviour_images,), generator=self.random, device=self.device
            )
            images, names = self.images.normalise(self.pixels[chosen]), activations * len(views)
            mixture = Mixture(len(targets), self.random)
            between = self.autoencoder.decode(mixture(embeddings)) if config.between > 0 else None
            with torch.autocast(self.device.type, enabled=False):
                with torch.no_grad():
                    wanted = outputs(self.arch, targets.float(), images, names)
                terms["behaviour"] = behavioural_loss(outputs(self.arch, decoded.float(), images, names), wanted)
                total = total + behaviour_weight * terms["behaviour"]
                if between is not None:
                    got = outputs(self.arch, between.float(), images, names)
                    terms["between"] = behavioural_loss(got, mixture(wanted))
                    total = total + behaviour_weight * config.between * terms["between"]
        return {"loss": total, **terms}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW, with the moments of the last checkpoint if there are any."""
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.config.optimizer.name]
        named = dict(self.autoencoder.named_parameters())
        optimizer = kind(named.values(), lr=self.config.optimizer.lr, weight_decay=self.config.optimizer.weight_decay)
        for name, parameter in named.items():
            moments = {
                key: self.moments[f"{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in self.moments
            }
            if moments:
                optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter) for key, value in moments.items()
                }
        return optimizer

    # ------------------------------------------------------------------------------------------ after an epoch

    def on_train_epoch_end(self) -> None:
        """Schedule, validation, checkpoint; in this order."""
        config = self.config.optimizer
        self.done += 1
        means = {name: float(total) / self.steps for name, total in self.sums.items()}
        if config.schedule == "plateau":
            self.plateau.step(means["loss"])
        measured: dict[str, float] = {}
        if self.done % config.validate_every == 0 or self.done == config.epochs:
            measured = self.validate_now()
            if measured["val/loss"] < self.best:
                self.best = measured["val/loss"]
                self._save("best.safetensors", with_optimizer=False)
            spent, left = time.monotonic() - self.began, config.epochs - self.done
            pace = spent / max(1, self.trainer.current_epoch + 1)
            console.print(
                f"epoch {self.done}/{config.epochs}, {left * pace / 60:.0f} min left: loss {means['loss']:.4f}, unseen "
                f"{measured['val/loss']:.4f}; R² {measured['seen/r2']:.3f}, unseen {measured['val/r2']:.3f}; accuracy of "
                f"reconstructions {100 * measured['seen/accuracy']:.1f} %, unseen {100 * measured['val/accuracy']:.1f} %",
                highlight=False,
                soft_wrap=True,
            )
        row = {f"train/{name}": value for name, value in means.items()} | measured
        tell(self.curves, lambda logger: logger.log_metrics(row, step=self.done))
        if self.done == config.epochs or time.monotonic() >= self.save_next:
            began = time.monotonic()
            self._save("last.safetensors", with_optimizer=True)
            ended = time.monotonic()
            self.save_next = ended + (ended - began) * (1 / SAVING - 1)

    @torch.no_grad()
    def validate_now(self) -> dict[str, float]:
        """Loss, R² overall and by layer, and accuracy of reconstructions, of clean states at the last of the epochs.

        Of 100 models that are trained on ("seen/…") and of 100 of the validation split ("val/…").
        """
        self.autoencoder.eval()
        layers = layer_of_parameter(self.arch).to(self.device)
        names = [layer.name for layer in self.autoencoder.tokens.layers]
        mean = self.train_weights.mean(0)
        few = self.watched.to(self.device)
        measured = {}
        for name, split in (("seen", "train"), ("val", "val")):
            states = self.states[split].at(max(self.config.states), WATCHED_MODELS)
            weights = states.weights.to(self.device)
            decoded = self.autoencoder(weights)[1]
            measured[f"{name}/r2"] = float(r_squared(decoded, weights, mean))
            for i, layer in enumerate(names):
                of = layers == i
                measured[f"{name}/r2_{layer}"] = float(r_squared(decoded[:, of], weights[:, of], mean[of]))
            loss = (1 - self.config.loss.contrast) * reconstruction_loss(decoded, weights, self.sigmas)
            if self.config.loss.behaviour > 0:
                seen = self.images.normalise(few.pixels[:256])
                activations = states.table["activation"].tolist()
                wanted, got = (outputs(self.arch, w, seen, activations) for w in (weights, decoded))
                loss = loss + self.config.loss.behaviour * behavioural_loss(got, wanted)
            measured[f"{name}/loss"] = float(loss)
            with Networks(self.arch, decoded, states.table, self.images, self.engine, self.device) as networks:
                measured[f"{name}/accuracy"] = float(networks.scores(few).accuracy.mean())
        self.autoencoder.train()
        return measured

    # ------------------------------------------------------------------------------------------ checkpoints

    def _save(self, name: str, with_optimizer: bool) -> None:
        tensors = {f"model.{key}": value for key, value in self.autoencoder.state_dict().items()}
        if with_optimizer:
            state = self.optimizers().optimizer.state  # type: ignore[union-attr]
            for key, parameter in self.autoencoder.named_parameters():
                tensors |= {f"{kind}.{key}": value for kind, value in state.get(parameter, {}).items()}
        progress = {"done": self.done, "best": self.best, "plateau": asdict(self.plateau)}
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        write_listed(self.folder / name, to_safetensors(tensors, {"progress": json.dumps(progress)}))

    def resume(self) -> int:
        """Take over last.safetensors if there is one; how many epochs are done."""
        file = self.folder / "last.safetensors"
        self.moments: dict[str, Tensor] = {}
        if file.exists():
            tensors, progress = read_checkpoint(file)
            self.done, self.best, self.plateau = progress["done"], progress["best"], Plateau(**progress["plateau"])
            load_weights(self.autoencoder, tensors, file)
            self.moments = {k: v for k, v in tensors.items() if not k.startswith("model.")}
            shapes = {name: parameter.shape for name, parameter in self.autoencoder.named_parameters()}
            for key, value in self.moments.items():
                kind, _, name = key.partition(".")
                if value.shape != (() if kind == "step" else shapes.get(name)):
                    raise UserError(
                        f"{file} is damaged (its {key!r:.200} is no state of the optimiser): {_remedy(file)}"
                    )
        return self.done


@dataclass
class Plateau:
    """schedule=plateau, as published: torch's ReduceLROnPlateau with factor 0.3 on the training loss.

    Attributes:
        factor: of the learning rate.
        lowest: loss so far.
        bad: epochs since it was last undercut by more than one in 10,000.
    """

    factor: float = 1.0
    lowest: float = math.inf
    bad: int = 0

    def step(self, loss: float) -> None:
        """After an epoch: a loss that is no better for more than 10 epochs cuts the rate."""
        if loss < self.lowest * (1 - 1e-4):
            self.lowest, self.bad = loss, 0
        else:
            self.bad += 1
        if self.bad > PATIENCE:
            self.factor, self.bad = self.factor * CUT, 0


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


@torch.no_grad()
def in_batches(function: Any, values: Tensor, size: int = 500) -> Tensor:
    """`function` of a long batch, a part at a time."""
    return torch.cat([function(part) for part in values.split(size)])


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
