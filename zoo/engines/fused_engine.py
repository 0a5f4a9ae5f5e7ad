"""`engine=fused`: every model's training is one compiled loop that never leaves its core's cache (CPU).

The code is generated for the architecture (`zoo.engines.kernels`); everything a model of a zoo has of its own (weights,
learning rate, decay, dropout, optimiser, activation, seed) is an argument, so a whole Hyp zoo shares one kernel. Threads
take models; a model's arithmetic does not know of other models.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.engines import kernels, stages, variational_kernels
from zoo.engines.compilation import compiled
from zoo.engines.engine import Engine, Population, Scores, of_processor, schedule_table, scores
from zoo.engines.numerics import ACTIVATION_CODES
from zoo.engines.philox import batch_order
from zoo.engines.stages import Plan
from zoo.images.data import Images


class FusedEngine(Engine):
    """See `Engine`. For lists of layers, on the CPU, without augmentation."""

    name = "fused"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows = self.models.to_dict("records")
        noisy = self.arch.variational
        layout: Any = variational_kernels if noisy else stages
        self.plan = layout.plan(self.arch)
        self.positions = layout.positions(self.arch, self.plan)
        code = variational_kernels.source(self.arch) if noisy else kernels.source(self.arch)
        self.train_model, self.evaluate_model = compiled(code)
        self.limits = variational_kernels.limits(self.arch, self.plan) if noisy else None
        factors, momenta = schedule_table(self.protocol, self.steps_per_epoch)
        self.factors, self.momenta = np.array(factors), np.array(momenta)
        pixel_values = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(-1, self.arch.image[0], 1, 1)
        self.levels = self.data.normalise(pixel_values)[:, :, 0, 0].contiguous().numpy()  # [256, channels]
        self.pixels, self.labels = _channels_last(self.data.train)
        self.scratch: queue.SimpleQueue[_Scratch] = queue.SimpleQueue()
        for _ in range(self.threads):
            self.scratch.put(_Scratch(self.plan, self.protocol.batch_size))

    @classmethod
    def processor(cls, device: torch.device) -> str | None:
        """Its arithmetic is the same on all. What is not: PyTorch's normal numbers, of initial weights, have other last bits
        on processors without AVX2."""
        capability = torch.backends.cpu.get_cpu_capability()
        return None if capability in ("AVX2", "AVX512") else f"{capability} {of_processor('vendor_id')}"

    def load(self, population: Population) -> None:
        """Weights and moments into padded rows."""
        self.weights, self.first, self.second = (
            self._padded(matrix) for matrix in (population.weights, population.first_moment, population.second_moment)
        )
        self.moved = self._padded(self.trained(population.weights))  # 1 where a value is trained, 0 at padding too
        self.taken = population.step.copy()

    @contextmanager
    def _memory(self) -> Iterator[_Scratch]:
        """A thread's memory, given back whatever happens: others wait for it."""
        scratch = self.scratch.get()
        try:
            yield scratch
        finally:
            self.scratch.put(scratch)

    def _padded(self, matrix: np.ndarray) -> np.ndarray:
        rows = _aligned((len(matrix), self.plan.weights))
        rows[:, self.positions] = matrix
        return rows

    def population(self) -> Population:
        """The models as they are now; a model with any weight that is not finite has none that is."""
        weights, first, second = (rows[:, self.positions] for rows in (self.weights, self.first, self.second))
        buffers = np.zeros((len(weights), 0), np.float32)
        return Population(weights, buffers, first, second, self.taken.copy())

    def start_epoch(self, epoch: int) -> None:
        """Running averages from 0; a model's order of the images is drawn by the thread that is first to train it."""
        self.epoch = epoch
        self.order: list[np.ndarray | None] = [None] * len(self.models)
        self.loss = np.zeros((len(self.models), 1))
        self.correct = np.zeros((len(self.models), self.arch.classes), np.int64)

    def _order(self, i: int) -> np.ndarray:
        """Model i's order of the training images in this epoch: int64 [images]."""
        if (order := self.order[i]) is None:
            seed = torch.tensor([self.rows[i]["seed"]])
            order = self.order[i] = batch_order(seed, self.epoch, len(self.labels))[0].numpy()
        return order

    def train(self, first: int, last: int) -> None:
        """Model by model, several at a time: the steps first … last - 1."""

        share = np.float32(self.protocol.divergence_weight(self.epoch))

        def work(i: int) -> None:
            order, row = self._order(i), self.rows[i]
            p = float(row["dropout"])
            with self._memory() as scratch:
                self.train_model(
                    self.pixels, self.labels, self.levels, order, first, last, self.protocol.batch_size,
                    self.weights[i], self.first[i], self.second[i], self.moved[i], scratch.gradient, *scratch.forward,
                    scratch.words, ACTIVATION_CODES[row["activation"]], row["optimizer"] == "adam", float(row["lr"]),
                    np.float32(row["weight_decay"]), np.uint64(round(p * 2.0**32)), np.float32(1 / (1 - p)),
                    int(row["seed"]), self.epoch, int(self.taken[i]), self.factors, self.momenta, self.loss[i],
                    self.correct[i],
                    *((scratch.effective, scratch.numbers, self.limits, share) if self.limits is not None else ()),
                )  # fmt: skip
            self.taken[i] += last - first

        self._side_by_side(work, range(len(self.models)))

    def finish_epoch(self) -> Scores:
        """Running averages of the epoch.

        A model whose weights are not all finite has diverged: it becomes, as it would in PyTorch a step later, not a number
        throughout.
        """
        diverged = ~np.isfinite(self.weights).all(axis=1)
        for rows in (self.weights, self.first, self.second):
            rows[np.ix_(diverged, self.positions)] = np.nan
        self.loss[diverged] = np.nan
        return self._scores(self.loss, self.correct, self.data.train)

    def evaluate(self, images: Images) -> Scores:
        """Model by model, several at a time, without holding the outputs."""
        loss, correct = self._forward(images, np.zeros((len(self.models), 0, self.arch.classes), np.float32))
        return self._scores(loss, correct, images)

    def outputs(self, images: Images) -> Tensor:
        """Model by model, several at a time."""
        logits = np.empty((len(self.models), len(images), self.arch.classes), np.float32)
        self._forward(images, logits)
        return torch.from_numpy(logits)

    def _forward(self, images: Images, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Loss summed over the images [models, 1] and correct predictions by class; fills `logits` unless it is empty."""
        pixels, labels = _channels_last(images)
        loss = np.zeros((len(self.models), 1))
        correct = np.zeros((len(self.models), self.arch.classes), np.int64)

        def work(i: int) -> None:
            if not np.isfinite(self.weights[i]).all():
                loss[i] = logits[i] = np.nan  # and every prediction is the first class, as PyTorch's argmax has it
                correct[i, 0] = (labels == 0).sum()
                return
            activation = ACTIVATION_CODES[self.rows[i]["activation"]]
            with self._memory() as scratch:
                self.evaluate_model(
                    pixels, labels, self.levels, self.weights[i], *scratch.forward, activation, loss[i], correct[i],
                    logits[i], *((scratch.effective, self.limits) if self.limits is not None else ()),
                )  # fmt: skip

        self._side_by_side(work, range(len(self.models)))
        return loss, correct

    def _scores(self, loss: np.ndarray, correct: np.ndarray, images: Images) -> Scores:
        return scores(torch.from_numpy(loss[:, 0]), torch.from_numpy(correct), images.labels, self.arch.classes)


class _Scratch:
    """The memory that a thread computes in: G, then X, A, I for each of two images, Y, C, then WORDS of the kernels.

    With variances also E and NUMBERS, and words for them behind those of dropout.
    """

    def __init__(self, plan: Plan, batch_size: int) -> None:
        self.gradient = _aligned((plan.weights,))
        # 64 values after an image: whole vectors are read past its end.
        of_image = [(plan.image + 64, np.float32), (plan.arena, np.float32), (plan.winners, np.int32)]
        sizes = [*of_image, *of_image, (plan.pairs, np.float32), (plan.copy, np.float32)]
        self.forward = [_aligned((n,), dtype) for n, dtype in sizes]
        draws = [s.outputs * s.places for s in kernels.with_dropout(plan.stages)]
        if isinstance(plan, variational_kernels.VariationalPlan):
            draws.append(max(plan.noise_values) + 1)
            self.effective = _aligned((plan.weights + 16,))
            self.numbers = tuple(_aligned((batch_size * n + 1,)) for n in plan.noise_values)
        self.words = tuple(_aligned((-(-batch_size * n // 4) * 4,), np.uint32) for n in draws or [0])


def _aligned(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Zeros that begin at a multiple of 64 bytes: a vector that straddles cache lines costs up to 1.6 times as much."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _channels_last(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [n, height * width * channels] and labels int64 [n]."""
    pixels = images.pixels.permute(0, 2, 3, 1).flatten(1).contiguous()
    return pixels.numpy(), images.labels.contiguous().numpy()
