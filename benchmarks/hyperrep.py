"""How fast autoencoders encode, decode and train: models a second, and tokens a second of training.

    python benchmarks/hyperrep.py                    # the presets small and behavioural, CNN-s
    python benchmarks/hyperrep.py --presets published --models 2000

Encoding and decoding: all models once, in batches of 500. Training: the losses of a preset, their gradient and the step of
the optimiser on random weights and images, batch of the preset. Medians and ranges of interleaved repeats, all cores.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from population import architecture, images

import run
from hyperrep.models.module import AutoencoderModule
from hyperrep.states import States, in_batches
from run import CONFIG_DIR
from zoo.config.reading import read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["small", "behavioural"])
    parser.add_argument("--arch", default="cnn_s")
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    arch = architecture(options.arch)
    data = images(arch.image, 2000)
    weights = torch.randn(options.models, arch.n_parameters) * 0.1
    table = pd.DataFrame({"activation": ["tanh"] * options.models})
    modules = {}
    for preset in options.presets:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = read_config(compose("config", [f"autoencoder={preset}"]), run.Config)
        states = {split: States(weights, table) for split in ("train", "val", "test")}
        module = AutoencoderModule(config.autoencoder, arch, states, data, config.engine, Path())
        module.on_fit_start()
        module.moments = {}
        modules[preset] = (module, module.configure_optimizers(), config.autoencoder.optimizer.batch_size)
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.repeats):
        for preset, (module, optimizer, batch) in modules.items():
            autoencoder = module.autoencoder.eval()
            began = time.perf_counter()
            embeddings = in_batches(autoencoder.encode, weights)
            middle = time.perf_counter()
            in_batches(autoencoder.decode, embeddings)
            ended = time.perf_counter()
            times.setdefault((preset, "encode, µs a model"), []).append(1e6 * (middle - began) / len(weights))
            times.setdefault((preset, "decode, µs a model"), []).append(1e6 * (ended - middle) / len(weights))
            module.train()
            began, steps = time.perf_counter(), 5
            for step in range(steps):
                module.random.manual_seed(step)
                optimizer.zero_grad()
                rows = weights[torch.arange(step * batch, (step + 1) * batch) % len(weights)]
                module.losses(rows, ["tanh"] * batch, module.config.loss.behaviour)["loss"].backward()
                optimizer.step()
            tokens = steps * batch * autoencoder.tokens.n_tokens / (time.perf_counter() - began)
            times.setdefault((preset, "training, tokens a second"), []).append(tokens)
    print(f"{options.arch}, {options.models} models, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for (preset, what), values in times.items():
        v = np.array(values)
        print(f"{preset:12} {what:26} {np.median(v):10,.0f} [{v.min():,.0f}, {v.max():,.0f}]")


if __name__ == "__main__":
    main()
