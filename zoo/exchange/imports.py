"""`task=import source=DIR`: a published zoo, as it was downloaded, becomes a zoo of this store.

Every trial becomes a model, in the order of their numbers. What cannot be read (a state that is damaged, missing or refused, a
line that result.json lacks) is NaN in the zoo, and listed in <root>/imports/<zoo>.csv and at the end: nothing is skipped.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from zoo.base.console import console
from zoo.base.errors import UserError
from zoo.base.files import write_file
from zoo.base.names import FACTORS, NAMED_FACTORS, SCORES, SPLITS, WEIGHT_MAX_ABS, WHOLE
from zoo.base.versions import versions
from zoo.config.combinations import architecture
from zoo.config.recorded import command
from zoo.config.sections import Config
from zoo.exchange.raw import Trial, epochs_in_words, find_trials, take_accuracies
from zoo.exchange.raw_states import begin_reading, is_variational, read_optimizer, read_state, read_states, vectors
from zoo.exchange.zenodo import download_zoo, is_zenodo, zenodo_problems
from zoo.networks.architecture import Architecture
from zoo.networks.layers import ACTIVATIONS
from zoo.store.block import Block
from zoo.store.stored import CLASS_ACCURACY
from zoo.store.writer import create_zoo, drop_damaged_manifest, finalise
from zoo.store.zoo import Zoo
from zoo.training.accuracy_check import MOST_APART, accuracies_apart
from zoo.training.opening import read_images
from zoo.training.progress import PopulationProgress
from zoo.training.sparsify import store_masked
from zoo.training.spec import deal_splits
from zoo.training.states import training_protocol
from zoo.training.summary import print_summary
from zoo.training.train import MODELS_ON_CPU

STATES_AT_ONCE = 25  # that a process reads before it hands them over
SHOWN = 10  # problems that are printed
FEW = 0.1  # of the trials: epochs that fewer of them have are no part of the zoo
AHEAD = 2  # times the last epoch that two trials have: beyond it, the epochs of one alone are no part of the zoo
TOLD = ("train_loss", "train_acc", "test_loss", "test_acc")  # by every published zoo


def import_problems(config: Config) -> list[str]:
    """What forbids task=import, a sentence each."""
    source = config.source
    if source is None:
        return ["source: is missing; give a folder, or zenodo: task=import zoo=mnist_seed source=DIR"]
    if is_zenodo(source):
        return zenodo_problems(_preset(config), source)
    return [] if Path(source).is_dir() else [f"source: {source} is not a folder"]


def import_zoo(config: Config) -> None:
    """Import the trials under `source` as the zoo of a config, and check some of them on its images.

    Raises:
        UserError: if there are none, or they are of another architecture than the config's.
    """
    trials, others = find_trials(_folder(config))
    trials = trials[: config.zoo.models]
    config, arch = _first(config, trials)
    if take_accuracies(trials):
        console.print("Accuracies of result.json are in percent: they become shares.", highlight=False)
    path = Path(config.paths.root) / "zoos" / config.zoo.name
    drop_damaged_manifest(path)
    if (path / "zoo.json").exists() and not Zoo.open(path).imported:
        raise UserError(
            f"zoo {config.zoo.name!r} in {path} was made here, not imported: choose another zoo.name or paths.root"
        )
    models, problems = models_of(trials, config)
    problems |= {name: ["is no part of a published zoo"] for name in others}
    zoo = create_zoo(path, describe(config, arch, last_epoch(trials), trials), models)
    epochs = zoo.epochs[-1]
    workers = config.engine.threads or os.cpu_count() or 1
    with PopulationProgress(models, epochs, "importing") as progress, reader(workers) as read:
        for block in zoo.blocks(config.zoo.block_size or (1 if arch.is_module else MODELS_ON_CPU)):
            with block:
                progress.skip(block)
                store_block(block, [trials[i] for i in block.models], arch, read, progress)
    finalise(zoo)
    zoo = Zoo.open(path, config.arch.module)
    for trial, found in zip(trials, _problems(zoo, trials, arch)):
        problems.setdefault(trial.name, []).extend(found)
    print_summary(zoo)
    if arch.variational:
        store_masked(zoo)
    _report(config, problems)
    _check_accuracy(config, zoo)


def last_epoch(trials: list[Trial]) -> int:
    """The last epoch of a zoo, so that a stray one makes no zoo of NaN: a tenth of the trials have it, and it is not far ahead of
    all but one of them."""
    counts = Counter(epoch for trial in trials for epoch in trial.states)
    far = AHEAD * max((epoch for epoch, n in counts.items() if n > 1), default=max(counts)) + 1
    return max(
        (epoch for epoch, n in counts.items() if n >= FEW * len(trials) and (n > 1 or epoch <= far)), default=far
    )


def _folder(config: Config) -> Path:
    """Where the trials lie, once they are downloaded."""
    source = config.source or ""
    return download_zoo(_preset(config), source, Path(config.paths.data)) if is_zenodo(source) else Path(source)


def _preset(config: Config) -> str:
    """What the command line calls the zoo: its own name may be another one."""
    named = (word.removeprefix("zoo=") for word in config.overrides if word.startswith("zoo="))
    return next(named, config.zoo.name)


def _first(config: Config, trials: list[Trial]) -> tuple[Config, Architecture]:
    """The config and its architecture; those of a sparsified twin, if the first state that fits is one."""
    damaged = strange = ""  # the first of each
    for trial in trials:
        for _, file in sorted(trial.states.items()):
            try:
                state = read_state(file, architecture(config))
            except UserError as error:
                damaged = damaged or f"{trial.name}: {error}"
                continue
            chosen = config
            if is_variational(state):
                arch, zoo = dataclasses.replace(config.arch, variational=True), dataclasses.replace(config.zoo)
                zoo.name = f"{config.zoo.name.removesuffix('_vd')}_vd"
                chosen = dataclasses.replace(config, arch=arch, zoo=zoo)
            try:
                vectors(state, architecture(chosen))
            except UserError as error:
                strange = (
                    strange or f"{trial.name} is no model of zoo={_preset(config)}: {error}; choose the zoo= it is"
                )
                break  # a stranger among the trials, or all are
            return chosen, architecture(chosen)
    raise UserError(f"source: none of its states can be used; {strange or damaged or 'there is none'}")


def models_of(trials: list[Trial], config: Config) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The models of trials, a row each, and what is wrong with them, by trial.

    A factor that a trial does not name is that of the config's grid, if there is one value only. The split is that which
    task=export wrote; else they are dealt as for a zoo of ours.
    """
    rows, problems = [], {}
    dealt = deal_splits(len(trials), config.zoo.split_seed)
    for i, trial in enumerate(trials):
        known = dict(trial.params)
        for name in NAMED_FACTORS:
            if known.get(name) is not None:
                known[name] = known[name].lower()
        missing = [name for name in ("seed", *FACTORS) if name not in known]
        for name in FACTORS:
            values = getattr(config.zoo.grid, name)
            known.setdefault(name, values[0] if len(values) == 1 else None)
        unknown = [name for name in missing if known.get(name) is None]
        if known["activation"] is not None and known["activation"] not in ACTIVATIONS:
            unknown.append(f"activation (got {known['activation']!r})")
        if unknown:
            problems[trial.name] = [f"params.json does not tell {', '.join(unknown)}"]
        split = known["split"] if known.get("split") in SPLITS else dealt[i]
        numbers = {
            name: float("nan" if known[name] is None else known[name]) for name in ("lr", "weight_decay", "dropout")
        }
        row = (
            {"model_id": i, "seed": -1 if known.get("seed") is None else int(known["seed"])}
            | {name: known[name] for name in FACTORS}
            | numbers
        )
        rows.append(row | {"split": split, "trial": trial.name})
    return pd.DataFrame(rows).astype({"seed": np.int64, "model_id": np.int64}), problems


def describe(config: Config, arch: Architecture, last: int, trials: list[Trial]) -> dict[str, Any]:
    """What zoo.json records of an imported zoo: what is known of it."""
    spec: dict[str, Any] = {"kind": "imported", "trials": "raw layout of the published zoos"}
    sparse = list(arch.sparsity(torch.zeros(1, arch.n_parameters))) if arch.variational else []
    if arch.variational:
        spec["start"] = {"zoo": config.zoo.name.removesuffix("_vd")}
    protocol = training_protocol(config)
    ours = any("split" in trial.params for trial in trials)  # which only task=export writes
    about = "Imported from the raw layout." + ("" if ours else " Trained by others, with the published code.")
    if arch.variational and not ours:
        about += " Losses have the weighted divergence of variational dropout in them."  # as their code has it
    published = config.zoo.published
    batch_sizes = Counter(trial.params.get("batch_size") or protocol.batch_size for trial in trials)
    usual = int(batch_sizes.most_common(1)[0][0])
    return {
        "name": config.zoo.name,
        "about": about,
        "published": f"the sparsified twin of {published}" if published and arch.variational else published,
        "license": config.zoo.license or (None if ours else "CC-BY-4.0"),  # as all that are published
        "spec": spec,
        "protocol": {"batch_size": usual, "schedule": protocol.schedule, "loss": "cross_entropy"},
        "arch": arch.to_dict(),
        "dataset": {
            "name": config.dataset.name,
            "title": config.dataset.title,
            "fingerprint": None,  # nobody knows which images exactly
            "protocol": config.arch.protocol,
            "train_size": config.dataset.train_size,
        },
        "engine": {"name": "imported"},
        "epochs": last,
        "metrics": [*SCORES, *sparse, *(name for name in further_metrics(trials) if name not in sparse), WHOLE],
        "versions": versions(),
        "command": command(config, "task", "source").replace("run.py", "run.py task=import source=DIR"),
    }


# ------------------------------------------------------------------------------------------------ reading states

Files = list[Path | None]  # the states of some models at an epoch; None: there is none
States = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # weights and buffers, float32 [models, values]; which are there, bool


@contextmanager
def reader(processes: int) -> Iterator[Callable[[Sequence[Files], Architecture], Iterator[States]]]:
    """What reads one epoch after the other, some ahead: in processes of their own, because reading keeps Python busy."""
    if processes == 1:
        yield lambda epochs, arch: (read_states(files, arch.to_dict()) for files in epochs)
        return
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawned, begin_reading) as pool:

        def read(epochs: Sequence[Files], arch: Architecture) -> Iterator[States]:
            ahead: deque[list[Future[States]]] = deque()
            for files in epochs:
                parts = [files[i : i + STATES_AT_ONCE] for i in range(0, len(files), STATES_AT_ONCE)]
                ahead.append([pool.submit(read_states, part, arch.to_dict()) for part in parts])
                if len(ahead) > processes:
                    yield _joined(ahead.popleft())
            while ahead:
                yield _joined(ahead.popleft())

        yield read


def _joined(parts: list[Future[States]]) -> States:
    weights, buffers, there = zip(*(part.result() for part in parts))
    return np.concatenate(weights), np.concatenate(buffers), np.concatenate(there)


def store_block(
    block: Block,
    trials: list[Trial],
    arch: Architecture,
    read: Callable[[Sequence[Files], Architecture], Iterator[States]],
    progress: PopulationProgress,
) -> None:
    """Read the missing epochs of a block's trials, and commit them."""
    names = [name for name in block.zoo.description["metrics"] if name not in (WEIGHT_MAX_ABS, WHOLE)]
    pending = block.pending
    files = [[trial.states.get(epoch) for trial in trials] for epoch in pending]
    for epoch, (weights, buffers, there) in zip(pending, read(files, arch)):
        metrics = _metrics(trials, epoch, weights, arch, names)
        metrics[WHOLE] = there & np.array([_tells_losses(trial.results.get(epoch, {})) for trial in trials])
        state = {"weights": weights} | ({"buffers": buffers} if arch.n_buffers else {})
        last = epoch == block.zoo.epochs[-1]  # which alone has its optimiser state kept
        optimizer = _optimizers(trials, epoch, arch) if last else {"step": np.zeros(len(trials), np.int64)}
        block.commit(epoch, state, metrics, optimizer)
        progress.advance(block, 1)
        known = metrics["test_acc"][np.isfinite(metrics["test_acc"])]
        progress.committed(block, float(known.mean()) if len(known) else float("nan"))


def _optimizers(trials: list[Trial], epoch: int, arch: Architecture) -> dict[str, np.ndarray]:
    """The optimiser states after an epoch: `step` int64 [models] and, where task=export wrote any, their moments [models,
    parameters]; 0 for models without."""
    found: dict[str, np.ndarray] = {"step": np.zeros(len(trials), np.int64)}
    for i, trial in enumerate(trials):
        with suppress(UserError):  # told in the end
            for name, values in _optimizer(trial, epoch, arch).items():
                found.setdefault(name, np.zeros((len(trials), arch.n_parameters), np.float32))[i] = values
    return found


def _optimizer(trial: Trial, epoch: int, arch: Architecture) -> dict[str, np.ndarray]:
    """What task=export wrote of a trial's optimiser; that of others is not read. Raises as `read_optimizer`."""
    file = trial.states[epoch].with_name("optimizer") if epoch in trial.states else None
    ours = "split" in trial.params
    return read_optimizer(file, arch) if ours and file is not None and file.is_file() else {}


def further_metrics(trials: list[Trial]) -> list[str]:
    """The scores that task=export writes beside the published ones."""
    row: dict[str, float] = next((line for trial in trials for line in trial.results.values()), {})
    return [
        name
        for name in row
        if re.fullmatch(rf"train_eval_(loss|acc)|{CLASS_ACCURACY}\d+|sparsity(_(?!ratio).+)?", name)
    ]


def _metrics(
    trials: list[Trial], epoch: int, weights: np.ndarray, arch: Architecture, names: list[str]
) -> dict[str, np.ndarray]:
    rows = [trial.results.get(epoch, {}) for trial in trials]
    found = {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
    if arch.variational:
        finite = np.isfinite(weights).all(axis=1)
        shares = arch.sparsity(torch.tensor(weights))
        found |= {name: np.where(finite, share.numpy(), np.nan) for name, share in shares.items()}
    return found


def _tells_losses(row: dict[str, float]) -> bool:
    """Whether a line of result.json has both losses. NaN is a loss beside an accuracy; without, nothing was measured."""
    pairs = ((row.get(f"{part}_loss"), row.get(f"{part}_acc", np.nan)) for part in ("train", "test"))
    return all(loss is not None and not (np.isnan(loss) and np.isnan(accuracy)) for loss, accuracy in pairs)


# ------------------------------------------------------------------------------------------------ telling


def _problems(zoo: Zoo, trials: list[Trial], arch: Architecture) -> list[list[str]]:
    """What is wrong with each trial, now that all are stored: a sentence each."""
    metrics = zoo.metrics
    lost = metrics[~np.isfinite(metrics["weight_max_abs"])].groupby("model_id")["epoch"].apply(list)
    found = []
    for i, trial in enumerate(trials):
        own = [] if trial.states else ["there are no checkpoints"]
        if trial.states and (lacking := [epoch for epoch in zoo.epochs if epoch not in trial.states]):
            own.append(f"there is no checkpoint of {epochs_in_words(lacking)}")
        if beyond := [epoch for epoch in sorted({*trial.states, *trial.results}) if epoch > zoo.epochs[-1]]:
            own.append(f"{epochs_in_words(beyond)} left out: hardly any other model has it")
        for epoch in lost.get(i, []):  # unreadable, or the network diverged
            if epoch not in trial.states:
                continue
            try:
                weights, _ = vectors(read_state(trial.states[epoch], arch), arch)
                again = f"can be read now, but could not when it was imported: delete {zoo.path} and import again"
                own.append(f"epoch {epoch}: {again if np.isfinite(weights).all() else 'weights are not finite'}")
            except UserError as error:
                own.append(f"epoch {epoch}: {error}")
        try:
            _optimizer(trial, zoo.epochs[-1], arch)
        except UserError as error:
            own.append(str(error))
        if lacking := [epoch for epoch in zoo.epochs if epoch not in trial.results]:
            own.append(f"result.json has no line for {epochs_in_words(lacking)}")
        for name in TOLD:
            values = {epoch: row.get(name, np.nan) for epoch, row in trial.results.items() if epoch in zoo.epochs}
            if lacking := [epoch for epoch, value in values.items() if np.isnan(value)]:
                own.append(f"result.json has no {name} of {epochs_in_words(lacking)}")
        found.append(trial.problems + own)
    return found


def _report(config: Config, problems: dict[str, list[str]]) -> None:
    lines = [(name, problem) for name, own in problems.items() for problem in own]
    folder = Path(config.paths.root) / "imports"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{config.zoo.name}.csv"
    write_file(file, pd.DataFrame(lines, columns=["trial", "problem"]).to_csv(index=False).encode())
    if not lines:
        console.print("Everything could be read.", highlight=False)
        return
    told = "1 thing is" if len(lines) == 1 else f"{len(lines)} things are"
    console.print(f"{told} not as expected ({file}):", highlight=False, soft_wrap=True, markup=False)
    for name, problem in lines[:SHOWN]:  # names of folders have brackets, which are no markup
        console.print(f"- {name}: {problem}", highlight=False, soft_wrap=True, markup=False)
    if len(lines) > SHOWN:
        console.print(f"- and {len(lines) - SHOWN} more", highlight=False)


def _check_accuracy(config: Config, zoo: Zoo) -> None:
    """Measure the test accuracy of some models again, and tell how far it is from the one in result.json."""
    try:
        data = read_images(config).to(config.trainer.device)
    except UserError as error:
        console.print(f"Accuracies were not checked: {str(error).splitlines()[0]}", highlight=False, soft_wrap=True)
        return
    apart = accuracies_apart(config, zoo, data)
    if not len(apart):
        return
    told = f"{len(apart)} models on the test images of {config.dataset.title}: accuracies of result.json"
    if apart.max() <= MOST_APART:
        console.print(
            f"Checked {told} are right (at most {100 * apart.max():.2f} % apart).", highlight=False, soft_wrap=True
        )
    else:
        console.print(
            f"Checked {told} are up to {100 * apart.max():.1f} % off: these are other images than the zoo's, or "
            "they were prepared in another way.",
            style="bold", highlight=False, soft_wrap=True,
        )  # fmt: skip
