"""How fast a zoo is measured: all pairs of models, against a plain loop over pairs.

    python benchmarks/analysis.py                  # 1000 CNN-s models, 10,000 test images, 50 for CKA
    python benchmarks/analysis.py --models 4320    # the largest published zoo

Untrained models on random images: what a pair costs does not depend on what the models have learnt. The plain loop is
measured on 40 models, and is given for all pairs by the number of pairs. Medians and ranges of interleaved repeats.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from population import architecture, images

from analysis.measures.agreement import pairwise_disagreement
from analysis.measures.cka import grams, layer_outputs, pairwise_cka
from analysis.measures.weights import inner_products, pairwise_cosine, pairwise_l2
from zoo.engines.choice import EngineConfig
from zoo.engines.engine import initial_population
from zoo.engines.evaluation import predictions

LOOPED = 40  # models of the plain loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--arch", default="cnn_s")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    arch, n = architecture(options.arch), options.models
    data = images(arch.image, 10_000)
    rows = pd.DataFrame({"seed": range(1, n + 1), "init": "kaiming_uniform", "activation": "tanh", "dropout": 0.0,
                         "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0})  # fmt: skip
    weights = initial_population(arch, rows).weights
    pictures = data.normalise(data.train.pixels[:50])
    engine = EngineConfig("auto", None, None)
    classes = predictions(arch, weights, rows, data.train, data, engine)
    outputs = [
        layer.double().numpy() for layer in layer_outputs(arch, torch.tensor(weights[:LOOPED]), pictures, "tanh")
    ]

    def cka_of_pair(i: int, j: int) -> None:
        for layer in outputs:
            x, y = (layer[k] - layer[k].mean(0) for k in (i, j))
            np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))

    ours: dict[str, Callable[[], object]] = {
        "predictions": lambda: predictions(arch, weights, rows, data.train, data, engine),
        "agreement": lambda: pairwise_disagreement(classes, arch.classes),
        "CKA": lambda: pairwise_cka(grams(arch, torch.tensor(weights), rows, pictures)),
        "l2": lambda: pairwise_l2(inner_products([weights])),
        "cosine": lambda: pairwise_cosine(inner_products([weights])),
    }
    looped: dict[str, Callable[[int, int], object]] = {
        "agreement": lambda i, j: (classes[i] == classes[j]).mean(),
        "CKA": cka_of_pair,
        "l2": lambda i, j: np.linalg.norm(weights[i] - weights[j]),
        "cosine": lambda i, j: weights[i] @ weights[j] / (np.linalg.norm(weights[i]) * np.linalg.norm(weights[j])),
    }
    pairs, few = n * (n - 1) / 2, [(i, j) for i in range(LOOPED) for j in range(i)]
    times: dict[str, list[float]] = {name: [] for name in ours}
    plain: dict[str, list[float]] = {name: [] for name in looped}
    for _ in range(options.repeats):
        for name, function in ours.items():
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
            if name in looped:
                began = time.perf_counter()
                for i, j in few:
                    looped[name](i, j)
                plain[name].append((time.perf_counter() - began) * pairs / len(few))
    print(f"{n} models of {options.arch}, {pairs:,.0f} pairs, {len(data.train):,} images, 50 for CKA")
    for name, values in times.items():
        line = f"{name:12} {np.median(values):7.2f} s [{min(values):.2f}, {max(values):.2f}]"
        if name in plain:
            ratios = np.array(plain[name]) / np.array(values)
            line += f", a plain loop {np.median(ratios):6.0f}x as long [{ratios.min():.0f}, {ratios.max():.0f}]"
        print(line)
    print(f"together     {sum(np.median(values) for values in times.values()):7.2f} s")
    print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
