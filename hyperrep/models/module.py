"""The training of an autoencoder as a Lightning module."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from hyperrep.augmentation import Augmentation
from hyperrep.config import AutoencoderConfig
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
from hyperrep.models.stored import _remedy, load_weights, read_checkpoint
from hyperrep.states import States
from zoo.base.console import console
from zoo.base.errors import UserError
from zoo.engines.choice import EngineConfig
from zoo.engines.evaluation import Networks
from zoo.images.data import ImageData, Images
from zoo.networks.architecture import Architecture
from zoo.store.manifest import write_listed
from zoo.training.loggers import tell

WATCHED_MODELS = 100  # whose reconstructions are evaluated on images while training, of each split
WATCHED_IMAGES = 2000  # validation images that is done on
SAVING = 0.1  # share of the time that may go into checkpoints: those of `published` are 540 MB, and its epochs short on a GPU
PATIENCE, CUT = 10, 0.3  # schedule=plateau, on the training loss, as published


class StatesData(pl.LightningDataModule):
    """The training states in a fresh order every epoch: batches of row numbers.

    The order is a function of seed and epoch, so that a resumed training sees the same.
    """

    def __init__(self, states: States, config: AutoencoderConfig, module: AutoencoderModule) -> None:
        super().__init__()
        self.states, self.size, self.seed, self.module = states, config.optimizer.batch_size, config.seed, module

    def train_dataloader(self) -> DataLoader[Any]:
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
        self.plateau = ReduceLROnPlateau(SGD([nn.Parameter(torch.zeros(1))], lr=1.0), factor=CUT, patience=PATIENCE)
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
        return self._rate_on_plateau

    @property
    def _rate_on_plateau(self) -> float:
        return self.plateau.optimizer.param_groups[0]["lr"]

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
        plateau = {"factor": self._rate_on_plateau, "lowest": self.plateau.best, "bad": self.plateau.num_bad_epochs}
        progress = {"done": self.done, "best": self.best, "plateau": plateau}
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        write_listed(self.folder / name, to_safetensors(tensors, {"progress": json.dumps(progress)}))

    def resume(self) -> int:
        """Take over last.safetensors if there is one; how many epochs are done."""
        file = self.folder / "last.safetensors"
        self.moments: dict[str, Tensor] = {}
        if file.exists():
            tensors, progress = read_checkpoint(file)
            self.done, self.best = progress["done"], progress["best"]
            plateau = progress["plateau"]
            self.plateau.best, self.plateau.num_bad_epochs = plateau["lowest"], plateau["bad"]
            self.plateau.optimizer.param_groups[0]["lr"] = plateau["factor"]
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
