"""How fast populations train: every engine against a plain PyTorch loop, in one process, interleaved.

    python benchmarks/population.py                       # CNN-s and CNN-m, about ten minutes
    python benchmarks/population.py --arch cnn_s --repeats 3 --quick
    python benchmarks/population.py --arch cnn_s_res cnn_4 cnn_4_id --quick       # networks with shortcuts
    python benchmarks/population.py --arch cnn_s cnn_m --quick --variational      # sparsified twins

The baseline is the loop a researcher writes: one `nn.Module`, one `torch.optim` optimiser, batches indexed from tensors
in memory, one thread. Repeats go round-robin over the routes, so that a drift of the machine hits all of them; ratios are
taken within a round; medians and ranges are printed. `share of peak`: multiplications and additions of a dense forward
and backward pass (backward = twice forward), a second, over what the core does in a loop of nothing but fused
multiply-adds on the widest vectors. Dense, though the fused engine skips what max-pooling makes zero: it can exceed what
it computes, not what was asked.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numba import njit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from omegaconf import OmegaConf

from zoo.engines.engine import Protocol, initial_population
from zoo.engines.make import engine_class
from zoo.engines.simd import OPERATIONS
from zoo.images.config import AugmentConfig
from zoo.images.data import ImageData, Images
from zoo.networks.architecture import Architecture
from zoo.networks.initialization import initial_module
from zoo.networks.layers import Conv, Linear, Pool

BATCH = 10
RATE = 4e-4  # of the divergence of variational networks
fma16, zero16, broadcast16, store16 = (OPERATIONS[name] for name in ("fma16", "zero16", "broadcast16", "store16"))


def architecture(name: str, variational: bool = False) -> Architecture:
    preset = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[1] / "conf" / "arch" / f"{name}.yaml"))
    size = preset["image_size"]  # type: ignore[index,call-overload]
    image = (1 if size == 28 else 3, size, size)
    return Architecture(name, image, 10, preset["layers"], variational=variational)  # type: ignore[index,call-overload]


def images(shape: tuple[int, int, int], n: int) -> ImageData:
    random = torch.Generator().manual_seed(0)
    part = Images(
        torch.randint(0, 256, (n, *shape), generator=random, dtype=torch.uint8),
        torch.randint(0, 10, (n,), generator=random),
    )
    half = torch.full((shape[0],), 0.5)
    return ImageData("random", 10, shape, part, part, part, half, half, AugmentConfig(), "")


def rows(n: int, activation: str, dropout: float, optimizer: str = "adam") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "seed": range(1, n + 1), "init": "kaiming_uniform", "activation": activation, "optimizer": optimizer,
            "lr": 3e-4, "weight_decay": 0.0, "dropout": dropout,
        }
    )  # fmt: skip


def plain_loop(arch: Architecture, data: ImageData, activation: str, dropout: float) -> Callable[[int], float]:
    """Seconds a model-step of the loop that a researcher writes."""
    torch.set_num_threads(1)
    module = initial_module(arch, 1, "kaiming_uniform", activation, dropout)
    noisy = [layer for layer in module.modules() if hasattr(layer, "divergence")]
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-4)
    x, y = data.normalise(data.train.pixels), data.train.labels

    def run(steps: int) -> float:
        order = torch.randperm(len(y))[: steps * BATCH].split(BATCH)
        began = time.perf_counter()
        for chosen in order:
            optimizer.zero_grad()
            loss = F.cross_entropy(module(x[chosen]), y[chosen])
            if noisy:
                loss = loss + RATE * sum(layer.divergence() for layer in noisy)
            loss.backward()
            optimizer.step()
        return (time.perf_counter() - began) / len(order)

    return run


def engine(
    name: str, arch: Architecture, data: ImageData, activation: str, dropout: float, models: int, threads: int
) -> Callable[[int], float]:
    """Seconds a model-step and core of an engine."""
    table = rows(models, activation, dropout)
    rate = RATE if arch.variational else 0.0
    made = engine_class(name)(arch, table, data, Protocol(BATCH, 2, "constant", rate), threads=threads)
    made.load(initial_population(arch, table))
    made.start_epoch(2)  # the first in which a divergence counts

    def run(steps: int) -> float:
        began = time.perf_counter()
        made.train(0, steps)
        return (time.perf_counter() - began) * threads / steps / models

    return run


def compiled(arch: Architecture, data: ImageData, activation: str, models: int) -> Callable[[int], float]:
    """Seconds a model-step of `torch.compile` over the batched forward pass, its gradient and Adam."""
    torch.set_num_threads(1)
    weights = torch.from_numpy(initial_population(arch, rows(models, activation, 0.0)).weights)
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    x, y = data.normalise(data.train.pixels), data.train.labels

    def loss(weights: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = arch.forward(weights, images, activation)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / BATCH

    def step(weights, first, second, images, labels, t):  # type: ignore[no-untyped-def]
        gradient = torch.func.grad(loss)(weights, images, labels)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        corrected = (second / (1 - 0.999**t)).sqrt() + 1e-8
        return weights - 3e-4 * first / (1 - 0.9**t) / corrected, first, second

    fast = torch.compile(step, fullgraph=True, dynamic=False)
    t = torch.tensor(1.0)

    def run(steps: int) -> float:
        nonlocal weights, first, second, t
        began = time.perf_counter()
        for _ in range(steps):
            chosen = torch.randint(0, len(y), (models, BATCH))
            weights, first, second = fast(weights, first, second, x[chosen], y[chosen], t)
            t = t + 1
        return (time.perf_counter() - began) / steps / models

    return run


@njit(fastmath=True, error_model="numpy")
def _multiply_add(a, out, n):  # type: ignore[no-untyped-def]
    x = broadcast16(a, 0)
    v0 = v1 = v2 = v3 = v4 = v5 = v6 = v7 = v8 = v9 = zero16()
    for _ in range(n):
        v0, v1, v2, v3, v4 = fma16(v0, x, x), fma16(v1, x, x), fma16(v2, x, x), fma16(v3, x, x), fma16(v4, x, x)
        v5, v6, v7, v8, v9 = fma16(v5, x, x), fma16(v6, x, x), fma16(v7, x, x), fma16(v8, x, x), fma16(v9, x, x)
    for i, v in ((0, v0), (16, v1), (32, v2), (48, v3), (64, v4), (80, v5), (96, v6), (112, v7), (128, v8), (144, v9)):
        store16(out, i, v)


def peak(seconds: float = 0.2) -> float:
    """Floating-point operations a second of one core doing fused multiply-adds only."""
    a, out, n = np.full(16, 0.5, np.float32), np.zeros(160, np.float32), 1_000_000
    _multiply_add(a, out, 1)
    began, loops = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        _multiply_add(a, out, n)
        loops += 1
    return loops * n * 10 * 16 * 2 / (time.perf_counter() - began)


def dense_flops(arch: Architecture) -> int:
    """Of one step: forward and backward (twice forward) of a batch, without activations and optimiser; of plain chains."""
    shape, total = list(arch.image), 0
    for layer in arch.layers:
        if isinstance(layer, Conv):
            side = shape[1] - layer.kernel + 1
            total += 2 * layer.channels * shape[0] * layer.kernel**2 * side**2
            shape = [layer.channels, side, side]
        elif isinstance(layer, Pool):
            shape = [shape[0], shape[1] // layer.size, shape[2] // layer.size]
        elif isinstance(layer, Linear):
            total += 2 * layer.features * int(np.prod(shape))
            shape = [layer.features]
    return 3 * BATCH * total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["cnn_s", "cnn_m"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--variational", action="store_true", help="with a variance beside each weight")
    parser.add_argument("--quick", action="store_true", help="tanh only, without torch.compile")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, torch {torch.__version__}, batch {BATCH}, Adam"
    )
    for name in options.arch:
        arch = architecture(name, options.variational)
        data = images(arch.image, 20_000)
        routes: dict[str, tuple[Callable[[int], float], int, str]] = {}  # run, steps, baseline
        settings = (
            [("tanh", 0.0)]
            if options.quick
            else [("tanh", 0.0), ("relu", 0.0), ("gelu", 0.0), ("sigmoid", 0.0), ("tanh", 0.5)]
        )
        for activation, dropout in settings:
            label = f"{activation}{', dropout' if dropout else ''}"
            base = f"plain loop, {label}"
            routes[base] = (plain_loop(arch, data, activation, dropout), 60, base)
            routes[f"loop engine, {label}"] = (engine("loop", arch, data, activation, dropout, 1, 1), 60, base)
            routes[f"torch engine, 8 lanes, {label}"] = (
                engine("torch", arch, data, activation, dropout, 8, 1),
                10,
                base,
            )
            for threads in range(1, cores + 1):
                run = engine("fused", arch, data, activation, dropout, 2 * cores, threads)
                routes[f"fused engine, {threads} thread{'s' * (threads > 1)}, {label}"] = (run, 1000, base)
            if (activation, dropout) == ("tanh", 0.0) and not options.quick:
                routes["torch.compile, 8 models, tanh"] = (compiled(arch, data, activation, 8), 10, base)
        for run, _, _ in routes.values():
            run(2)  # compiles, warms caches
        times: dict[str, list[float]] = {route: [] for route in routes}
        peaks = []
        for _ in range(options.repeats):
            peaks.append(peak())
            for route, (run, steps, _) in routes.items():
                times[route].append(run(steps))
        top, flops = float(np.median(peaks)), dense_flops(arch) if arch.is_chain else float("nan")
        asked = f"{flops / 1e6:.1f} MFLOP a step (dense)" if arch.is_chain else "not a plain chain"
        print(f"\n{name}: {asked}; peak of a core {top / 1e9:.0f} GFLOP/s; {options.repeats} rounds")
        print(f"{'route':42} {'µs/step':>9} {'steps/s/core':>13} {'ratio to plain loop':>26} {'of peak':>8}")
        for route, (_, _, base) in routes.items():
            t, ratio = np.array(times[route]), np.array(times[base]) / np.array(times[route])
            spread = f"{np.median(ratio):6.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
            share = f"{100 * flops / np.median(t) / top:.1f}%" if arch.is_chain else "–"
            print(f"{route:42} {1e6 * np.median(t):9.1f} {1 / np.median(t):13.0f} {spread:>26} {share:>8}")
        for route in [r for r in routes if cores > 1 and f", {cores} threads" in r]:
            gain = cores * np.array(times[route.replace(f"{cores} threads", "1 thread")]) / np.array(times[route])
            spread = f"{np.median(gain):.2f} [{gain.min():.2f}, {gain.max():.2f}]"
            print(f"{route}: {spread} times the rate of 1 thread")


if __name__ == "__main__":
    main()
