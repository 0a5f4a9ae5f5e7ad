"""What an engine is: it trains the models of one block in lockstep, one epoch at a time."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.images.data import ImageData, Images
from zoo.networks.architecture import Architecture
from zoo.networks.initialization import initial_module
from zoo.networks.pruning import places, prune

MOMENTUM = 0.9  # of SGD; without Nesterov
ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8
EVALUATED_AT_ONCE = 10_000  # images whose outputs are held in memory

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Protocol:
    """How every model of a zoo is trained (Model Zoos, Schürholt et al., 2022)."""

    batch_size: int
    epochs: int  # the whole training: what schedule=onecycle spans
    schedule: str  # "constant" or "onecycle"
    divergence_rate: float = 0.0  # of a variational architecture: what its weight in the loss grows by, an epoch
    pruned: tuple[float, ...] = ()  # share of the weights that is pruned before epoch 1, 2, …; pruned ones stay 0

    def divergence_weight(self, epoch: int) -> float:
        """What the divergence counts in the loss beside the cross-entropy: 0 in epoch 1, then more each epoch, at most 1."""
        return min(1.0, self.divergence_rate * (epoch - 1))

    def pruned_share(self, epoch: int) -> float:
        """The share of the weights that is pruned before an epoch (1 for the first)."""
        return self.pruned[min(epoch, len(self.pruned)) - 1] if self.pruned else 0.0


@dataclass(frozen=True)
class Scores:
    """How each model of a block does on a set of images.

    Attributes:
        loss: float64 [models], mean cross-entropy in nats; NaN where there is no image.
        accuracy: float64 [models], fraction of correct predictions; NaN where there is no image.
        class_accuracy: float64 [models, classes], the same for the images of each class.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    class_accuracy: np.ndarray


@dataclass(frozen=True)
class Population:
    """A block of models as matrices: what is stored, and what training goes on from.

    Attributes:
        weights: float32 [models, parameters].
        buffers: float32 [models, buffers] (BatchNorm's running statistics; no columns for a list of layers).
        first_moment: float32 [models, parameters]: Adam's mean of gradients, SGD's momentum.
        second_moment: float32 [models, parameters]: Adam's mean of squared gradients; 0 for SGD.
        step: int64 [models]: optimiser steps taken.
    """

    weights: np.ndarray
    buffers: np.ndarray
    first_moment: np.ndarray
    second_moment: np.ndarray
    step: np.ndarray


def _prepare_thread() -> None:
    """Of a pool that trains models: one thread inside an operation, and numbers below 1e-38 are 0.

    Averages of vanishing gradients decay into those numbers, with which processors are slow (docs/PERFORMANCE.md); next to
    Adam's epsilon of 1e-8 they are nothing.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


class Engine(ABC):
    """Trains and evaluates one block of models.

    Use: `load` a population, then for each epoch `start_epoch(e)`, `train(first, last)` over all steps in order and
    `finish_epoch()`; `evaluate` and `population` at any time between epochs. A model's result is a function of its
    own row, the images and the protocol, never of the other models of the block.

    Args:
        arch: the architecture of all models.
        models: one row a model with seed, activation, optimizer, lr, weight_decay, dropout.
        data: the images; normalised by the engine, on its device.
        protocol: batch size, length and schedule.
        device: where it computes.
        threads: models that are worked on at the same time (CPU); None: as many as there are cores.
    """

    name: ClassVar[str]

    def __init__(
        self,
        arch: Architecture,
        models: pd.DataFrame,
        data: ImageData,
        protocol: Protocol,
        device: torch.device | str = "cpu",
        threads: int | None = None,
    ) -> None:
        self.arch, self.models, self.protocol = arch, models.reset_index(drop=True), protocol
        self.device = torch.device(device)
        self.data = data.to(self.device)
        # Models are the parallel dimension: one thread inside an operation, several models side by side. It also keeps
        # the order of every sum, and so the bits, independent of the number of threads.
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(1)
        if self.device.type == "cuda":  # the same bits every time, and those of float32
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.threads = (threads or available_cores()) if self.device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self.threads, initializer=_prepare_thread)
        self.steps_per_epoch = -(-len(data.train) // protocol.batch_size)  # the last, partial batch is trained
        self.epoch = 0

    @classmethod
    def processor(cls, device: torch.device) -> str | None:
        """On which kind of processor the last bits of models depend; None: they are the same on all.

        PyTorch and the libraries that it calls choose their code, and with it the order of sums, by instruction set and
        maker.
        """
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        return f"{torch.backends.cpu.get_cpu_capability()} {of_processor('vendor_id')}"

    @abstractmethod
    def load(self, population: Population) -> None:
        """Take over a population (initial, stored or sampled weights)."""

    @abstractmethod
    def population(self) -> Population:
        """The models as they are now; copies on the host."""

    def prune(self, epoch: int) -> None:
        """Set to 0 what the protocol prunes before an epoch; call it before `start_epoch`."""
        share = self.protocol.pruned_share(epoch)
        if not share or (epoch > 1 and share == self.protocol.pruned_share(epoch - 1)):
            return  # nothing more: what is 0 stays 0
        now = self.population()
        weights = prune(now.weights, self.arch, share)
        moved = self.trained(weights)
        first, second = (np.where(moved, moment, 0) for moment in (now.first_moment, now.second_moment))
        self.load(Population(weights, now.buffers, first, second, now.step))

    def trained(self, weights: np.ndarray) -> np.ndarray:
        """Which of the weights [models, P] training moves: bool [models, P]. With a protocol that prunes, no weight (but
        biases) that is 0."""
        moved = np.ones(weights.shape, bool)
        if self.protocol.pruned:
            at = places(self.arch)
            moved[:, at] = weights[:, at] != 0
        return moved

    @abstractmethod
    def start_epoch(self, epoch: int) -> None:
        """Prepare training epoch `epoch` (1 for the first): batch orders, running averages from 0."""

    @abstractmethod
    def train(self, first: int, last: int) -> None:
        """Take the steps first, first + 1, …, last - 1 of the epoch with every model."""

    @abstractmethod
    def finish_epoch(self) -> Scores:
        """The epoch's running loss and accuracy: averaged over the images as they were trained on (train mode)."""

    @abstractmethod
    def outputs(self, images: Images) -> Tensor:
        """Logits in evaluation mode: float [models, n, classes], on the engine's device."""

    def evaluate(self, images: Images) -> Scores:
        """Loss and accuracy in evaluation mode."""
        images = images.to(self.device)
        models, classes = len(self.models), self.arch.classes
        loss_sum = torch.zeros(models, dtype=torch.float64, device=self.device)
        correct = torch.zeros(models, classes, dtype=torch.int64, device=self.device)
        for first in range(0, len(images), EVALUATED_AT_ONCE):
            part = Images(*(values[first : first + EVALUATED_AT_ONCE] for values in (images.pixels, images.labels)))
            logits, labels = self.outputs(part), part.labels.expand(models, -1)
            losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
            loss_sum += losses.to(torch.float64).view(models, -1).sum(1)
            correct += correct_by_class(logits.argmax(2), labels, classes)
        return scores(loss_sum, correct, images.labels, classes)

    def close(self) -> None:
        """Release the threads."""
        self._pool.shutdown()
        torch.set_num_threads(self._threads_before)

    def _side_by_side(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """What `work` returns for every item, several at a time; an exception of any is raised here."""
        return list(self._pool.map(work, items))


@cache
def of_processor(fact: str) -> str:
    """What Linux tells of this machine's processor: "vendor_id", "model name"; elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith(fact)]
    return found[0] if found else platform.processor() or platform.machine()


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def schedule_table(protocol: Protocol, steps_per_epoch: int) -> tuple[list[float], list[float]]:
    """Learning rate (as a factor of the model's) and momentum at every step of the whole training.

    onecycle is PyTorch's `OneCycleLR` with its defaults, stepped once a batch: 30 % warm-up, cosine, from 1/25 up to 1
    and down to 1/250,000; momentum cycles 0.95 - 0.85 - 0.95 and so replaces the configured one.

    Returns:
        Two lists, one entry a step; of length 1 for a constant schedule.
    """
    if protocol.schedule == "constant":
        return [1.0], [MOMENTUM]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=MOMENTUM)
    total = protocol.epochs * steps_per_epoch
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=total)
    factors, momenta = [], []
    for _ in range(total):
        factors.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    return factors, momenta


def scores(loss_sum: Tensor, correct: Tensor, labels: Tensor, classes: int) -> Scores:
    """Scores from sums.

    Args:
        loss_sum: float64 [models], summed over images.
        correct: int64 [models, classes], correct predictions among the images of each class.
        labels: int64 [images].
        classes: number of classes.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes).to(torch.float64)
    right = correct.cpu().to(torch.float64)
    return Scores(
        (loss_sum.cpu() / counts.sum()).numpy(),
        (right.sum(1) / counts.sum()).numpy(),
        (right / counts).numpy(),
    )


def stack_scores(parts: list[Scores]) -> Scores:
    """The scores of several models, one after another."""
    return Scores(
        np.concatenate([part.loss for part in parts]),
        np.concatenate([part.accuracy for part in parts]),
        np.concatenate([part.class_accuracy for part in parts]),
    )


def correct_by_class(predicted: Tensor, labels: Tensor, classes: int, counted: Tensor | None = None) -> Tensor:
    """How many predictions are right, by class: int64 [models, classes].

    Args:
        predicted: int64 [models, n].
        labels: int64 [models, n].
        classes: number of classes.
        counted: bool [n]; what is false is padding; None: all count.
    """
    right = predicted == labels
    if counted is not None:
        right = right & counted
    counts = torch.zeros(len(labels), classes, dtype=torch.int64, device=labels.device)
    return counts.scatter_add_(1, labels, right.to(torch.int64))


def initial_population(arch: Architecture, models: pd.DataFrame) -> Population:
    """The untrained models of a table (see `zoo.networks.initialization`), with fresh optimiser state."""
    modules = [
        initial_module(arch, int(row["seed"]), row["init"], row["activation"], float(row["dropout"]))
        for row in models.to_dict("records")
    ]
    weights = torch.stack([arch.weights(module) for module in modules]).numpy()
    buffers = torch.stack([arch.buffers(module) for module in modules]).numpy()
    return untrained(weights, buffers)


def untrained(weights: np.ndarray, buffers: np.ndarray | None = None) -> Population:
    """Weights [n, P] and buffers [n, B] (None: there are none) as a population whose optimisers took no step yet."""
    zeros = np.zeros_like(weights)
    buffers = np.zeros((len(weights), 0), np.float32) if buffers is None else buffers
    return Population(weights, buffers, zeros, zeros.copy(), np.zeros(len(weights), np.int64))
