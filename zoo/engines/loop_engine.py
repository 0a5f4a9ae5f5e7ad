"""`engine=loop`: plain PyTorch, one model after another. The reference for every other engine, and the way for large nets.

Each model is an ordinary module with an ordinary optimiser; nothing here is clever. Only its random numbers are the
zoo's own (see `zoo.engines.philox`), so that another engine can be compared with it step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.engines.engine import (
    ADAM_BETAS,
    ADAM_EPS,
    Engine,
    Population,
    Scores,
    correct_by_class,
    schedule_table,
    scores,
    stack_scores,
)
from zoo.engines.philox import batch_order, keep_mask, normals, uniforms
from zoo.images.data import Images, augment
from zoo.networks.modules import VariationalConv2d, VariationalLinear

EVALUATION_BATCH = 256  # images a model sees at once when evaluated


class LoopEngine(Engine):
    """See `Engine`. `dtype` is the arithmetic: float64 makes it the judge in tests."""

    name = "loop"

    def __init__(self, *args: Any, dtype: torch.dtype = torch.float32, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dtype = dtype
        self.factors, self.momenta = schedule_table(self.protocol, self.steps_per_epoch)
        self.members: list[_Member] = []

    def load(self, population: Population) -> None:
        """Build one module and one optimiser a model."""
        moved = self.trained(population.weights)
        self.members = [_Member(self, i, population, moved[i]) for i in range(len(self.models))]

    def population(self) -> Population:
        """The models as they are now."""
        rows = [member.row() for member in self.members]
        return Population(*(np.stack(column) for column in zip(*rows)))

    def start_epoch(self, epoch: int) -> None:
        """Each model gets its own order of the training images."""
        self.epoch = epoch
        self._side_by_side(_Member.start_epoch, self.members)

    def train(self, first: int, last: int) -> None:
        """Model by model: the steps first … last - 1."""

        def work(member: _Member) -> None:
            for step in range(first, last):
                member.train_step(step)

        self._side_by_side(work, self.members)

    def finish_epoch(self) -> Scores:
        """Running averages of the epoch."""
        labels = self.data.train.labels
        return stack_scores([scores(m.loss_sum[None], m.correct, labels, self.arch.classes) for m in self.members])

    def outputs(self, images: Images) -> Tensor:
        """Model by model, several at a time."""
        images = images.to(self.device)
        return torch.cat(self._side_by_side(lambda member: member.outputs(images), self.members))


class _Member:
    """One model of the block with its optimiser."""

    def __init__(self, engine: LoopEngine, index: int, population: Population, moved: np.ndarray) -> None:
        self.engine, self.index = engine, index
        row = engine.models.iloc[index]
        arch, device = engine.arch, engine.device
        self.seed = torch.tensor([int(row["seed"])], device=device)
        self.lr = float(row["lr"])
        self.module = arch.module(str(row["activation"]), float(row["dropout"]))
        buffers = torch.from_numpy(population.buffers[index]) if arch.n_buffers else None
        self.module.load_state_dict(arch.state_dict(torch.from_numpy(population.weights[index]), buffers))
        self.module.to(device, engine.dtype)
        for i, layer in enumerate(m for m in self.module.modules() if isinstance(m, nn.Dropout)):
            layer.register_forward_hook(self._dropout_hook(i, layer.p))
            layer.p = 0.0  # the hook takes its place, with random numbers that other engines can have too
        self.variational = [m for m in self.module.modules() if isinstance(m, VariationalConv2d | VariationalLinear)]
        for i, noisy_layer in enumerate(self.variational):
            noisy_layer.draw = self._noise(i)
        parameters = list(self.module.parameters())
        if not moved.all():
            for slot, parameter in zip(arch.layout, parameters):
                mask = torch.from_numpy(moved[slot.offset : slot.offset + slot.size]).reshape(slot.shape).to(device)
                parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
        decay = float(row["weight_decay"])
        self.adam = row["optimizer"] == "adam"
        self.optimizer: torch.optim.Optimizer
        if self.adam:
            self.optimizer = torch.optim.Adam(parameters, self.lr, ADAM_BETAS, ADAM_EPS, weight_decay=decay)
        else:
            self.optimizer = torch.optim.SGD(parameters, self.lr, momentum=engine.momenta[0], weight_decay=decay)
        self.steps_taken = int(population.step[index])
        if self.steps_taken:
            self._load_optimizer(population.first_moment[index], population.second_moment[index])

    def _load_optimizer(self, first: np.ndarray, second: np.ndarray) -> None:
        for slot, parameter in zip(self.engine.arch.layout, self.module.parameters()):
            values = [
                torch.from_numpy(moment[slot.offset : slot.offset + slot.size].copy()).reshape(slot.shape).to(parameter)
                for moment in (first, second)
            ]
            self.optimizer.state[parameter] = (
                {"step": torch.tensor(float(self.steps_taken)), "exp_avg": values[0], "exp_avg_sq": values[1]}
                if self.adam
                else {"momentum_buffer": values[0]}
            )

    def row(self) -> tuple[np.ndarray, ...]:
        """This model's entries of a `Population`, in the order of its fields."""
        arch = self.engine.arch

        def moment(key: str) -> np.ndarray:
            values = [self.optimizer.state.get(p, {}).get(key, torch.zeros_like(p)) for p in self.module.parameters()]
            return torch.cat([v.detach().reshape(-1) for v in values]).to("cpu", torch.float32).numpy()

        weights = arch.weights(self.module).to("cpu", torch.float32).numpy()
        buffers = arch.buffers(self.module).cpu().numpy()
        first = moment("exp_avg" if self.adam else "momentum_buffer")
        return weights, buffers, first, moment("exp_avg_sq"), np.int64(self.steps_taken)  # type: ignore[return-value]

    def start_epoch(self) -> None:
        n = len(self.engine.data.train)
        self.order = batch_order(self.seed, self.engine.epoch, n)[0]
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.engine.device)
        self.correct = torch.zeros(1, self.engine.arch.classes, dtype=torch.int64, device=self.engine.device)
        self.module.train()

    def train_step(self, step: int) -> None:
        engine, self.step = self.engine, step
        first = step * engine.protocol.batch_size
        chosen = self.order[first : first + engine.protocol.batch_size]
        pixels, labels = engine.data.train.pixels[chosen], engine.data.train.labels[chosen]
        n = len(labels)
        pixels = augment(pixels, engine.data.augment, uniforms(self.seed, engine.epoch, step, 4 * n).view(n, 4))
        at = self.steps_taken if len(engine.factors) > 1 else 0
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * engine.factors[at]
            if not self.adam:
                group["momentum"] = engine.momenta[at]
        self.optimizer.zero_grad()
        logits = self.module(engine.data.normalise(pixels).to(engine.dtype))
        loss = F.cross_entropy(logits, labels)
        (
            loss + engine.protocol.divergence_weight(engine.epoch) * sum(m.divergence() for m in self.variational)
        ).backward()
        self.optimizer.step()
        self.steps_taken += 1
        self.loss_sum += loss.detach() * n
        self.correct += correct_by_class(logits.argmax(1)[None], labels[None], engine.arch.classes)

    def _dropout_hook(self, layer: int, probability: float) -> Any:
        """What dropout layer `layer` does to its output [n, *shape] in training mode."""

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if not module.training or probability == 0:
                return output
            p = torch.tensor([probability], dtype=torch.float64, device=output.device)
            keep = keep_mask(self.seed, layer, self.engine.epoch, self.step, output.numel(), p)
            return output * (keep.view(output.shape).to(output.dtype) / (1 - probability))

        return hook

    def _noise(self, layer: int) -> Callable[[Tensor], Tensor]:
        """What draws the noise of noisy layer `layer`."""

        def draw(like: Tensor) -> Tensor:
            return normals(self.seed, layer, self.engine.epoch, self.step, like.numel()).view(like.shape).to(like.dtype)

        return draw

    @torch.no_grad()
    def outputs(self, images: Images) -> Tensor:
        """Logits in evaluation mode: float32 [1, n, classes]."""
        self.module.eval()
        batches = images.pixels.split(EVALUATION_BATCH) if len(images) else []
        logits = [self.module(self.engine.data.normalise(pixels).to(self.engine.dtype)) for pixels in batches]
        return torch.cat([torch.zeros(0, self.engine.arch.classes, device=self.engine.device), *logits])[None]
