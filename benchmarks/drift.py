"""How far the fused engine gets from plain PyTorch, in every CNN preset's own setting.

    python benchmarks/drift.py --data outputs/data           # all presets, about half an hour on two cores
    python benchmarks/drift.py --presets mnist_seed svhn_seed --models 8

The same initial weights and orders of images, then 15 and 100 steps of each model: by the fused engine, by plain PyTorch in
float32 and, as the judge, in float64. The distance between two weight vectors is given in units of the distance that the
judge moved: median / 90 % quantile / largest over models. Every so often rounding tips a max-pool's winner, which throws a
model a thousand times further, whoever computes it.

Images are MNIST's (for presets of MNIST and USPS) and Fashion-MNIST's (for all others), 2,000 of them, brought to the
architecture's size and channels and normalised as the preset does. Of a Hyp zoo the first models of its spec are taken,
which are spread over the grid; hyp10r has the grid of hyp10f.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import run
from run import CONFIG_DIR
from zoo.config.combinations import architecture
from zoo.config.reading import read_config
from zoo.config.sections import Config
from zoo.engines.engine import Engine, Population, Protocol, initial_population
from zoo.engines.loop_engine import LoopEngine
from zoo.engines.make import engine_class
from zoo.images.data import ImageData, Images
from zoo.training.opening import read_images
from zoo.training.spec import model_table

MARKS = (15, 100)  # steps
IMAGES = 2000


def configured(*words: str) -> Config:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return read_config(compose("config", list(words)), run.Config, list(words))


def images(config: Config, shape: tuple[int, int, int], real: dict[str, ImageData]) -> ImageData:
    """Real images of the shape that the preset's architecture wants, normalised as the preset does."""
    data = real["mnist" if config.dataset.name in ("mnist", "usps") else "fmnist"]
    pixels = data.train.pixels[:IMAGES]
    margin = (shape[1] - 28) // 2
    pixels = torch.nn.functional.pad(pixels, [margin] * 4)
    pixels = torch.cat([pixels, pixels.transpose(2, 3), pixels.flip(3)], dim=1)[:, : shape[0]].contiguous()
    train = Images(pixels, data.train.labels[:IMAGES])
    rules = config.dataset.protocols[config.arch.protocol]
    few = Images(train.pixels[:10], train.labels[:10])
    mean, std = torch.tensor(rules.mean), torch.tensor(rules.std)
    return replace(data, shape=shape, train=train, val=few, test=few, mean=mean, std=std)


def trajectory(engine: Engine, start: Population) -> list[np.ndarray]:
    """Weights at the marks, float64."""
    engine.load(start)
    engine.start_epoch(1)
    weights, first = [], 0
    for mark in MARKS:
        engine.train(first, mark)
        weights.append(engine.population().weights.astype(np.float64))
        first = mark
    engine.close()
    return weights


def in_words(distances: np.ndarray) -> str:
    known = distances[np.isfinite(distances)]
    return f"{np.median(known):.1e} / {np.quantile(known, 0.9):.1e} / {known.max():.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [path.stem for path in sorted((CONFIG_DIR / "zoo").glob("*.yaml"))]
    cnns = [name for name in names if not any(word in name for word in ("resnet", "printed", "digits", "hyp10r"))]
    parser.add_argument("--presets", nargs="+", default=cnns)
    parser.add_argument("--models", type=int, default=48, help="of a Hyp zoo; of a Seed zoo a sixth of it")
    parser.add_argument("--data", default="outputs/data", help="the folder that holds mnist/ and fmnist/")
    options = parser.parse_args()
    real = {
        name: read_images(configured(f"zoo={name}_seed", f"paths.data={options.data}")) for name in ("mnist", "fmnist")
    }
    heads = [
        f"{pair}, {mark} steps"
        for pair in ("fused – float64", "PyTorch float32 – float64", "fused – PyTorch")
        for mark in MARKS
    ]
    print(f"| preset | models | {' | '.join(heads)} |\n|---|---|{'---|' * len(heads)}")
    for preset in options.presets:
        config = configured(f"zoo={preset}")
        arch = architecture(config)
        rows = model_table(config.zoo).head(options.models if "hyp" in preset else max(1, options.models // 6))
        data, protocol = images(config, arch.image, real), Protocol(config.zoo.batch_size, 1, "constant")
        start = initial_population(arch, rows)
        judge = trajectory(LoopEngine(arch, rows, data, protocol, dtype=torch.float64), start)
        plain = trajectory(LoopEngine(arch, rows, data, protocol), start)
        fused = trajectory(engine_class("fused")(arch, rows, data, protocol), start)
        cells = []
        for ours, other in ((fused, judge), (plain, judge), (fused, plain)):
            for a, b, exact in zip(ours, other, judge, strict=True):
                moved = np.linalg.norm(exact - start.weights, axis=1)
                cells.append(in_words(np.linalg.norm(a - b, axis=1) / moved))
        print(f"| `{preset}` | {len(rows)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
