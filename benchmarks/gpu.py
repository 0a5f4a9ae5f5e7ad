"""Everything that wants a GPU, in one command of at most ten minutes on a machine with one NVIDIA GPU.

    python benchmarks/gpu.py --data DIR              # all sections, 9.5 minutes
    python benchmarks/gpu.py --only a,b --minutes 3
    python benchmarks/gpu.py --smoke                 # every section at toy scale on the CPU, within two minutes

Sections, the cheap and informative ones first:

    a  the tests that need CUDA
    b  engine=torch on random images, by lanes: steps with and without CUDA graph, batch orders, evaluation, memory, kernels
    c  the zoo mnist_seed, trained by run.py with as many models and epochs as the time allows: accuracy by epoch, rate, hashes
    d  autoencoder=published on that zoo, with and without layer-wise loss normalisation; samplers kde30, kde_anchor30 and
       gaussian30 at epoch 0: accuracy and audit

Each section gets its share of the time that is left. What it finds goes to a file of its own under --out at once, and
gpu.md there says it in words; so a run that is cut off keeps what was done. A section that fails is told, its traceback
is kept, the others go on, and the exit code is 1.

--data names a folder with the four IDX files of MNIST, plain or gzip, under their published names; it is $HYPERZOO_TEST_DATA
where that is set. Without it, c and d take scikit-learn's digits. Needed beside PyTorch: what pyproject.toml names, but for
wandb and umap-learn, and for section a pytest and hypothesis. hyperzoo itself need not be installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LANES = (128, 512, 1000)
EPOCHS, MOST_EPOCHS = 25, 50  # of mnist_seed: those whose states are learnt are 21 to 25; it has 50
MOST_MODELS = 1000
SPARE = 0.75  # of the time that is estimated to be left is planned for
SAMPLERS = ("kde30", "kde_anchor30", "gaussian30")
SAMPLING = 45.0  # seconds that drawing and auditing the populations of an autoencoder may take
TOY = [  # overrides that make autoencoder=published small
    "autoencoder.d_model=208", "autoencoder.blocks=1", "autoencoder.feedforward=32", "autoencoder.latent=16",
    "autoencoder.optimizer.batch_size=8", "autoencoder.optimizer.validate_every=2",
]  # fmt: skip


class Failed(Exception):
    """What a section did not reach, in a sentence."""


@dataclass(frozen=True)
class Options:
    """Of all sections.

    Attributes:
        smoke: toy scale, on the CPU.
        data: folder with MNIST; None: digits.
        work: folder for the zoo, the autoencoders and the populations.
        out: folder for what is found.
    """

    smoke: bool
    data: Path | None
    work: Path
    out: Path

    @property
    def device(self) -> str:
        """Where tensors are."""
        return "cpu" if self.smoke else "cuda"

    @property
    def images(self) -> list[str]:
        """Overrides: the zoo, where its images are, and where all is written."""
        here = [f"paths.root={self.work}", "logger=none"]
        if self.data is None:
            return ["zoo=digits_seed", *here]
        return ["zoo=mnist_seed", f"paths.system_data=[{self.data.resolve()}]", *here]


class Record:
    """What a section found, in a file that is whole at any moment."""

    def __init__(self, file: Path, about: dict[str, Any]) -> None:
        self.file, self.found = file, about

    def put(self, **found: Any) -> None:
        """Keep and print."""
        self.found |= found
        for name, value in found.items():
            print(f"  {name}: {json.dumps(value) if isinstance(value, dict | list) else value}", flush=True)
        write(self.file, json.dumps(self.found, indent=1, default=float))


def write(file: Path, text: str) -> None:
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, file)


def call(name: str, command: list[str], options: Options, limit: float) -> str:
    """The output of a command, run from the project's folder; it is kept in work/<name>.log.

    Raises:
        Failed: if its exit code is not 0, or it has not ended within `limit` seconds. It is interrupted then, so that it can
            keep what it has, and killed 20 seconds later.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "COLUMNS": "160"}
    file = options.work / f"{name}.log"
    with file.open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise Failed(f"{name}: stopped after {limit:.0f} s; it said: {tail(file)}") from None
    if process.returncode:
        raise Failed(f"{name}: exit code {process.returncode}; it said: {tail(file)}")
    return file.read_text(errors="replace")


def tail(file: Path, characters: int = 3000) -> str:
    """The end of a log."""
    return file.read_text(errors="replace").strip()[-characters:]


def run_py(name: str, overrides: list[str], options: Options, limit: float) -> float:
    """`python run.py` with these overrides; how many seconds it took."""
    began = time.monotonic()
    command = [
        sys.executable,
        str(ROOT / "run.py"),
        *overrides,
        *options.images,
        f"trainer={'cpu' if options.smoke else 'gpu'}",
    ]
    call(name, command, options, limit)
    return time.monotonic() - began


# ------------------------------------------------------------------------------------------ a: tests


def tests(record: Record, options: Options, budget: float) -> None:
    """pytest on what is marked `cuda`; in a smoke test on two of the tests of the torch engine instead."""
    results = options.work / "tests.xml"
    chosen = ["-m", "cuda", "tests/zoo"]
    if options.smoke:
        chosen = ["-k", "TestTorch and not Cuda and (onecycle or module)", "tests/zoo/test_engines.py"]
    # Without the options of pyproject.toml: pytest-xdist may not be there, and a file is not to stay in one process.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "--tb=short",
        "-o",
        "addopts=",
        "--continue-on-collection-errors",
        f"--junitxml={results}",
    ]
    parallel = ["-n", "4"] if not options.smoke and find_spec("xdist") else []
    trouble = None
    try:
        call("tests", [*command, *parallel, *chosen], options, budget)
    except Failed as failed:
        trouble = failed
    if results.exists():
        counts, failures = outcomes(results)
        record.put(**counts, failures=failures)
        if not counts["passed"]:
            trouble = trouble or Failed("no test was passed")
    if trouble:
        raise trouble


def outcomes(results: Path) -> tuple[dict[str, int], dict[str, str]]:
    """How many tests passed, failed and skipped, and what those that failed said, from pytest's XML."""
    counts, failures = {"passed": 0, "failed": 0, "skipped": 0}, {}
    for case in ElementTree.parse(results).iter("testcase"):
        trouble = [child for child in case if child.tag in ("failure", "error")]
        kind = "failed" if trouble else "skipped" if case.find("skipped") is not None else "passed"
        counts[kind] += 1
        if trouble:
            failures[f"{case.get('classname')}::{case.get('name')}"] = str(trouble[0].get("message"))[:600]
    return counts, failures


# ------------------------------------------------------------------------------------------ b: rates


def rates(record: Record, options: Options, budget: float) -> None:
    """How fast engine=torch trains CNN-s, and CNN-m if there is time, by lanes; then which kernels take the time."""
    end = time.monotonic() + budget
    troubles = []
    for arch in ("cnn_s", "cnn_m"):
        for lanes in (4, 8) if options.smoke else LANES:
            if time.monotonic() > end - 15 and record.found.keys() - {"about"}:
                break
            try:
                record.put(**{f"{arch}, {lanes} lanes": rate(arch, lanes, options)})
            except Exception:  # out of memory, say: others may still fit
                record.put(**{f"{arch}, {lanes} lanes": {"trouble": traceback.format_exc()}})
                troubles.append(f"{arch} with {lanes} lanes")
            release_memory(options)
    record.put(**{"kernels of cnn_s": kernels("cnn_s", 4 if options.smoke else LANES[-1], options)})
    if troubles:
        raise Failed(f"no rate of {', '.join(troubles)}")


def rate(arch_name: str, lanes: int, options: Options, seconds: float = 4.0) -> dict[str, float]:
    """Of one group of `lanes` models, batch 10, Adam, 50,000 training and 2 × 10,000 evaluation images, in float32."""
    import torch

    cuda = options.device == "cuda"
    seconds = seconds if cuda else 0.5
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    engine = engine_of(arch_name, lanes, options)
    found: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> None:
        synchronise(options)
        began = time.perf_counter()
        work()
        synchronise(options)
        found[what] = time.perf_counter() - began

    try:
        engine.start_epoch(1)  # loads what is loaded late
        timed("batch orders, s", lambda: engine.start_epoch(1))
        (group,) = engine.groups
        timed("first step, s", group.train_step)
        timed("ten steps, no graph, s", lambda: [group.train_step() for _ in range(10)])
        timed("recording, s", lambda: engine.train(0, 1))
        steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds and steps + 120 < engine.steps_per_epoch:
            engine.train(steps, steps + 50)
            synchronise(options)
            steps += 50
        step = (time.perf_counter() - began) / steps
        engine.evaluate(engine.data.val)
        timed("evaluation of 10,000, s", lambda: engine.evaluate(engine.data.val))
        finite = bool(torch.isfinite(group.weights).all())
    finally:
        engine.close()
    epoch = engine.steps_per_epoch * step + found["batch orders, s"] + 2 * found["evaluation of 10,000, s"]
    found |= {
        "step, µs": 1e6 * step, "models × steps/s": lanes / step, "epoch, s": epoch, "models × epochs/s": lanes / epoch,
        "graph over none": found["ten steps, no graph, s"] / 10 / step, "all weights finite": finite,
    }  # fmt: skip
    if cuda:
        found["memory at most, GiB"] = torch.cuda.max_memory_allocated() / 2**30
        found["memory reserved at most, GiB"] = torch.cuda.max_memory_reserved() / 2**30
    return {name: round(value, 6) for name, value in found.items()}


def engine_of(arch_name: str, lanes: int, options: Options) -> Any:
    """engine=torch with one full group of models, loaded."""
    from population import architecture, images, rows

    from zoo.engines.engine import Protocol, initial_population
    from zoo.engines.make import engine_class

    arch = architecture(arch_name)
    train, rest = (2000, 100) if options.smoke else (50_000, 10_000)
    data = images(arch.image, train)
    few = replace(data.val, pixels=data.val.pixels[:rest], labels=data.val.labels[:rest])
    data = replace(data, val=few, test=few)
    models = rows(lanes, "tanh", 0.0)
    engine = engine_class("torch")(
        arch, models, data, Protocol(10, MOST_EPOCHS, "constant"), options.device, lanes=lanes
    )
    engine.load(initial_population(arch, models))
    return engine


def synchronise(options: Options) -> None:
    """Wait for the device."""
    import torch

    if options.device == "cuda":
        torch.cuda.synchronize()


def release_memory(options: Options) -> None:
    """Give the device back what PyTorch keeps for this process: others want it."""
    import torch

    if options.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def kernels(arch_name: str, lanes: int, options: Options, steps: int = 3) -> dict[str, float]:
    """The ten kernels that most of a step's time goes to, without CUDA graph: µs a step each."""
    from torch.profiler import ProfilerActivity, profile

    engine = engine_of(arch_name, lanes, options)
    try:
        engine.start_epoch(1)
        (group,) = engine.groups
        group.train_step()
        synchronise(options)
        with profile(activities=[ProfilerActivity.CPU if options.smoke else ProfilerActivity.CUDA]) as profiler:
            for _ in range(steps):
                group.train_step()
            synchronise(options)
    finally:
        engine.close()
    kind = "self_cpu_time_total" if options.smoke else "self_device_time_total"
    spent = {event.key[:120]: getattr(event, kind) / steps for event in profiler.key_averages()}
    first = sorted(spent, key=spent.__getitem__, reverse=True)[:10]
    return {"all": round(sum(spent.values()), 1), **{name: round(spent[name], 1) for name in first}}


# ------------------------------------------------------------------------------------------ c: a zoo


def zoo(record: Record, options: Options, budget: float) -> None:
    """Two epochs first, which tell how long one takes; then as many as fit, of the same models."""
    end = time.monotonic() + budget
    measured = json.loads((options.out / "b.json").read_text()) if (options.out / "b.json").exists() else {}
    models, lanes, epochs = (8, 4, 4) if options.smoke else plan(SPARE * (budget - 30), epoch_seconds(measured))
    if options.data is None and not options.smoke:
        record.put(images="no MNIST was given (--data): scikit-learn's digits, whose 1,797 images say little of speed")
    size = [f"zoo.models={models}", "engine=torch", f"engine.lanes={lanes}"]
    begun = 1 if options.smoke else 2
    record.put(models=models, lanes=lanes, planned_epochs=epochs)
    whole = run_py("zoo-begun", [*size, f"zoo.epochs={begun}"], options, end - time.monotonic())
    epoch = seconds_an_epoch(options.work)
    start = max(0.0, whole - begun * epoch)
    record.put(**scores_of_zoo(options), **{"seconds an epoch": epoch, "seconds of starting and ending": start})
    fit = begun + int((SPARE * (end - time.monotonic()) - start) / epoch)
    epochs = epochs if options.smoke else min(fit, MOST_EPOCHS)
    if epochs > begun:
        seconds = run_py("zoo", [*size, f"zoo.epochs={epochs}"], options, end - time.monotonic())
        record.put(**scores_of_zoo(options))
        record.put(**{
            "models × epochs/s, all of run.py": models * (epochs - begun) / seconds,
            "models × epochs/s": models / seconds_an_epoch(options.work),
        })  # fmt: skip
    damaged = open_zoo(options).verify()
    record.put(damaged_files=damaged)
    if damaged:
        raise Failed(f"the finished zoo does not verify: {damaged}")


def epoch_seconds(measured: dict[str, Any]) -> dict[int, float]:
    """Seconds an epoch of a group takes, by its lanes, as section b has measured it for CNN-s; a guess without it."""
    known = {
        int(name.split()[1]): found["epoch, s"]
        for name, found in measured.items()
        if name.startswith("cnn_s, ") and "epoch, s" in found
    }
    return known or {128: 20.0}


def plan(budget: float, seconds: dict[int, float]) -> tuple[int, int, int]:
    """Models, lanes and epochs of the largest zoo that `budget` seconds of training allow, in whole groups of lanes.

    Args:
        budget: seconds.
        seconds: that an epoch of a group takes, by its lanes.

    Returns:
        `EPOCHS` epochs of as many models as fit, at most `MOST_MODELS`; where not even one group does, fewer epochs of one.
    """
    choices = []
    for lanes, epoch in seconds.items():
        groups = min(int(budget / (EPOCHS * epoch)), -(-MOST_MODELS // lanes))
        if groups:
            choices.append((min(groups * lanes, MOST_MODELS), lanes, EPOCHS))
        else:
            choices.append((lanes, lanes, max(1, int(budget / epoch))))
    return max(choices, key=lambda choice: (choice[2] == EPOCHS, choice[0] * choice[2]))


def open_zoo(options: Options) -> Any:
    """The zoo of section c."""
    from zoo import Zoo

    (path,) = (options.work / "zoos").glob("*_seed")
    return Zoo.open(path)


def seconds_an_epoch(work: Path) -> float:
    """Of all models together, from the times at which the blocks' last two epochs were committed."""
    total = 0.0
    for block in (work / "zoos").glob("*_seed/weights/*/"):
        times = [file.stat().st_mtime for file in sorted(block.glob("epoch-*.safetensors"))[-2:]]
        total += times[1] - times[0]
    return total


def scores_of_zoo(options: Options) -> dict[str, Any]:
    """Test accuracy by epoch, in percent: mean and standard deviation over models."""
    found = open_zoo(options)
    of = (100 * found.metrics["test_acc"]).groupby(found.metrics["epoch"])
    spread = {int(e): f"{m:.2f} ± {s:.2f}" for e, m, s in zip(of.mean().index, of.mean(), of.std(ddof=0), strict=True)}
    diverged = int((found.models["status"] == "diverged").sum())
    return {"test accuracy by epoch, %": spread, "diverged models": diverged}


# ------------------------------------------------------------------------------------------ d: samplers


def samplers(record: Record, options: Options, budget: float) -> None:
    """Train the published autoencoder with and without layer-wise loss normalisation, as long as the time allows; sample."""
    end = time.monotonic() + budget
    if not (options.work / "zoos").exists():
        raise Failed("section c made no zoo: run it in the same call")
    found = open_zoo(options)
    last = found.epochs[-1]
    states = [epoch for epoch in (range(21, 26) if last >= 25 else range(last - 4, last + 1)) if epoch > 0]
    base = [
        f"zoo.models={found.n_models}", f"zoo.epochs={last}", "autoencoder=published", f"autoencoder.states={states}",
        *(TOY if options.smoke else []),
    ]  # fmt: skip
    record.put(states=states, models=found.n_models)
    step = step_seconds(base, options)
    release_memory(options)
    record.put(**{"a training step": step})
    for i, normalise in enumerate((True, False)):
        train = (end - time.monotonic()) / (2 - i) - SAMPLING
        precision = "float32" if options.smoke or step["epoch, s, float32"] * 500 < SPARE * train else "bf16"
        epochs = min(500, max(1, int(SPARE * (train - 15) / step[f"epoch, s, {precision}"])))
        epochs = 2 if options.smoke else epochs
        name = "published" if normalise else "published_unnormalised"
        own = [
            *base, f"autoencoder.name={name}", f"autoencoder.loss.normalise={normalise}",
            f"autoencoder.optimizer.epochs={epochs}", f"autoencoder.optimizer.bf16={precision == 'bf16'}",
        ]  # fmt: skip
        seconds = run_py(name, ["task=hyperrep", *own], options, end - time.monotonic())
        record.put(
            **{name: {"epochs": epochs, "precision": precision, "seconds": seconds, **reconstruction(name, options)}}
        )
        drawn = ["task=sample", f"sampler={','.join(SAMPLERS)}", f"population.models={10 if options.smoke else 100}"]
        run_py(f"{name}-samples", ["-m", *own, *drawn], options, end - time.monotonic())
        record.put(**{f"{name}, samplers": audits(name, options)})


def step_seconds(base: list[str], options: Options, steps: int = 3) -> dict[str, float]:
    """How long a training step of the autoencoder takes in float32 and with products in bfloat16, and its work."""
    import torch
    from hydra import compose, initialize_config_dir
    from torch.utils.flop_counter import FlopCounterMode

    import run
    from hyperrep.models.module import AutoencoderModule
    from hyperrep.states import read_states
    from run import CONFIG_DIR
    from zoo.config.reading import read_config
    from zoo.networks.architecture import Architecture
    from zoo.training.opening import read_images

    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = read_config(compose("config", [*options.images, *base]), run.Config)
    stored, images = open_zoo(options), read_images(config)
    arch = Architecture.from_dict(stored.description["arch"])
    states = read_states(stored, config.autoencoder, options.work, images)
    module = AutoencoderModule(config.autoencoder, arch, states, images, config.engine, options.work)
    module.to(options.device)
    module.on_fit_start()
    module.moments = {}
    optimizer, batch = module.configure_optimizers(), config.autoencoder.optimizer.batch_size
    rows = module.train_weights[torch.arange(batch, device=options.device) % len(module.train_weights)]

    def work(bf16: bool) -> None:
        optimizer.zero_grad()
        with torch.autocast(options.device, torch.bfloat16, enabled=bf16):
            loss = module.losses(rows, ["tanh"] * batch, 0.0)["loss"]
        loss.backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        work(False)
    found: dict[str, float] = {"TFLOP": counter.get_total_flops() / 1e12, "steps an epoch": module.steps}
    for name, bf16 in (("float32", False), ("bf16", True)):
        work(bf16)
        synchronise(options)
        began = time.perf_counter()
        for _ in range(steps):
            work(bf16)
        synchronise(options)
        second = (time.perf_counter() - began) / steps
        found |= {f"step, s, {name}": second, f"TFLOP/s, {name}": found["TFLOP"] / second}
        found[f"epoch, s, {name}"] = second * module.steps
    if options.device == "cuda":
        found["memory at most, GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return {name: round(value, 6) for name, value in found.items()}


def reconstruction(name: str, options: Options) -> dict[str, str]:
    """Accuracy of originals and reconstructions, and R², by split."""
    import pandas as pd

    (file,) = (options.work / "hyperreps").glob(f"*/{name}/results.csv")
    table = pd.read_csv(file).groupby("split")[["accuracy", "reconstructed", "r2"]].mean()
    return {
        str(split): f"originals {100 * a:.1f} %, reconstructions {100 * r:.1f} %, R² {r2:.3f}"
        for split, a, r, r2 in table.itertuples()
    }


def audits(name: str, options: Options) -> dict[str, dict[str, Any]]:
    """What the audit of each population says."""
    import pandas as pd

    found = {}
    for sampler in SAMPLERS:
        (file,) = (options.work / "audits").glob(f"*_seed_{name}_{sampler}_*.csv")
        found[sampler] = json.loads(pd.read_csv(file).iloc[0].drop(["about", "population"]).to_json())
    return found


# ------------------------------------------------------------------------------------------ all of it


@dataclass(frozen=True)
class Section:
    """Its title, what does it, and its share of the time (of that which is left, beside those after it)."""

    title: str
    work: Callable[[Record, Options, float], None]
    share: float


SECTIONS = {
    "a": Section("tests that need CUDA", tests, 20),
    "b": Section("rates of engine=torch", rates, 14),
    "c": Section("a zoo by run.py", zoo, 32),
    "d": Section("the published autoencoder and its samplers", samplers, 34),
}


def about(commit: str | None) -> dict[str, str]:
    """Machine, GPU, versions, commit and date."""
    import torch

    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    gpu = "none"
    if torch.cuda.is_available():
        of = torch.cuda.get_device_properties(0)
        gpu = f"{of.name}, {of.total_memory / 2**30:.0f} GiB, {of.multi_processor_count} multiprocessors"
    return {
        "machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "gpu": gpu,
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}",
        "commit": commit or found.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def summary(out: Path, of: dict[str, str]) -> str:
    """What all sections have found so far, to read."""
    lines = ["# On a GPU", "", *(f"- {name}: {value}" for name, value in of.items())]
    for letter, section in SECTIONS.items():
        file = out / f"{letter}.json"
        if not file.exists():
            continue
        found = json.loads(file.read_text())
        lines += ["", f"## {letter}: {section.title}", ""]
        for name, value in found.items():
            if name == "about":
                continue
            if not isinstance(value, dict):
                text = str(value).strip()
                lines += [f"- {name}: {text}" if "\n" not in text else f"- {name}:\n\n```\n{text}\n```"]
            elif value and all(isinstance(row, dict) for row in value.values()):
                columns = list(next(iter(value.values())))
                lines += table([name, *columns], [[k, *map(row.get, columns)] for k, row in value.items()])
            elif value:
                lines += table([name, ""], value.items())
    return "\n".join(lines) + "\n"


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> list[str]:
    """The lines of a Markdown table."""

    def line(cells: Iterable[Any]) -> str:
        shown = (f"{cell:.4g}" if isinstance(cell, float) else " ".join(str(cell).split()) for cell in cells)
        return "| " + " | ".join(shown) + " |"

    head = list(head)
    return ["", line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HYPERZOO_TEST_DATA"), help="folder with MNIST")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, e.g. a,b")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "gpu", help="for what is found")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "outputs" / "gpu_work", help="for zoo, autoencoders and logs"
    )
    parser.add_argument("--commit", help="to record where git does not tell")
    parser.add_argument("--smoke", action="store_true", help="toy scale, on the CPU")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := [letter for letter in chosen if letter not in SECTIONS]:
        parser.error(f"--only: there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if given.data and not given.smoke and not list(given.data.glob("*images*idx3*")):
        parser.error(f"--data: {given.data} holds no train-images-idx3-ubyte, plain or .gz")
    end = time.monotonic() + 60 * given.minutes
    if given.smoke:  # so small that threads only get in each other's way
        os.environ["OMP_NUM_THREADS"] = "1"
    of = about(given.commit)
    if of["gpu"] == "none" and not given.smoke:
        parser.error("PyTorch finds no CUDA device on this machine; --smoke tries the script on the CPU")
    work = (given.work / time.strftime("%Y-%m-%d_%H-%M-%S")).resolve()  # of this run: a zoo that is there takes no time
    options = Options(given.smoke, None if given.smoke else given.data, work, given.out.resolve())
    options.work.mkdir(parents=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for letter in SECTIONS:
        (options.out / f"{letter}.json").unlink(missing_ok=True)
    print("; ".join(of.values()), flush=True)
    failed = []
    for i, letter in enumerate(chosen):
        section, left = SECTIONS[letter], end - time.monotonic()
        budget = left * section.share / sum(SECTIONS[other].share for other in chosen[i:])
        print(f"\n{letter}: {section.title}, at most {budget:.0f} s", flush=True)
        record, began = Record(options.out / f"{letter}.json", {"about": of}), time.monotonic()
        try:
            section.work(record, options, budget)
        except Failed as failure:
            failed.append(letter)
            record.put(failed=str(failure))
        except Exception:
            failed.append(letter)
            record.put(failed=traceback.format_exc())
        record.put(**{"seconds": round(time.monotonic() - began, 1)})
        write(options.out / "gpu.md", summary(options.out, of))
    print(f"\nWritten to {options.out}; failed: {', '.join(failed) or 'none'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
