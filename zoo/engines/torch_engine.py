"""`engine=torch`: many models in one batch of tensors, on any device.

The models of a block are packed into *lanes*: groups of a fixed number of models with the same activation and
optimiser, which go through `Architecture.forward` together. Learning rate, weight decay and dropout differ by model and
are broadcast. A lane group that is not full is filled up with copies, and a batch that is not full with images that do
not count: every step has the same shapes, and that is what makes a model's bits independent of the models beside it.

Whatever differs between two steps (epoch, step, learning rate, batch order) lies in tensors on the device. So on a GPU a
step is recorded once, as a CUDA graph, and replayed: one call starts its hundred small kernels, and within an epoch the
host never waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.engines.engine import (
    ADAM_BETAS,
    ADAM_EPS,
    Engine,
    Population,
    Scores,
    correct_by_class,
    schedule_table,
    scores,
)
from zoo.engines.philox import batch_order, keep_mask, normals, uniforms
from zoo.images.config import augments
from zoo.images.data import Images, augment

EVALUATION_BATCH = {"cpu": 32, "cuda": 500}  # images a model sees at once when evaluated, at most
# What a layer may give at once when a group is evaluated: 2 GiB, and a quarter of what CUDA's kernels for a convolution with
# as many groups as channels can count.
EVALUATED_VALUES = 2**29
LANES = {"cpu": 8, "cuda": 128}  # a core's cache holds few models; a GPU wants to be filled


class TorchEngine(Engine):
    """See `Engine`. `lanes`: models in one group; a model's last bits depend on it, so it is part of the protocol.

    None: `LANES` of the device.
    """

    name = "torch"

    def __init__(self, *args: Any, lanes: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lanes = lanes or LANES[self.device.type]
        # One row alone would be computed by matrix-vector products, whose bits depend on where the data lie in memory.
        self.batch_rows = max(self.protocol.batch_size, 2)
        self.factors, self.momenta = (
            torch.tensor(table, dtype=torch.float64, device=self.device)
            for table in schedule_table(self.protocol, self.steps_per_epoch)
        )
        self.groups: list[_Lanes] = []

    @property
    def evaluation_batch(self) -> int:
        """How many images a model sees at once when evaluated; it depends on the lanes and the architecture alone."""
        largest = max(map(math.prod, self.arch.noise_shapes))
        return max(1, min(EVALUATION_BATCH[self.device.type], EVALUATED_VALUES // (self.lanes * largest)))

    def load(self, population: Population) -> None:
        """Pack the models into lanes."""
        self.groups = []
        # Steps of different groups never run at the same time: their recordings may share what they compute in. It is gone
        # with the last of them; groups that are loaded later have their own.
        self.graph_memory = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None
        # dropna: to be evaluated, an imported model need not tell its optimiser.
        for _, rows in self.models.groupby(["activation", "optimizer"], dropna=False):
            ids = np.array(rows.index)
            for first in range(0, len(ids), self.lanes):
                self.groups.append(_Lanes(self, ids[first : first + self.lanes], population))

    def population(self) -> Population:
        """The models as they are now."""
        n, p = len(self.models), self.arch.n_parameters
        weights, first, second = (np.empty((n, p), np.float32) for _ in range(3))
        step = np.empty(n, np.int64)
        for group in self.groups:
            for target, source in ((weights, group.weights), (first, group.first), (second, group.second)):
                target[group.ids] = source[: len(group.ids)].cpu().numpy()
            step[group.ids] = int(group.taken)
        return Population(weights, np.zeros((n, 0), np.float32), first, second, step)

    def start_epoch(self, epoch: int) -> None:
        """Each model gets its own order of the training images."""
        self.epoch = epoch
        self._side_by_side(_Lanes.start_epoch, self.groups)

    def train(self, first: int, last: int) -> None:
        """Group by group, several at a time: the steps first … last - 1."""

        def work(group: _Lanes) -> None:
            take_step = group.recorded_step() if self.device.type == "cuda" else group.train_step
            for _ in range(first, last):
                take_step()

        self._side_by_side(work, self.groups)

    def finish_epoch(self) -> Scores:
        """Running averages of the epoch."""
        loss_sum = torch.zeros(len(self.models), dtype=torch.float64)
        correct = torch.zeros(len(self.models), self.arch.classes, dtype=torch.int64)
        for group in self.groups:
            loss_sum[group.ids] = group.loss_sum[: len(group.ids)].cpu()
            correct[group.ids] = group.correct[: len(group.ids)].cpu()
        return scores(loss_sum, correct, self.data.train.labels, self.arch.classes)

    def outputs(self, images: Images) -> Tensor:
        """Group by group, several at a time."""
        images = images.to(self.device)
        logits = torch.empty(len(self.models), len(images), self.arch.classes, device=self.device)

        def work(group: _Lanes) -> None:
            logits[group.ids] = group.outputs(images)[: len(group.ids)]

        self._side_by_side(work, self.groups)
        return logits


class _Lanes:
    """A group of models that are computed together. L = lanes, P = parameters.

    Attributes:
        ids: rows of the block that are in the lanes 0 … len(ids) - 1; the others hold copies of the first.
        weights, first, second: float32 [L, P]: weights, first and second moment.
        order: int64 [L, steps, rows of a batch], the images of the epoch.
        epoch, step, taken: int64 []: the epoch, the next step in it, optimiser steps taken in all.
        loss_sum, correct: float64 [L] and int64 [L, classes], of the epoch so far.
    """

    def __init__(self, engine: TorchEngine, ids: np.ndarray, population: Population) -> None:
        self.engine, self.ids = engine, ids
        device = engine.device
        filled = np.concatenate([ids, np.repeat(ids[:1], engine.lanes - len(ids))])
        rows = engine.models.iloc[filled]
        self.activation = str(rows["activation"].iloc[0])
        self.adam = rows["optimizer"].iloc[0] == "adam"
        self.seeds = torch.tensor(rows["seed"].tolist(), dtype=torch.int64, device=device)
        self.p = torch.tensor(rows["dropout"].tolist(), dtype=torch.float64, device=device)
        self.lr = torch.tensor(rows["lr"].tolist(), dtype=torch.float32, device=device)[:, None]
        self.decay = torch.tensor(rows["weight_decay"].tolist(), dtype=torch.float32, device=device)[:, None]
        self.dropout, self.decays = bool(rows["dropout"].max() > 0), bool(rows["weight_decay"].max() > 0)
        self.weights, self.first, self.second = (
            torch.from_numpy(matrix[filled]).to(device)
            for matrix in (population.weights, population.first_moment, population.second_moment)
        )
        moved = engine.trained(population.weights[filled])
        self.moved = None if moved.all() else torch.from_numpy(moved).to(device)
        self.epoch, self.step, self.taken = (
            torch.tensor(n, device=device) for n in (0, 0, int(population.step[ids[0]]))
        )
        self.order = torch.zeros(
            engine.lanes, engine.steps_per_epoch, engine.batch_rows, dtype=torch.int64, device=device
        )
        self.divergence_weight = torch.tensor(0.0, device=device)
        self.loss_sum = torch.zeros(engine.lanes, dtype=torch.float64, device=device)
        self.correct = torch.zeros(engine.lanes, engine.arch.classes, dtype=torch.int64, device=device)
        self.places = torch.arange(engine.batch_rows, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def start_epoch(self) -> None:
        engine = self.engine
        n, steps, rows = len(engine.data.train), engine.steps_per_epoch, engine.protocol.batch_size
        order = batch_order(self.seeds, engine.epoch, n)
        # Filled up to whole batches with the batch's own last image, which will not count twice: an image from elsewhere
        # could give infinite activations, and 0 times those is not 0.
        order = torch.cat([order, order[:, -1:].expand(-1, steps * rows - n)], dim=1).view(-1, steps, rows)
        self.order.copy_(torch.cat([order, order[:, :, -1:].expand(-1, -1, engine.batch_rows - rows)], dim=2))
        self.epoch.fill_(engine.epoch)
        self.divergence_weight.fill_(engine.protocol.divergence_weight(engine.epoch))
        for sums in (self.step, self.loss_sum, self.correct):
            sums.zero_()

    def train_step(self) -> None:
        """One batch of every model. Nothing in it is read back by the host."""
        engine, lanes, rows = self.engine, self.engine.lanes, self.engine.batch_rows
        n = (len(engine.data.train) - self.step * engine.protocol.batch_size).clamp(max=engine.protocol.batch_size)
        counted = self.places < n
        chosen = self.order.index_select(1, self.step.view(1))[:, 0]
        labels = engine.data.train.labels[chosen]
        images = engine.data.normalise(self._augmented(engine.data.train.pixels[chosen]))

        weights = self.weights.detach().requires_grad_()
        logits = engine.arch.forward(weights, images, self.activation, self._masks(rows), noise=self._noise(rows))
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(lanes, rows)
        losses = torch.where(counted, losses, 0.0)
        loss = losses.sum() / n
        if engine.arch.variational:
            loss = loss + self.divergence_weight * engine.arch.divergence(weights).sum()
        (gradient,) = torch.autograd.grad(loss, weights)

        self._update(gradient)
        self.step += 1
        self.loss_sum += losses.detach().to(torch.float64).sum(1)
        self.correct += correct_by_class(logits.argmax(2), labels, engine.arch.classes, counted)

    def recorded_step(self) -> Callable[[], None]:
        """`train_step` as a CUDA graph, recorded when first asked for."""
        if self.graph is None:
            state = (self.weights, self.first, self.second, self.step, self.taken, self.loss_sum, self.correct)
            before = [tensor.clone() for tensor in state]
            side = torch.cuda.Stream(self.engine.device)
            side.wait_stream(torch.cuda.current_stream(self.engine.device))
            with torch.cuda.stream(side):  # PyTorch wants a few steps before a recording, for what it sets up lazily
                for _ in range(3):
                    self.train_step()
                    for tensor, value in zip(state, before, strict=True):
                        tensor.copy_(value)
            torch.cuda.current_stream(self.engine.device).wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=self.engine.graph_memory):
                self.train_step()
        return self.graph.replay

    def _augmented(self, pixels: Tensor) -> Tensor:
        """The images [L, n, C, H, W] of a step, each changed by its own random numbers."""
        if not augments(self.engine.data.augment):
            return pixels
        lanes, n = pixels.shape[:2]
        random = uniforms(self.seeds, self.epoch, self.step, 4 * n).view(lanes * n, 4)
        return augment(pixels.flatten(0, 1), self.engine.data.augment, random).view_as(pixels)

    def _masks(self, rows: int) -> list[Tensor] | None:
        """One tensor [L, rows, *shape] a dropout layer: 0 where a value is dropped, 1 / (1 - p) where it is kept."""
        if not self.dropout:
            return None
        scale = (1 / (1 - self.p)).to(torch.float32)[:, None]
        masks = []
        for layer, shape in enumerate(self.engine.arch.dropout_shapes):
            keep = keep_mask(self.seeds, layer, self.epoch, self.step, rows * math.prod(shape), self.p)
            masks.append((keep * scale).view(-1, rows, *shape))
        return masks

    def _noise(self, rows: int) -> list[Tensor] | None:
        """One tensor [L, rows, *shape] of standard normal numbers a layer with weights, of a variational architecture."""
        if not self.engine.arch.variational:
            return None
        return [
            normals(self.seeds, layer, self.epoch, self.step, rows * math.prod(shape)).view(-1, rows, *shape)
            for layer, shape in enumerate(self.engine.arch.noise_shapes)
        ]

    def _update(self, gradient: Tensor) -> None:
        """One step of Adam (L2 weight decay, not decoupled) or SGD with momentum, as `torch.optim` does it; in place."""
        # `take`, not [ ]: indexing with a tensor would make the host wait for its value.
        at = self.taken if len(self.engine.factors) > 1 else torch.zeros_like(self.taken)
        lr, momentum = self.lr * self.engine.factors.take(at), self.engine.momenta.take(at)
        self.taken += 1  # after `at` was used: it may be the same tensor
        if self.moved is not None:
            gradient = gradient * self.moved
        if self.decays:
            gradient = gradient + self.decay * self.weights
        if self.adam:
            beta1, beta2 = ADAM_BETAS
            self.first.lerp_(gradient, 1 - beta1)
            self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            t = self.taken.to(torch.float64)
            corrected = self.second.sqrt().div_((1 - beta2**t).sqrt()).add_(ADAM_EPS)
            self.weights.sub_(self.first / corrected * (lr / (1 - beta1**t)))
        else:
            self.first.mul_(momentum).add_(gradient)
            self.weights.sub_(self.first * lr)

    @torch.no_grad()
    def outputs(self, images: Images) -> Tensor:
        """Logits in evaluation mode: float32 [L, n, classes]."""
        engine = self.engine
        size = engine.evaluation_batch
        places = torch.arange(size, device=engine.device)
        logits = torch.zeros(engine.lanes, len(images), engine.arch.classes, device=engine.device)
        for first in range(0, len(images), size):  # the last batch is filled up with its last image
            pixels = images.pixels[(places + first).clamp_(max=len(images) - 1)]
            batch = engine.data.normalise(pixels).expand(engine.lanes, -1, -1, -1, -1)
            out = engine.arch.forward(self.weights, batch, self.activation)
            logits[:, first : first + size] = out[:, : len(images) - first]
        return logits
